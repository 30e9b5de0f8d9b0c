"""Networks as plain PyTorch modules, without Lightning."""
