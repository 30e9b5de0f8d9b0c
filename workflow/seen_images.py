"""Which images of another data set a run has already seen: the same files, the same pictures, the same patients or lesions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conf.output import short
from datamodules.errors import DataError
from datamodules.fingerprints import small_images
from datamodules.near_duplicates import near_duplicates
from datamodules.prepared import PreparedData
from datamodules.progress import Progress, silent
from workflow.own_data import own_data
from workflow.scoring import Scorer

_HELD = ("train", "val")
OWN_IMAGES = "my_images"  # what conf/task/folder.yaml and table.yaml call any data set
_ARCHIVE_ID = re.compile(r"ISIC_\d{7}")  # one number is one picture, whichever data set of the archive it came with


@dataclass(frozen=True)
class Seen:
    """Images that are not judged, because a run was trained or validated on them, or on others of their group.

    Attributes:
        mask: over the rows asked about, shape (n,).
        by_content: the same file. ``by_name``: another file of the same picture of the ISIC archive. ``by_picture``: nearly
            identical pictures (re-encoded, resized, mirrored or turned); None where the run's own images are not there to be
            compared. ``by_group``: the rest of the groups that any of these or the run's own names of groups point to. Each
            image counts once, in this order.
        unchecked: why pictures could not be compared; empty where they were.
    """

    mask: NDArray[np.bool_]
    by_content: int
    by_name: int
    by_picture: int | None
    by_group: int
    unchecked: str = ""

    def counts(self) -> dict[str, Any]:
        """Plain values for JSON."""
        named = {name: getattr(self, name) for name in ("by_content", "by_name", "by_picture", "by_group", "unchecked")}
        return {"images": int(self.mask.sum()), **named}


def seen_by(
    scorer: Scorer,
    prepared: PreparedData,
    rows: NDArray[np.int64],
    settings: Mapping[str, Any],
    progress: Progress = silent,
) -> Seen:
    """Find the images of another data set that the networks were trained or validated on.

    Args:
        scorer: a run, or an ensemble: what any of its networks has seen counts.
        prepared: the other data set. ``rows``: of its manifest, shape (n,). ``settings``: its task and data.
        progress: shows how far the comparison is.

    Raises:
        ValueError: a run does not say which images it used.
    """
    frame = prepared.manifest.frame.iloc[rows]
    used = pd.concat([_used(part.run) for part in scorer.networks], ignore_index=True).drop_duplicates("sha256")
    content = frame["sha256"].isin(set(used["sha256"])).to_numpy(dtype=bool)
    numbers = _archive_ids(frame["image_id"])
    same = (numbers != "") & numbers.isin(set(_archive_ids(used["image_id"])))
    name = same.to_numpy(dtype=bool) & ~content
    try:
        picture, unchecked = _same_pictures(scorer, used, prepared, rows, progress) & ~content & ~name, ""
    except (DataError, ValueError, OSError) as error:
        picture, unchecked = np.zeros(len(frame), dtype=bool), str(error).splitlines()[0]
    # A group stays whole: of a lesion with one known picture the others are not new either.
    groups = set(frame["group_id"][content | name | picture])
    known = bool((content | name | picture).any())
    if _same_source(scorer.config, settings, known):
        groups |= set().union(*(set(used[column]) for column in ("group_id", "true_group") if column in used))
    group = frame["group_id"].isin(groups).to_numpy(dtype=bool) & ~(content | name | picture)
    found = [int(mask.sum()) for mask in (content, name, picture, group)]
    pictures = None if unchecked else found[2]
    return Seen(content | name | picture | group, found[0], found[1], pictures, found[3], unchecked)


def _used(run: Path) -> pd.DataFrame:
    path = run / "splits.csv"
    if not path.is_file():
        raise ValueError(
            f"{short(run)}: splits.csv is missing, so nobody can tell which images this run has seen. Take a run that has it."
        )
    splits = pd.read_csv(path, dtype=str, keep_default_na=False)
    return splits[splits["split"].isin(_HELD)]


def _archive_ids(names: pd.Series) -> pd.Series:
    """The number of a picture in the ISIC archive; empty where a name holds none."""
    return names.astype(str).str.extract(f"({_ARCHIVE_ID.pattern})", expand=False).fillna("")


def _same_source(config: Mapping[str, Any], settings: Mapping[str, Any], known: bool) -> bool:
    """Whether the names of groups mean the same: one data set, and both generated or both not.

    Folders and tables of one's own are all called alike, and two hospitals may both have a patient 1: there the folder has to
    be the same, or one image ``known``.
    """
    alike = (
        config["task"]["dataset"] == settings["task"]["dataset"]
        and config["data"]["source"] == settings["data"]["source"]
    )
    if not alike or settings["task"]["dataset"] != OWN_IMAGES:
        return bool(alike)
    before, after = (Path(side["data"]["root"]).expanduser().resolve() for side in (config, settings))
    return known or before == after


def _same_pictures(
    scorer: Scorer, used: pd.DataFrame, prepared: PreparedData, rows: NDArray[np.int64], progress: Progress
) -> NDArray[np.bool_]:
    """Which rows show a picture that is nearly identical to one that was used.

    Raises:
        DataError, ValueError, OSError: the run's own images are not there, or not the same any more.
    """
    own = own_data(scorer)
    theirs = own.manifest.frame[own.manifest.frame["sha256"].isin(set(used["sha256"]))].drop_duplicates("sha256")
    ours = prepared.manifest.frame.iloc[rows].drop_duplicates("sha256")
    before, after = _small(own, theirs), _small(prepared, ours)
    with progress("comparing with the images of training", len(before) + len(after)) as advance:
        pairs = near_duplicates(np.concatenate([before, after]), on_image=advance)
    across = (pairs["first"] < len(before)) & (pairs["second"] >= len(before))
    alike = set(ours["sha256"].iloc[pairs["second"][across].to_numpy() - len(before)])
    return prepared.manifest.frame["sha256"].iloc[rows].isin(alike).to_numpy(dtype=bool)


def _small(prepared: PreparedData, frame: pd.DataFrame) -> NDArray[np.uint8]:
    """The small pictures that were made when the data were prepared."""
    return small_images(
        [prepared.root / path for path in frame["path"]], frame["sha256"].tolist(), prepared.folder / "small"
    )
