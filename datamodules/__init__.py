"""From a folder of images to batches: manifest, splits, decoded cache and the LightningDataModule."""
