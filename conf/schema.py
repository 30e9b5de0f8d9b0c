"""Typed configuration: every key that exists, its type, its range and one sentence on what it does.

These dataclasses are the only place where a key is declared. Hydra merges the yaml files and the command line into them,
so a misspelt key or a wrong type cannot pass; ``checks.py`` then checks what a type cannot express.
The help page and the reference table are made from the same declarations.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

READERS = ("chest_xray", "ham10000", "folders", "skin_cancer", "isic_archive", "table")
CONFLICTS = ("drop", "keep", "error")
RESEARCH_NOTICE = "Research and education only; not a medical device."


def option(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A dataclass field with a description and the values it may take.

    Args:
        default: the value when no yaml file sets one; a list or dictionary is copied for every instance.
        text: one sentence for the help page.
        low, high: inclusive bounds. ``above``, ``below``: exclusive bounds.
        choices: the only strings allowed.
    """
    rules = {"low": low, "high": high, "above": above, "below": below, "choices": choices}
    metadata = {"help": text, **{name: rule for name, rule in rules.items() if rule is not None}}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class LabelPolicy:
    """A named rule that turns the labels of a data set into the classes of a task."""

    classes: dict[str, list[str]] = field(default_factory=dict)  # class -> labels as the data set writes them
    positive: list[str] = field(default_factory=list)
    column: str = "label"  # column of the source that holds the labels


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
    subgroups: list[str] = option([], "columns reported as subgroups; never an input of the model")


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


@dataclass
class ModelConfig:
    """The network."""

    name: str = option("simple_cnn", "architecture", choices=("simple_cnn",))
    image_size: int = option(128, "height and width in pixels", low=16, high=1024)
    channels: int = option(1, "1 = grey, 3 = colour", low=1, high=3)
    filters: list[int] = option([32, 64], "filters of the convolution layers")
    hidden: int = option(64, "units of the dense layer", low=1)
    dropout: float = option(0.5, "share of units dropped in training", low=0.0, below=1.0)
    mean: float = option(0.0, "subtracted from the pixels after scaling to [0, 1]")
    std: float = option(1.0, "the pixels are divided by this after subtracting the mean", above=0.0)


@dataclass
class AugmentationConfig:
    """Random changes of the training images; validation and test images are never changed."""

    name: str = option("none", "name of the preset")
    rotate: float = option(0.0, "largest rotation in degrees", low=0.0, high=180.0)
    translate: float = option(0.0, "largest shift as a share of the image", low=0.0, high=0.5)
    scale: float = option(0.0, "largest zoom in or out as a share", low=0.0, below=1.0)
    brightness: float = option(0.0, "largest change of brightness as a share of the range", low=0.0, high=1.0)
    contrast: float = option(0.0, "largest change of contrast", low=0.0, high=1.0)
    horizontal_flip: float = option(0.0, "probability of a left-right flip", low=0.0, high=1.0)
    vertical_flip: float = option(0.0, "probability of a top-bottom flip", low=0.0, high=1.0)


@dataclass
class FinetuneConfig:
    """Which part of the network trains when."""

    name: str = option("none", "none: the whole network trains from the first step", choices=("none",))


@dataclass
class TrainerConfig:
    """How long and on what the network trains."""

    max_epochs: int = option(10, "passes over the training images", low=1)
    learning_rate: float = option(1e-3, "step size of Adam", above=0.0, high=10.0)
    weight_decay: float = option(0.0, "L2 penalty of Adam", low=0.0)
    patience: int | None = option(
        None, "stop after this many epochs without a better val/auroc; null never stops", low=1
    )
    accelerator: str = option("auto", "where to compute", choices=("auto", "cpu", "gpu"))
    precision: str = option("auto", "number format of training", choices=("auto", "32", "bf16", "fp16"))
    deterministic: bool = option(True, "same seed, same machine, same predictions; to the bit on a CPU")
    progress_bar: bool = option(True, "show a progress bar when the terminal can")
    limit_train_batches: int | None = option(None, "use only this many batches an epoch (for a quick try)", low=1)


@dataclass
class ThresholdConfig:
    """The operating point, fixed on validation."""

    rule: str = option(
        "certified",
        "certified keeps the recall with the stated confidence; empirical meets it on validation only; fixed uses value",
        choices=("certified", "empirical", "fixed"),
    )
    recall: float = option(0.95, "recall to keep, counted in positive groups", above=0.0, below=1.0)
    confidence: float = option(0.95, "confidence of the certified rule", above=0.0, below=1.0)
    group_score: str = option(
        "max",
        "score of a group: max = found if any of its images is flagged; min = only if all are",
        choices=("max", "min"),
    )
    value: float = option(0.5, "the threshold of rule=fixed", low=0.0, high=1.0)


@dataclass
class EvaluationConfig:
    """Intervals and the report."""

    bootstrap: int = option(2000, "resamples of groups for each interval", low=100)
    confidence: float = option(0.95, "confidence of the intervals", above=0.0, below=1.0)
    mistakes: int = option(12, "images in the gallery of mistakes", low=0, high=60)


@dataclass
class Config:
    """One run."""

    seed: int = option(0, "seed of weights, shuffling, augmentation and dropout", low=0, high=2**32 - 1)
    resume: str | None = option(None, "folder of an interrupted run to go on with")
    audit: bool = option(False, "also write the page of the audit, with pictures of the pairs found")
    task: TaskConfig = field(default_factory=TaskConfig)
    table: TableConfig = field(default_factory=TableConfig)
    data: DataConfig = field(default_factory=DataConfig)
    imbalance: ImbalanceConfig = field(default_factory=ImbalanceConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


def declared_options(node: type = Config, prefix: str = "") -> dict[str, dataclasses.Field[Any]]:
    """All keys in declaration order, by full dotted name (``trainer.max_epochs``)."""
    found: dict[str, dataclasses.Field[Any]] = {}
    for item in dataclasses.fields(node):
        section = SECTIONS.get(item.name) if node is Config else None
        if section is not None:
            found.update(declared_options(section, f"{item.name}."))
        else:
            found[prefix + item.name] = item
    return found


SECTIONS: dict[str, type] = {
    "task": TaskConfig,
    "table": TableConfig,
    "data": DataConfig,
    "imbalance": ImbalanceConfig,
    "split": SplitConfig,
    "model": ModelConfig,
    "augmentation": AugmentationConfig,
    "finetune": FinetuneConfig,
    "trainer": TrainerConfig,
    "threshold": ThresholdConfig,
    "evaluation": EvaluationConfig,
}
