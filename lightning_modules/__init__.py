"""The one LightningModule."""

from lightning_modules.image_classifier import ImageClassifier

__all__ = ["ImageClassifier"]
