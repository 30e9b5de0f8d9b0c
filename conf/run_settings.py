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


def plain_settings(cfg: DictConfig, folder: Path | None = None) -> dict[str, Any]:
    """The configuration as plain values with absolute paths and the classes of the chosen label policy.

    Args:
        cfg: composed, typed by the schema.
        folder: of the run; where ``resume`` is set, the configuration that this run was started with is returned.
    """
    if cfg.resume and folder is not None:
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
    task = settings["task"]
    if task["labels"] in task["policies"]:
        policy = task["policies"][task["labels"]]
        task.update(classes=list(policy["classes"]), positive=list(policy["positive"]))
        task["title"] = policy["title"] or task["title"]
    elif settings["data"]["source"] == "phantom" and not task["classes"]:
        task.update(classes=["benign", "malignant"], positive=["malignant"])  # what the phantom lesions are
    if len(task["classes"]) == 2:
        task.update(positive_name="", negative_name="")  # of two classes, each has its own name
    if settings["split"]["file"] is not None:
        settings["split"]["file"] = str(Path(settings["split"]["file"]).expanduser().resolve())
    return settings


def in_words(imbalance: dict[str, Any]) -> str:
    """What a run does about rare classes."""
    if imbalance["class_weights"]:
        return "loss weighted by the inverse frequency of the classes"
    if imbalance["weighted_sampler"]:
        return "every class drawn equally often in training"
    tau = imbalance["logit_adjustment"]
    return f"logit adjustment with tau = {tau:g}" if tau > 0 else "none"


def save_settings(settings: dict[str, Any], path: Path) -> None:
    """Write config.yaml as a whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    OmegaConf.save(OmegaConf.create(settings), beside)
    os.replace(beside, path)
