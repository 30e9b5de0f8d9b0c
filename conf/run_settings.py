"""From the composed configuration to the plain values that a run works with, and back to its config.yaml."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from conf.schema import Config


def overrides() -> list[str]:
    """What was typed on the command line (of this run of a sweep); empty outside Hydra."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def plain_settings(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """The configuration as plain values with absolute paths; of a resumed run, the one it was started with.

    Args:
        cfg: composed, typed by the schema. ``resume`` says whether ``folder`` holds a run to go on with.
        folder: of the run.
    """
    if cfg.resume:
        stored = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(folder / "config.yaml"))
        stored.trainer.progress_bar = cfg.trainer.progress_bar
        given = {item.lstrip("+").partition("=")[0] for item in overrides()}
        if "trainer.max_epochs" in given:
            stored.trainer.max_epochs = cfg.trainer.max_epochs
        for name in ("root", "prepared"):  # the data may lie elsewhere now; their hashes are compared all the same
            if f"data.{name}" in given:
                stored.data[name] = cfg.data[name]
        cfg = cast(DictConfig, stored)
    settings = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    for name in ("root", "prepared"):
        settings["data"][name] = str(Path(settings["data"][name]).expanduser().resolve())
    settings["resume"] = None
    return settings


def save_settings(settings: dict[str, Any], path: Path) -> None:
    """Write config.yaml as a whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    OmegaConf.save(OmegaConf.create(settings), beside)
    os.replace(beside, path)
