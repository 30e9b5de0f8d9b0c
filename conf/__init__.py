"""The configuration of firstread: Hydra yaml files, their typed schema and the command line's manners."""
