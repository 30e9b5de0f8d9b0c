"""Typed configuration: every key that exists, its type, its range and one sentence on what it does.

These dataclasses are the only place where a key is declared. Hydra merges the yaml files and the command line into them,
so a misspelt key or a wrong type cannot pass; ``checks.py`` then checks what a type cannot express.
The help page and the reference table are made from the same declarations.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from conf.options import option
from conf.schema_data import DataConfig, ImbalanceConfig, LabelPolicy, SplitConfig, TableConfig, TaskConfig
from conf.schema_model import AugmentationConfig, FinetuneConfig, LossConfig, ModelConfig, TrainerConfig

__all__ = [
    "AugmentationConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "FinetuneConfig",
    "ImbalanceConfig",
    "LabelPolicy",
    "LossConfig",
    "ModelConfig",
    "SplitConfig",
    "TableConfig",
    "TaskConfig",
    "ThresholdConfig",
    "TrainerConfig",
    "declared_options",
]

BASELINES = ("majority", "thumbnail", "metadata", "hog_svm", "features")
RESEARCH_NOTICE = "Research and education only; not a medical device."


@dataclass
class ThresholdConfig:
    """The operating point, fixed on validation."""

    rule: str = option(
        "certified",
        "certified keeps the recall with the stated confidence, crc on average; empirical meets it on validation only; youden, "
        "fbeta and cost weigh both errors; fixed uses value",
        choices=("certified", "crc", "empirical", "youden", "fbeta", "cost", "fixed"),
    )
    recall: float = option(0.95, "recall to keep, counted in positive groups", above=0.0, below=1.0)
    confidence: float = option(0.95, "confidence of the certified rule", above=0.0, below=1.0)
    group_score: str = option(
        "max",
        "score of a group: max = found if any of its images is flagged; min = only if all are",
        choices=("max", "min"),
    )
    value: float = option(0.5, "the threshold of rule=fixed", low=0.0, high=1.0)
    min_specificity: float | None = option(
        None,
        "specificity to keep as well, counted in groups; certified too where the rule is",
        above=0.0,
        below=1.0,
    )
    beta: float = option(2.0, "weight of recall against precision in rule=fbeta and in F-beta", above=0.0, high=10.0)
    miss_cost: float = option(10.0, "what a missed positive costs in rule=cost, in false alarms", above=0.0)
    infeasible: str = option(
        "empirical",
        "where validation cannot certify what was asked: empirical = use that rule and say so; refuse = stop before training",
        choices=("empirical", "refuse"),
    )


@dataclass
class EvaluationConfig:
    """Intervals and the report."""

    bootstrap: int = option(2000, "resamples of groups for each interval", low=100)
    confidence: float = option(0.95, "confidence of the intervals", above=0.0, below=1.0)
    interval: str = option(
        "percentile",
        "how bootstrap intervals are read off the resamples: percentile, or bca (corrected for bias and skewness)",
        choices=("percentile", "bca"),
    )
    prevalences: list[float] = option(
        [0.01, 0.05, 0.2], "prevalences at which PPV and NPV are also stated, each between 0 and 1"
    )
    mistakes: int = option(12, "images in the gallery of mistakes", low=0, high=60)
    heat_maps: bool = option(True, "a heat map beside each mistake")
    tta: str = option(
        "none",
        "score the mean over these views of an image, on validation and test alike; dihedral: 8 turns and flips",
        choices=("none", "flip", "dihedral"),
    )
    abstain: float | None = option(
        0.01,
        "share of images like those of validation that the model turns away as unlike what it knows; null: it answers on all",
        above=0.0,
        below=1.0,
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
