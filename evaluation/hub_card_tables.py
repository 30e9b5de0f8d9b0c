"""Tables of the hub card, and the preparation of an image in words exact enough to write it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from evaluation.intervals import format_interval
from evaluation.report_files import RunFiles
from evaluation.report_parts import subgroup_tables

_RANKED: Final = (("AUROC", "auroc"), ("average precision", "average_precision"), ("Brier score", "brier"))
_RATES: Final = (("sensitivity", "sensitivity"), ("specificity", "specificity"), ("PPV", "ppv"), ("NPV", "npv"))
_CLASSWISE: Final = (
    ("balanced accuracy", "balanced_accuracy"),
    ("macro AUROC", "macro_auroc"),
    ("accuracy", "accuracy"),
)
_CALLED: Final = {"group_recall": "recall of groups", "auroc": "AUROC"}
_RESIZED: Final = {
    "area": "by averaging over areas (OpenCV INTER_AREA; INTER_LINEAR where the shorter side is smaller)",
    "bilinear": "by Pillow's BILINEAR with antialiasing",
    "bicubic": "by Pillow's BICUBIC with antialiasing",
}
_VIEWS: Final = {
    "flip": "The probabilities are the mean over two views: the image and its left-right mirror image.",
    "dihedral": "The probabilities are the mean over eight views: the four quarter turns of the image and of its mirror image.",
}


@dataclass(frozen=True)
class Table:
    """A table with a heading; every cell is text."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def preparation_steps(network: Mapping[str, Any], views: str) -> list[str]:
    """What happens to a file before the network sees it, step by step.

    Args:
        network: ``image_size``, ``channels``, ``interpolation``, ``mean``, ``std`` and ``grey_input``.
        views: of the image that are averaged.
    """
    size, channels = network["image_size"], network["channels"]
    colour = (
        "Reduce colours to grey (ITU-R 601 luma: 0.299 R + 0.587 G + 0.114 B); more than 8 bits are scaled to 0-255."
        if channels == 1
        else "Take the three colours R, G, B in this order; a grey image is repeated in all three. 8 bits a colour."
    )
    mean, std = (_listed(network.get(name, default)) for name, default in (("mean", 0.0), ("std", 1.0)))
    steps = [
        "Decode the whole file; apply EXIF orientation; lay transparency over black; of several pages take the first. A JPEG is "
        f"decoded at the smallest of the scales 1, 1/2, 1/4 and 1/8 that leaves both sides at least {2 * size} pixels. "
        "DICOM: modality and VOI look-up tables or windows, MONOCHROME1 inverted.",
        colour,
        f"Resize to {size} x {size} pixels {_RESIZED[network.get('interpolation', 'area')]}. The aspect ratio is not kept and "
        "nothing is cropped. Values stay whole numbers from 0 to 255.",
        f"Divide by 255, subtract {mean} and divide by {std}; float32, order (n, {channels}, {size}, {size}).",
    ]
    if channels == 1 and network.get("grey_input") == "repeat":
        steps.append("Repeat the grey image in the three channels that the first layer takes.")
    if views in _VIEWS:
        steps.append(_VIEWS[views])
    return steps


def _listed(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in (values if isinstance(values, list | tuple) else [values]))


def result_tables(run: RunFiles) -> list[Table]:
    """Validation beside test, each class where there are several, and the subgroups of test; all with intervals."""
    tables = [_overall(run)]
    multiclass = run.metrics["splits"]["test"].get("multiclass") or {}
    if multiclass.get("classes"):
        rows = tuple(
            (row["class"], f"{row['n']:,}", *(_shown(row.get(name)) for name in ("recall", "precision", "auroc")))
            for row in multiclass["classes"]
        )
        tables.append(Table("Each class on test", ("class", "images", "recall", "precision", "AUROC"), rows))
    return [*tables, *_subgroups(run)]


def _overall(run: RunFiles) -> Table:
    splits, group = run.metrics["splits"], run.metrics["group_name"]
    parts = [name for name in ("val", "test") if name in splits]
    rows = [("images", *(f"{splits[name]['n']:,}" for name in parts))]
    rows.append((f"of them {run.metrics['positive_class']}", *(f"{splits[name]['n_positive']:,}" for name in parts)))
    rows.append((f"{group}s", *(f"{splits[name]['n_groups']:,}" for name in parts)))
    for word, key in _RANKED:
        rows.append((word, *(_shown(splits[name].get(key)) for name in parts)))
    for word, key in _CLASSWISE:
        if splits["test"].get("multiclass"):
            rows.append((word, *(_shown((splits[name].get("multiclass") or {}).get(key)) for name in parts)))
    for word, key in _RATES:
        rows.append((f"{word} at the threshold", *(_shown(splits[name]["at_threshold"].get(key)) for name in parts)))
    named = {"val": "validation", "test": "test"}
    return Table("", ("", *(named[name] for name in parts)), tuple(rows))


def _subgroups(run: RunFiles) -> list[Table]:
    tables = []
    for table in subgroup_tables(run.metrics):
        names = table["metrics"]
        rows = tuple(
            (str(row["value"]), f"{row['n']:,}", *(_shown(row.get(name)) for name in names)) for row in table["rows"]
        )
        columns = (table["column"], "images", *(_CALLED.get(name, name) for name in names))
        tables.append(Table(f"Test images by {table['column']}", columns, rows))
    return tables


def _shown(interval: Any) -> str:
    return format_interval(interval) if isinstance(interval, Mapping) and "value" in interval else "\u2013"
