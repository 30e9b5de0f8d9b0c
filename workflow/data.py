"""The data of a run: prepared, described, and as a LightningDataModule."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conf.output import short, write_json
from conf.run_settings import in_words
from datamodules.audit import describe_audit
from datamodules.audit_page import write_audit_page
from datamodules.card import cautions, data_card, describe, require_same_split
from datamodules.index import save_csv
from datamodules.prepared import PreparedData, prepare
from datamodules.progress import Progress, progress_bar, silent

if TYPE_CHECKING:
    from datamodules.datamodule import ImageDataModule
    from datamodules.metadata import MetadataEncoder

log = logging.getLogger("firstread")


def progress_of(settings: dict[str, Any]) -> Progress:
    """The progress bar that a run shows."""
    return progress_bar if settings["trainer"]["progress_bar"] else silent


def load_data(settings: dict[str, Any], folder: Path) -> PreparedData:
    """Prepare the data set, write splits.csv and data_card.json into the run's folder, and say what is there."""
    prepared = prepare(settings, progress_of(settings))
    card = data_card(prepared, settings["task"], in_words(settings["imbalance"]))
    require_same_split(folder / "data_card.json", card)
    save_csv(prepared.splits.frame, folder / "splits.csv")
    write_json(card, folder / "data_card.json")
    write_json(prepared.audit, folder / "audit.json")
    log.info("%s in %s", card["title"], short(prepared.root))
    for line in [*describe(card), *describe_audit(prepared.audit)]:
        log.info(line)
    for line in cautions(card):
        log.warning(line)
    if settings["audit"]:
        write_audit_page(prepared.audit, prepared.root, folder / "audit.html", title=card["title"])
        log.info("audit page: %s", short(folder / "audit.html"))
    return prepared


def require_unseen(settings: dict[str, Any], prepared: PreparedData) -> None:
    """Refuse weights of an earlier run that was trained on images which are validated or tested on here.

    Images are compared by content, and groups by name where both runs are of one data set. Weights of ImageNet and of files
    cannot be checked.

    Raises:
        ValueError: with the number of such images.
    """
    given = Path(settings["model"]["weights"])
    if not given.is_dir():
        return
    run = given.parent if given.name == "model" and not (given / "splits.csv").is_file() else given
    if not (run / "splits.csv").is_file():
        log.warning(
            "model.weights=%s: no splits.csv there, so nobody can tell which images these weights have seen", given
        )
        return
    theirs = pd.read_csv(run / "splits.csv", dtype=str)
    card = run / "data_card.json"
    same = card.is_file() and json.loads(card.read_text(encoding="utf-8")).get("dataset") == settings["task"]["dataset"]
    ours = prepared.splits.frame.astype(str)
    # Their validation images chose an epoch: they may be validated on again, but not tested on.
    for part, seen in (("val", ("train",)), ("test", ("train", "val"))):
        used, held = theirs[theirs["split"].isin(seen)], ours[ours["split"] == part]
        known = held["sha256"].isin(used["sha256"])
        if same:
            known |= held["group_id"].isin(used["group_id"])
        if known.any():
            raise ValueError(
                f"model.weights={given}: that run was trained on {int(known.sum()):,} of the {len(held):,} {part} images of this "
                "one (or on other images of their groups). Use the same split (split.kind, split.seed, split.fold), or "
                "other weights."
            )


def metadata_encoder(settings: dict[str, Any], prepared: PreparedData) -> MetadataEncoder | None:
    """The encoder of ``model.metadata``, fitted on the training rows; None where the head sees the image alone."""
    columns = settings["model"]["metadata"]
    if not columns:
        return None
    from datamodules.metadata import MetadataEncoder

    return MetadataEncoder.fit(prepared.manifest.frame.iloc[prepared.splits.rows("train")], columns)


def datamodule_of(
    settings: dict[str, Any], prepared: PreparedData, metadata: NDArray[np.float32] | None = None
) -> ImageDataModule:
    """Batches of the prepared data; torch is loaded here, after the data are known to be usable."""
    from datamodules.datamodule import ImageDataModule

    data = settings["data"]
    return ImageDataModule(
        prepared.manifest,
        prepared.splits,
        prepared.pixels,
        augmentation=settings["augmentation"],
        batch_size=data["batch_size"],
        num_workers=data["num_workers"],
        seed=settings["seed"],
        limit_train_batches=settings["trainer"]["limit_train_batches"],
        weighted_sampler=settings["imbalance"]["weighted_sampler"],
        metadata=metadata,
        training_pixels=prepared.training_pixels,
    )


def class_counts(prepared: PreparedData) -> list[int]:
    """Training images of each class."""
    targets = prepared.manifest.targets[prepared.splits.rows("train")]
    return [int((targets == number).sum()) for number in range(len(prepared.manifest.classes))]


def title_of(settings: dict[str, Any], prepared: PreparedData) -> str:
    """Title of the run's report."""
    title = f"{settings['task']['title']}: {settings['model']['name']}"
    return f"Phantom data - {title}" if prepared.phantom else title
