"""TensorBoard: scalars and curves by epoch, confusion matrix, augmented images, worst mistakes, HPARAMS with results."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]
from torch.utils.tensorboard.summary import hparams

from callbacks.mistakes import Mistake, contact_sheet
from callbacks.predictions import Outcome, predictions_of
from evaluation import figures
from evaluation.figures_calibration import reliability
from evaluation.figures_sweep import threshold_sweep

EVERY_EPOCH, EVERY, SHARE = 20, 5, 0.05
"""Figures are drawn after each of the first 20 epochs, then after every 5th, but after the second epoch only while drawing has
taken at most 5 % of the time since training began; and always after the last. Scalars and precision-recall are always logged."""


class EpochLogger(TensorBoardLogger):
    """A TensorBoardLogger whose horizontal axis is the epoch, so that runs of different batch size can be compared.

    Attributes:
        fitting: set to False when training has ended. What Lightning logs after that is a second evaluation of an epoch
            that is already there; the final figures come from :func:`log_hyperparameters`.
    """

    fitting = True

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars at their epoch, counted from 1; the scalar ``epoch`` itself is not logged."""
        epoch = metrics.get("epoch")
        if epoch is None:
            super().log_metrics(metrics, step)
        elif self.fitting:
            super().log_metrics({name: value for name, value in metrics.items() if "/" in name}, int(epoch) + 1)


class TensorBoardReview(Callback):
    """Adds what scalars cannot show.

    Args:
        outcome: what is to be found.
        phantom: True for generated data; titles say so.
        grid: number of augmented training images shown.
    """

    def __init__(self, outcome: Outcome, phantom: bool, grid: int = 24) -> None:
        self.outcome, self.phantom, self.grid = outcome, phantom, grid
        self._began, self._drawing = time.perf_counter(), 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show training images as the network sees them."""
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        loader = datamodule.train_dataloader()
        plan = replace(next(iter(loader.sampler)), view=None)  # images, also where training starts from stored features
        batch = loader.dataset[plan]
        images = batch["image"][: self.grid].permute(0, 2, 3, 1).numpy()
        names = [datamodule.manifest.classes[index] for index in batch["target"][: self.grid].tolist()]
        title = self._title("training images after augmentation")
        self._writer(trainer).add_figure("train/augmented_images", contact_sheet(images, names, title), 0)
        self._began, self._drawing = time.perf_counter(), 0.0

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Curves of this epoch's validation scores."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        self._curves("val", trainer, pl_module, trainer.current_epoch + 1)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Curves of the test scores at the locked threshold."""
        self._curves("test", trainer, pl_module, trainer.current_epoch)

    def _curves(self, part: str, trainer: Any, pl_module: Any, epoch: int) -> None:
        rows, probabilities = pl_module.collected()
        predictions = predictions_of(trainer.datamodule, rows, probabilities, self.outcome)
        labels, scores = predictions.labels, predictions.scores
        writer, threshold = self._writer(trainer), float(pl_module.threshold)
        writer.add_pr_curve(f"{part}/precision_recall", labels, scores, epoch)
        now = time.perf_counter()
        if part == "val" and not is_drawn(epoch, trainer.max_epochs, self._drawing / max(now - self._began, 1e-9)):
            return
        if 0 < labels.sum() < len(labels):
            names = (predictions.negative_class, predictions.positive_class)
            for name, figure in self._figures(part, labels, scores, threshold, names).items():
                writer.add_figure(f"{part}/{name}", figure, epoch)
        if len(predictions.classes) > 2:
            counts = np.zeros((len(predictions.classes),) * 2, dtype=np.int64)
            np.add.at(counts, (predictions.targets, predictions.decisions), 1)
            chart = figures.confusion_matrix(
                counts, predictions.classes, title=f"{part}, most probable class", phantom=self.phantom
            )
            writer.add_figure(f"{part}/confusion_matrix_of_classes", chart, epoch)
        self._drawing += time.perf_counter() - now

    def _figures(
        self,
        part: str,
        labels: NDArray[np.uint8],
        scores: NDArray[np.float64],
        threshold: float,
        names: tuple[str, str],
    ) -> dict[str, Figure]:
        curve = figures.Curve(part, labels, scores, "test" if part == "test" else "validation")
        point = _point(labels, scores, threshold)
        return {
            "roc": figures.roc([curve], {"locked threshold": point}, phantom=self.phantom),
            "confusion_matrix": figures.confusion(point, names, title=f"{part} at the threshold", phantom=self.phantom),
            "threshold_sweep": threshold_sweep(
                labels, scores, threshold, title=f"{part}: threshold sweep", phantom=self.phantom
            ),
            "reliability": reliability(labels, scores, title=f"{part}: reliability", phantom=self.phantom),
        }

    def _title(self, text: str) -> str:
        return f"Phantom data - {text}" if self.phantom else text

    def _writer(self, trainer: Any) -> Any:
        return trainer.logger.experiment


def is_drawn(epoch: int, last: int | None, share: float = 0.0) -> bool:
    """Whether figures are drawn after this epoch.

    Args:
        epoch: its number, from 1.
        last: the number of epochs that were asked for.
        share: of the time since training began, how much was spent on drawing.
    """
    if epoch == last or epoch <= 2:
        return True
    return share <= SHARE and (epoch <= EVERY_EPOCH or epoch % EVERY == 0)


def log_mistakes(
    logger: TensorBoardLogger,
    mistakes: Sequence[Mistake],
    images: NDArray[np.uint8],
    phantom: bool,
    epoch: int,
    overlays: NDArray[np.uint8] | None = None,
    alone: NDArray[np.uint8] | None = None,
) -> None:
    """Show the worst mistakes under ``test/worst_mistakes``, each with its heat map to the right where there is one.

    Args:
        images: their pixels, shape ``(n, height, width, channels)``, uint8.
        epoch: step that they are logged at.
        overlays: heat maps over the images, shape ``(n, height, width, 3)``, uint8. ``alone``: by themselves, the same.
    """
    captions = [f"{item.kind}\n{item.label} {item.score:.3f}" for item in mistakes]
    title = ("Phantom data - " if phantom else "") + "worst mistakes on the test part"
    beside = [(words, part) for words, part in (("heat map", overlays), ("map alone", alone)) if part is not None]
    if beside:
        title += "; right: what speaks for the positive class"
    pictures = [part[row] for row in range(len(images)) for part in (images, *(part for _, part in beside))]
    captions = [text for caption in captions for text in (caption, *(f"{words}\n" for words, _ in beside))]
    logger.experiment.add_figure("test/worst_mistakes", contact_sheet(pictures, captions, title), epoch)


def log_hyperparameters(
    logger: TensorBoardLogger,
    settings: dict[str, Any],
    results: dict[str, float],
    epoch: int,
    *,
    first: Collection[str] = (),
) -> None:
    """Fill the HPARAMS tab: settings beside the final figures of the run.

    TensorBoard reads the columns of a multirun from one of its runs and shows nothing that is missing there. So every figure
    is announced, also one that does not exist in this run (NaN), and only those that exist are logged as scalars.

    Args:
        settings: plain values by short name; few, because the tab shows them all as columns. A name must have one type in all
            runs of a multirun.
        results: final figures by tag, for example ``test/auroc``; also logged as scalars, so that the tab finds them.
        epoch: step that they are logged at.
        first: names of the settings whose columns come first; TensorBoard shows five before one asks for more.
    """
    shown = {
        name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in settings.items()
    }
    logger.hparams.update(shown)
    logger.log_metrics({tag: value for tag, value in results.items() if math.isfinite(value)}, epoch)
    writer = logger.experiment._get_file_writer()
    columns, start, end = hparams(shown, results)  # type: ignore[no-untyped-call]
    plugin = columns.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin.content)
    for column in content.experiment.hparam_infos:
        column.differs = column.name in first  # it sorts by this and then by the alphabet
    plugin.content = content.SerializeToString()
    for summary in (columns, start, end):
        writer.add_summary(summary, epoch)
    logger.save()


def _point(labels: NDArray[np.uint8], scores: NDArray[np.float64], threshold: float) -> dict[str, Any]:
    """Counts and rates at a threshold, in the form that the figures read."""
    flagged, positive = scores >= threshold, labels == 1
    counts = {
        "tp": int((flagged & positive).sum()),
        "fn": int((~flagged & positive).sum()),
        "fp": int((flagged & ~positive).sum()),
        "tn": int((~flagged & ~positive).sum()),
    }
    rates = {
        "sensitivity": counts["tp"] / max(1, counts["tp"] + counts["fn"]),
        "specificity": counts["tn"] / max(1, counts["tn"] + counts["fp"]),
        "ppv": counts["tp"] / max(1, counts["tp"] + counts["fp"]),
    }
    return {"threshold": threshold, **counts, **{name: {"value": value} for name, value in rates.items()}}
