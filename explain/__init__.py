"""Heat maps with their checks, and image corruptions: what a network looks at, and what it withstands."""
