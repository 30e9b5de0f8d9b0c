"""Training speed of firstread beside the network alone and beside what a user would write: ``python -m benchmarks.speed``."""
