"""Typed configuration: every key that exists, its type, its range and one sentence on what it does.

These dataclasses are the only place where a key is declared. Hydra merges the yaml files and the command line into them,
so a misspelt key or a wrong type cannot pass; :func:`problems` then checks the ranges that a type cannot express.
The help page and the reference table are made from the same declarations.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

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
        default: the value when no yaml file sets one; a list is copied for every instance.
        text: one sentence for the help page.
        low, high: inclusive bounds. ``above``, ``below``: exclusive bounds.
        choices: the only strings allowed.
    """
    rules = {"low": low, "high": high, "above": above, "below": below, "choices": choices}
    metadata = {"help": text, **{name: rule for name, rule in rules.items() if rule is not None}}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class TaskConfig:
    """What is to be told apart, and in which data set."""

    name: str = option("pneumonia", "name of the task; also the folder of its runs")
    title: str = option("Pneumonia on chest X-rays", "title of reports and figures")
    dataset: str = option("chest_xray", "which reader understands the files", choices=("chest_xray",))
    classes: list[str] = option(["NORMAL", "PNEUMONIA"], "class names in their fixed order")
    positive: str = option("PNEUMONIA", "the class whose recall must be kept")
    group_name: str = option("patient", "what a group is called in reports")


@dataclass
class DataConfig:
    """Where the images are and how they are read."""

    source: str = option("files", "files on disk, or generated phantom images", choices=("files", "phantom"))
    root: str = option("???", "folder of the data set")
    prepared: str = option("???", "folder for manifests, splits and caches; the data folder is only read")
    per_class: int | None = option(None, "train on this many images of each class (whole groups)", low=2)
    on_bad_image: str = option(
        "skip", "unreadable image: leave it out and report it, or stop", choices=("skip", "error")
    )
    batch_size: int = option(32, "images per training step", low=1)
    num_workers: int | None = option(None, "loader processes; null chooses for this machine", low=0)
    phantom_images: int = option(900, "number of generated images", low=40)
    phantom_seed: int = option(0, "seed of the generated images", low=0)


@dataclass
class SplitConfig:
    """How validation is cut from the training part; the official test part is never touched."""

    val_fraction: float = option(
        0.1, "share of the training images kept for validation, by whole groups", low=0.05, high=0.5
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
    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)
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
    "data": DataConfig,
    "split": SplitConfig,
    "model": ModelConfig,
    "augmentation": AugmentationConfig,
    "finetune": FinetuneConfig,
    "trainer": TrainerConfig,
    "threshold": ThresholdConfig,
    "evaluation": EvaluationConfig,
}


def allowed(item: dataclasses.Field[Any]) -> str:
    """The permitted values of one option in words, for example ``at least 1``; empty when any value will do."""
    rules, parts = item.metadata, []
    if "choices" in rules:
        return "one of " + ", ".join(rules["choices"])
    for name, words in (("low", "at least"), ("above", "above"), ("high", "at most"), ("below", "below")):
        if name in rules:
            parts.append(f"{words} {rules[name]:.15g}")
    return " and ".join(parts)


def breaks_rule(item: dataclasses.Field[Any], value: Any) -> bool:
    """Whether ``value`` (already of the right type) lies outside what the option allows."""
    rules = item.metadata
    if value is None:
        return False
    if "choices" in rules:
        return value not in rules["choices"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (
        not math.isfinite(value)
        or ("low" in rules and value < rules["low"])
        or ("high" in rules and value > rules["high"])
        or ("above" in rules and value <= rules["above"])
        or ("below" in rules and value >= rules["below"])
    )


def problems(config: Config) -> list[tuple[str, Any, str]]:
    """Values that their type allows and their meaning does not.

    Returns:
        ``(full key, value, what is allowed)`` for each; an empty list when the configuration can run.
    """
    found = []
    for key, item in declared_options().items():
        section, _, name = key.rpartition(".")
        value = getattr(getattr(config, section) if section else config, name)
        if breaks_rule(item, value):
            finite = not isinstance(value, float) or math.isfinite(value)
            found.append((key, value, allowed(item) if finite else "a finite number"))
    return found + _joint_problems(config)


def _joint_problems(config: Config) -> list[tuple[str, Any, str]]:
    found: list[tuple[str, Any, str]] = []
    task, model = config.task, config.model
    if len(task.classes) != 2 or len(set(task.classes)) != 2:
        found.append(("task.classes", task.classes, "two different class names"))
    elif task.positive not in task.classes:
        found.append(("task.positive", task.positive, "one of the task's classes: " + ", ".join(task.classes)))
    if not model.filters or min(model.filters) < 1:
        found.append(("model.filters", model.filters, "at least one layer, each with at least 1 filter"))
    elif side_after_pooling(model.image_size, len(model.filters)) < 1:
        found.append(
            ("model.image_size", model.image_size, f"large enough for {len(model.filters)} layers that each halve it")
        )
    if not str(config.data.root).strip():
        found.append(("data.root", "", "the folder of the data set"))
    if model.channels == 2:
        found.append(("model.channels", 2, "1 (grey) or 3 (colour)"))
    return found


def side_after_pooling(side: int, layers: int) -> int:
    """Height and width that is left after ``layers`` times (3x3 convolution without padding, 2x2 max-pooling)."""
    for _ in range(layers):
        side = (side - 2) // 2
    return side
