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
POOLINGS = ("auto", "avg", "max", "concat")
GREY_INPUTS = ("stem", "repeat")
INTERPOLATIONS = ("auto", "area", "bilinear", "bicubic")
MONITORS = ("val/auroc", "val/balanced_accuracy", "val/loss")
BASELINES = ("majority", "thumbnail", "metadata", "hog_svm", "features")
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
    """The network, or a baseline in its place."""

    name: str = option("simple_cnn", "simple_cnn, any architecture of timm, or baseline_...")
    weights: str = option("none", "start from: none, imagenet (timm's hub), a .safetensors or .pth file, or a run's folder")
    image_size: int | None = option(None, "height and width in pixels; null: as the weights were trained", low=16, high=1024)
    channels: int = option(1, "of the images: 1 = grey, 3 = colour", low=1, high=3)
    grey_input: str = option(
        "stem", "grey images into colour weights: sum the first layer's weights, or repeat the image", choices=GREY_INPUTS
    )
    filters: list[int] = option([32, 64], "simple_cnn: filters of the convolution layers")
    pooling: str = option("auto", "over the feature maps; auto: the architecture's own", choices=POOLINGS)
    hidden: list[int] = option([], "units of the hidden layers of the head, each with ReLU; [] is none")
    dropout: float = option(0.0, "share of units dropped before the output in training", low=0.0, below=1.0)
    metadata: list[str] = option([], "columns that the head sees beside the image, for example [age,sex,localization]")
    mean: list[float] | None = option(None, "subtracted from the pixels in [0, 1], one a channel or one for all; null: of the weights")
    std: list[float] | None = option(None, "the pixels are then divided by this; null: of the weights")
    interpolation: str = option("auto", "how images are resized; auto: as the weights were trained", choices=INTERPOLATIONS)
    backbone: str = option("", "baseline_features: architecture of the frozen network")


@dataclass
class AugmentationConfig:
    """Random changes of the training images; validation and test images are never changed."""

    name: str = option("none", "name of the preset")
    crop: float = option(1.0, "smallest share of the area that a random crop keeps; 1 is no crop", above=0.0, high=1.0)
    rotate: float = option(0.0, "largest rotation in degrees", low=0.0, high=180.0)
    quarter_turns: bool = option(False, "turn by 0, 90, 180 or 270 degrees")
    translate: float = option(0.0, "largest shift as a share of the image", low=0.0, high=0.5)
    scale: float = option(0.0, "largest zoom in or out as a share", low=0.0, below=1.0)
    shear: float = option(0.0, "largest shear in degrees", low=0.0, high=45.0)
    border: str = option("black", "what fills the border that a turn leaves", choices=("black", "nearest", "reflect"))
    horizontal_flip: float = option(0.0, "probability of a left-right flip", low=0.0, high=1.0)
    vertical_flip: float = option(0.0, "probability of a top-bottom flip", low=0.0, high=1.0)
    brightness: float = option(0.0, "largest change of brightness as a share of the range", low=0.0, high=1.0)
    contrast: float = option(0.0, "largest change of contrast", low=0.0, high=1.0)
    gamma: float = option(0.0, "largest change of exposure: gamma between 1 / (1 + g) and 1 + g", low=0.0, high=1.0)
    saturation: float = option(0.0, "largest change of saturation; colour only", low=0.0, high=1.0)
    hue: float = option(0.0, "largest turn of the hue circle, as a share; colour only", low=0.0, high=0.5)
    blur: float = option(0.0, "probability of a slight blur", low=0.0, high=1.0)
    noise: float = option(0.0, "largest standard deviation of pixel noise, as a share of the range", low=0.0, high=0.5)
    erase: float = option(0.0, "probability that a rectangle is erased", low=0.0, high=1.0)
    mixup: float = option(0.0, "alpha of mixup (Zhang 2018): pairs of images are blended; 0 is off", low=0.0, high=10.0)
    cutmix: float = option(0.0, "alpha of cutmix (Yun 2019): a patch of another image is put in; 0 is off", low=0.0, high=10.0)


@dataclass
class LossConfig:
    """What training makes small; validation and test always report plain cross-entropy."""

    name: str = option("cross_entropy", "of one logit (two classes) or one a class", choices=("cross_entropy", "focal"))
    label_smoothing: float = option(0.0, "share of the target spread over all classes", low=0.0, below=1.0)
    focal_gamma: float = option(2.0, "focal: how much easy images lose weight (Lin 2017)", low=0.0, high=10.0)


@dataclass
class FinetuneConfig:
    """Which part of the network trains when. A network is a row of blocks from the stem to the head."""

    name: str = option("none", "the recipe", choices=("none", "frozen", "two_stage", "gradual", "lp_ft"))
    head_epochs: int = option(0, "epochs in which the head trains alone, before the rest; part of trainer.max_epochs", low=0)
    blocks: int | None = option(None, "two_stage and gradual: how many of the last blocks join; null: all", low=1)
    block_epochs: int = option(1, "gradual: epochs between two blocks", low=1)
    frozen_blocks: int = option(0, "how many of the first blocks never train", low=0)
    head_learning_rate: float | None = option(
        None, "peak step size while the head trains alone; null: trainer.learning_rate", above=0.0, high=10.0
    )
    layer_decay: float = option(1.0, "each block before the head trains at this times the rate of the next", above=0.0, high=1.0)
    views: int | None = option(
        None,
        "frozen epochs reuse the trunk's features of this many augmented views of each image; 0: never; "
        "null: one plain view where augmentation is off, else never",
        low=0,
        high=100,
    )


@dataclass
class TrainerConfig:
    """How long and on what the network trains."""

    max_epochs: int = option(10, "passes over the training images", low=1)
    optimizer: str = option("adam", "update rule", choices=("adam", "adamw", "sgd"))
    learning_rate: float = option(1e-3, "peak step size", above=0.0, high=10.0)
    weight_decay: float = option(0.0, "pull of the weights towards 0; none on biases and normalisation layers", low=0.0)
    momentum: float = option(0.9, "of sgd", low=0.0, below=1.0)
    schedule: str = option("constant", "course of the step size", choices=("constant", "cosine", "one_cycle", "plateau"))
    warmup: float = option(0.0, "share of a stage's steps in which the step size rises from 0", low=0.0, below=1.0)
    final_rate: float = option(0.01, "cosine and one_cycle end at this share of the peak; plateau stops there", low=0.0, high=1.0)
    plateau_patience: int = option(2, "plateau: epochs without a better monitored value before the rate falls to a third", low=0)
    gradient_clip: float | None = option(None, "largest norm of the gradient; null: any", above=0.0)
    accumulate: int = option(1, "batches whose gradients are added up before a step", low=1)
    ema: float | None = option(
        None, "decay of an average of the weights, which is then validated, kept and tested; null: none", above=0.0, below=1.0
    )
    monitor: str = option("val/auroc", "decides which epoch is best, and early stopping", choices=MONITORS)
    patience: int | None = option(None, "stop after this many epochs without a better monitored value; null never stops", low=1)
    accelerator: str = option("auto", "where to compute", choices=("auto", "cpu", "gpu"))
    precision: str = option("auto", "number format of training", choices=("auto", "32", "bf16", "fp16"))
    channels_last: bool = option(True, "keep the channels of a pixel together in memory; faster, same results")
    compile: bool = option(False, "compile the network (CUDA); slower on a CPU")
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
    tta: str = option(
        "none",
        "score the mean over these views of an image, on validation and test alike; dihedral: 8 turns and flips",
        choices=("none", "flip", "dihedral"),
    )
    baselines: list[str] = option(
        ["majority", "thumbnail", "metadata", "hog_svm"], "baselines shown beside the network: " + ", ".join(BASELINES)
    )


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
    loss: LossConfig = field(default_factory=LossConfig)
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
    "loss": LossConfig,
    "finetune": FinetuneConfig,
    "trainer": TrainerConfig,
    "threshold": ThresholdConfig,
    "evaluation": EvaluationConfig,
}
