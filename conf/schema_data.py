"""The keys that say what is to be told apart, in which images, and who is trained, validated and tested on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from conf.options import option

READERS = ("chest_xray", "ham10000", "folders", "skin_cancer", "isic_archive", "table")
CONFLICTS = ("drop", "keep", "error")


@dataclass
class LabelPolicy:
    """A named rule that turns the labels of a data set into the classes of a task."""

    classes: dict[str, list[str]] = field(default_factory=dict)  # class -> labels as the data set writes them
    positive: list[str] = field(default_factory=list)
    column: str = "label"  # column of the source that holds the labels
    title: str = ""  # in place of the task's


@dataclass
class TaskConfig:
    """What is to be told apart, and in which data set."""

    name: str = option("pneumonia", "name of the task; also the folder of its runs")
    title: str = option("Pneumonia on chest X-rays", "title of reports and figures")
    dataset: str = option("chest_xray", "name of the data set; its folder under FIRSTREAD_DATA")
    reader: str = option("chest_xray", "which reader understands the files", choices=READERS)
    labels: str = option("", "which of the task's label policies applies; empty: labels are the classes")
    policies: dict[str, LabelPolicy] = option({}, "label policies: class names in their order, and the labels of each")
    classes: list[str] = option([], "class names in their fixed order; filled from the label policy where there is one")
    positive: list[str] = option([], "the classes whose recall must be kept; all others together are the negatives")
    positive_name: str = option("", "what several positive classes are called together")
    negative_name: str = option("", "what several other classes are called together")
    group_name: str = option("patient", "what a group is called in reports")
    group_pattern: str = option(
        "", "folder tasks: regular expression with (?P<group>...) on the path; empty: a file is a group"
    )
    group_table: str = option(
        "",
        "folder tasks: table with image_id and lesion_id or patient_id, to join files that show the same lesion or patient",
    )
    download: dict[str, Any] = option({}, "where the data set is published")


@dataclass
class TableConfig:
    """The columns of your own CSV (task=table)."""

    file: str = option("", "the CSV file; empty: the only one in data.root")
    path: str = option("path", "column with the image file, relative to data.root")
    label: str = option("label", "column with the label")
    group: str = option("", "column with the patient or lesion; empty: an image is a group")
    split: str = option("", "column with train, val or test; empty: firstread splits")
    subgroups: list[str] = option([], "columns reported as subgroups; an input only where model.metadata names them")


@dataclass
class DataConfig:
    """Where the images are and how they are read."""

    source: str = option("files", "files on disk, or generated phantom images", choices=("files", "phantom"))
    root: str = option("???", "folder of the data set")
    prepared: str = option("???", "folder for manifests, splits and caches; the data folder is only read")
    download: str = option(
        "never",
        "prepare.py: fetch the data set from its publisher, or from Kaggle",
        choices=("never", "publisher", "kaggle"),
    )
    per_class: int | None = option(None, "train on this many images of each class (whole groups)", low=2)
    fraction: float | None = option(None, "train on this share of the groups of each class", above=0.0, high=1.0)
    on_bad_image: str = option(
        "skip", "unreadable image: leave it out and report it, or stop", choices=("skip", "error")
    )
    max_bad: float = option(0.01, "stop if more than this share of the images is unreadable", low=0.0, high=1.0)
    conflicts: str = option(
        "drop", "identical images under different labels: leave all of them out, keep them, or stop", choices=CONFLICTS
    )
    near_duplicates: bool = option(True, "find near-identical images and keep them in one group")
    batch_size: int = option(32, "images per training step", low=1)
    cache: str = option(
        "auto",
        "where decoded images are kept: disk, ram (nothing is written) or off (decoded each time); auto: the first that fits",
        choices=("auto", "disk", "ram", "off"),
    )
    margin: float = option(
        1.0, "training images are kept this much wider than the network takes them, for crops", low=1.0, high=2.0
    )
    num_workers: int | None = option(None, "loader processes; null chooses for this machine", low=0)
    phantom_images: int = option(900, "number of generated images", low=40)
    phantom_seed: int = option(0, "seed of the generated images", low=0)


@dataclass
class ImbalanceConfig:
    """What is done about rare classes; at most one of these, because each corrects for the same thing."""

    class_weights: bool = option(False, "weigh the loss of each class by the inverse of its frequency")
    weighted_sampler: bool = option(False, "draw training images so that every class is equally frequent")
    logit_adjustment: float = option(
        0.0,
        "add this many times the log of the class frequencies to the logits in training (Menon 2021); 0 is off",
        low=0.0,
    )


@dataclass
class SplitConfig:
    """Who is trained on, validated on and tested on; always by whole groups unless grouping is switched off."""

    kind: str = option(
        "auto",
        "parts that stay as the data set has them: all (predefined), test (official), none (random, kfold); auto: what there is",
        choices=("auto", "official", "random", "kfold", "predefined"),
    )
    pool: str = option(
        "train",
        "random and kfold: split the training part only, or pool it with the official test part",
        choices=("train", "all"),
    )
    test_fraction: float = option(0.2, "random: share of the images kept for test", low=0.05, high=0.5)
    val_fraction: float = option(
        0.1, "share of the images outside test kept for validation, by whole groups", low=0.05, high=0.5
    )
    folds: int = option(5, "kfold: number of folds", low=2, high=20)
    fold: int = option(0, "kfold: which fold is the test part, from 0", low=0)
    file: str | None = option(
        None, "your own split: a CSV with the columns image_id and split (train, val, test, unused)"
    )
    grouping: str = option(
        "group",
        "none splits image by image, as leaking published figures do; the run is stamped LEAKY",
        choices=("group", "none"),
    )
    rare_classes: str = option(
        "error",
        "a class with too few groups for the asked split: stop, or keep it whole in training, where it is not judged",
        choices=("error", "train"),
    )
    seed: int = option(
        0, "seed of the split, apart from the training seed so that seeds can be compared", low=0, high=2**32 - 1
    )
    refresh: bool = option(False, "make a new split although the data set has changed")
