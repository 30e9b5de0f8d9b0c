"""Recall-oriented threshold tuning: the operating point is fixed on validation and travels with the weights."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from callbacks.predictions import Outcome, just_scored
from evaluation.threshold import OperatingPoint, choose_operating_point


class ThresholdTuning(Callback):
    """After every validation epoch, choose the operating point and store it in the module's ``threshold`` buffer.

    Lightning runs checkpoint callbacks last, so every checkpoint holds the threshold of its own weights. The test path has
    no way to set it.

    What the number of validation groups cannot certify is said before training, or refused there if that is asked for
    (``evaluation.rules.check_feasible``); here the empirical rule then takes its place. What only the scores can show, a
    specificity that is not reached, is written into the operating point: scores of the first epochs must not end a run.

    Args:
        rule: one of :data:`evaluation.rules.RULES`.
        recall: to keep, in (0, 1), counted in positive groups.
        confidence: of the certified rule, in (0, 1).
        group_score: ``max`` or ``min`` over a group's images.
        value: the threshold of rule ``fixed``.
        outcome: what is to be found.
        group_name: what a group is called, for example ``patient``.
        options: ``min_specificity``, ``beta`` and ``miss_cost`` of :func:`evaluation.threshold.choose_operating_point`;
            ``infeasible`` is accepted and not used here.
    """

    def __init__(
        self,
        *,
        rule: str,
        recall: float,
        confidence: float,
        group_score: str,
        value: float,
        outcome: Outcome,
        group_name: str,
        **options: Any,
    ) -> None:
        self.outcome = outcome
        self.arguments: dict[str, Any] = {
            **{"rule": rule, "recall": recall, "confidence": confidence, "group_score": group_score},
            **{"fixed": value, "group_name": group_name, "selection_optimistic": rule != "fixed"},
            **{**options, "infeasible": "empirical"},
        }
        self.operating_point: OperatingPoint | None = None

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fix the operating point on the validation scores just collected."""
        if trainer.sanity_checking:
            return
        module: Any = pl_module
        self.operating_point = choose_operating_point(just_scored(trainer, module, self.outcome), **self.arguments)
        module.threshold.fill_(self.operating_point.threshold)
