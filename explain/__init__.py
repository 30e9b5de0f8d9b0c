"""Grad-CAM and image corruptions: what a network looks at, and what it withstands."""
