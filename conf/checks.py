"""Values that their type allows and their meaning does not: ranges, and settings that exclude one another."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from conf.architectures import absent_weights, unknown_name
from conf.schema import BASELINES, Config, ModelConfig, TaskConfig, ThresholdConfig, declared_options


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


def classes_of(task: TaskConfig) -> tuple[list[str], list[str]]:
    """Class names and positive classes of a task: those of its label policy, or its own lists where it has none."""
    if task.labels in task.policies:
        policy = task.policies[task.labels]
        return list(policy.classes), list(policy.positive)
    return list(task.classes), list(task.positive)


def _task_problems(task: TaskConfig) -> list[tuple[str, Any, str]]:
    found: list[tuple[str, Any, str]] = []
    if (task.group_pattern or task.group_table) and task.reader not in ("folders", "skin_cancer"):
        key = "task.group_pattern" if task.group_pattern else "task.group_table"
        rule = f"empty: the data set of task {task.name} says itself which images belong together"
        found.append((key, getattr(task, key[5:]), rule + (" (table.group)" if task.reader == "table" else "")))
    if task.policies and (task.classes or task.positive):
        key = "task.classes" if task.classes else "task.positive"
        rule = f"left out: classes come from task.labels, one of {', '.join(task.policies)}"
        found.append((key, getattr(task, key[5:]), rule))
    if task.labels and not task.policies:
        found.append(("task.labels", task.labels, "empty: this task has no label policies; give task.classes"))
    if task.policies and task.labels not in task.policies:
        found.append(("task.labels", task.labels, "one of " + ", ".join(task.policies)))
        return found
    classes, positive = classes_of(task)
    if not classes and not positive and not task.policies:
        return found  # a folder or table of one's own: the reader lists the classes that it finds
    if len(classes) < 2 or len(set(classes)) != len(classes):
        found.append(
            ("task.classes", classes, "at least two different class names, for example task.classes=[benign,malignant]")
        )
    elif not positive or not set(positive) < set(classes):
        found.append(
            ("task.positive", positive, f"one or several, but not all, of the task's classes: {', '.join(classes)}")
        )
    return found


def _data_problems(config: Config) -> list[tuple[str, Any, str]]:
    found: list[tuple[str, Any, str]] = []
    data, split, imbalance = config.data, config.split, config.imbalance
    if not str(data.root).strip():
        found.append(("data.root", "", "the folder of the data set"))
    if data.per_class is not None and data.fraction is not None:
        found.append(
            ("data.fraction", data.fraction, "null where data.per_class is given; both choose the training subset")
        )
    if data.margin > 1.0 and config.augmentation.crop >= 1.0:
        found.append(
            ("data.margin", data.margin, "1 where augmentation.crop=1; or crop, for example augmentation.crop=0.7")
        )
    if split.kind == "kfold" and split.fold >= split.folds:
        found.append(("split.fold", split.fold, f"below split.folds={split.folds} (folds are counted from 0)"))
    if split.file is not None and split.kind not in ("auto", "predefined"):
        found.append(("split.kind", split.kind, "auto or predefined where split.file is given"))
    if split.file is not None and (data.per_class is not None or data.fraction is not None):
        key = "data.per_class" if data.per_class is not None else "data.fraction"
        value = getattr(data, key[5:])
        found.append((key, value, "null where split.file is given; mark images as unused in the file"))
    if split.file is not None and split.grouping == "none":
        found.append(("split.grouping", "none", "group where split.file is given"))
    chosen = [f"imbalance.{name}" for name in ("class_weights", "weighted_sampler") if getattr(imbalance, name)]
    chosen += ["imbalance.logit_adjustment"] if imbalance.logit_adjustment > 0 else []
    if len(chosen) > 1:
        rule = "the only correction: both are for the class frequencies; switch one off"
        found.append((f"{chosen[0]} with {chosen[1]}", getattr(imbalance, chosen[1][10:]), rule))
    return found


def _threshold_problems(threshold: ThresholdConfig) -> list[tuple[str, Any, str]]:
    if threshold.rule == "fixed" or threshold.value == ThresholdConfig.value:
        return []
    return [
        ("threshold.value", threshold.value, f"left out with threshold.rule={threshold.rule}, or used with rule=fixed")
    ]


def _joint_problems(config: Config) -> list[tuple[str, Any, str]]:
    found = _task_problems(config.task) + _data_problems(config) + _threshold_problems(config.threshold)
    return found + _model_problems(config.model) + _training_problems(config)


def _model_problems(model: ModelConfig) -> list[tuple[str, Any, str]]:
    found = _simple_cnn_problems(model) if model.name == "simple_cnn" else []
    if model.name.startswith("baseline_") and model.name[9:] not in BASELINES:
        found.append(("model.name", model.name, "one of " + ", ".join(f"baseline_{name}" for name in BASELINES)))
    if not model.name.strip():
        found.append(("model.name", model.name, "simple_cnn, or an architecture of timm, for example resnet50"))
    elif not model.name.startswith("baseline_") and (names := unknown_name(model.name)) is not None:
        found.append(("model.name", model.name, names))
    if (places := absent_weights(model.weights)) is not None:
        found.append(("model.weights", model.weights, places))
    if model.channels == 2:
        found.append(("model.channels", 2, "1 (grey) or 3 (colour)"))
    if model.hidden and min(model.hidden) < 1:
        found.append(("model.hidden", model.hidden, "units of each hidden layer, at least 1, or [] for none"))
    for name in ("mean", "std"):
        values = getattr(model, name)
        if values is not None and (len(values) not in (1, 3) or not all(math.isfinite(value) for value in values)):
            found.append((f"model.{name}", values, "one finite number for all channels, or three in brackets"))
        elif name == "std" and values is not None and min(values) <= 0:
            found.append(("model.std", values, "above 0"))
    return found


def _simple_cnn_problems(model: ModelConfig) -> list[tuple[str, Any, str]]:
    found: list[tuple[str, Any, str]] = []
    size = 128 if model.image_size is None else model.image_size
    if not model.filters or min(model.filters) < 1:
        found.append(("model.filters", model.filters, "at least one layer, each with at least 1 filter"))
    elif side_after_pooling(size, len(model.filters)) < 1:
        found.append(("model.image_size", size, f"large enough for {len(model.filters)} layers that each halve it"))
    if model.weights == "imagenet":
        found.append(("model.weights", "imagenet", "none, or the folder of an earlier run, for simple_cnn"))
    return found


def _training_problems(config: Config) -> list[tuple[str, Any, str]]:
    found: list[tuple[str, Any, str]] = []
    trainer, finetune, model = config.trainer, config.finetune, config.model
    wrong = [value for value in config.evaluation.prevalences if not 0.0 < value < 1.0]
    if wrong:
        found.append(("evaluation.prevalences", wrong[0], "a list of numbers above 0 and below 1"))
    strange = [name for name in config.evaluation.baselines if name not in BASELINES]
    if strange:
        found.append(("evaluation.baselines", strange[0], "a list of " + ", ".join(BASELINES)))
    if model.name.startswith("baseline_"):
        return found
    staged = finetune.name in ("two_stage", "gradual", "lp_ft")
    if finetune.name != "none" and model.weights == "none":
        rule = "none (add finetune=none) where model.weights=none: there is nothing in random weights to keep"
        found.append(("finetune.name", finetune.name, rule))
    if staged and finetune.head_epochs >= trainer.max_epochs:
        rule = f"below trainer.max_epochs={trainer.max_epochs}, so that epochs are left for the other blocks"
        found.append(("finetune.head_epochs", finetune.head_epochs, rule))
    if trainer.schedule == "plateau" and trainer.warmup > 0:
        found.append(("trainer.warmup", trainer.warmup, "0 with trainer.schedule=plateau, which goes by epochs"))
    classes, _ = classes_of(config.task)
    two = len(classes) == 2 or (not classes and config.data.source == "phantom")
    mixed = [name for name in ("mixup", "cutmix") if getattr(config.augmentation, name) > 0]
    if mixed and model.metadata:
        rule = "0 where model.metadata is given: a blended image has no one age or site"
        found.append((f"augmentation.{mixed[0]}", getattr(config.augmentation, mixed[0]), rule))
    if trainer.monitor == "val/balanced_accuracy" and two:
        rule = (
            "val/auroc or val/loss for two classes: balanced accuracy depends on a threshold that is fixed afterwards"
        )
        found.append(("trainer.monitor", trainer.monitor, rule))
    return found


def side_after_pooling(side: int, layers: int) -> int:
    """Height and width that is left after ``layers`` times (3x3 convolution without padding, 2x2 max-pooling)."""
    for _ in range(layers):
        side = (side - 2) // 2
    return side
