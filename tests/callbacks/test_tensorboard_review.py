"""TensorBoard: what each epoch shows, how often, and that HPARAMS of a multirun can be compared, read by its own backend."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pytorch_lightning.trainer.states import TrainerFn
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

from callbacks.mistakes import Mistake
from callbacks.tensorboard_review import EpochLogger, TensorBoardReview, is_drawn, log_hyperparameters, log_mistakes

ROWS = 40


def logger_of(folder: Path) -> EpochLogger:
    return EpochLogger(folder, name="", version="tensorboard", default_hp_metric=False)


def reviewed(logger: EpochLogger, classes: tuple[str, ...] = ("A", "B")) -> tuple[Any, Any]:
    """A trainer and a module as the callback sees them after a validation epoch."""
    generator = np.random.default_rng(0)
    targets = np.arange(ROWS) % len(classes)
    logits = generator.normal(size=(ROWS, len(classes))) + 1.5 * np.eye(len(classes))[targets]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frame = pd.DataFrame(
        {
            "image_id": [f"i{row}" for row in range(ROWS)],
            "group_id": [f"g{row}" for row in range(ROWS)],
            "label": [classes[target] for target in targets],
        }
    )
    manifest = SimpleNamespace(frame=frame, classes=classes, subgroup_columns=[])
    trainer = SimpleNamespace(
        sanity_checking=False,
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        current_epoch=0,
        max_epochs=30,
        datamodule=SimpleNamespace(manifest=manifest),
        logger=logger,
    )
    module = SimpleNamespace(collected=lambda: (np.arange(ROWS), probabilities), threshold=0.4)
    return trainer, module


def events_of(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "tensors": 0}).Reload()


@pytest.mark.parametrize("classes", [("A", "B"), ("A", "B", "C")])
def test_an_epoch_shows_its_curves(tmp_path: Path, classes: tuple[str, ...]) -> None:
    logger = logger_of(tmp_path)
    trainer, module = reviewed(logger, classes)
    review = TensorBoardReview({"positive": ["B"]}, phantom=True)
    review.on_validation_epoch_end(trainer, module)
    trainer.current_epoch = 20  # epoch 21: no figures, but the curve that costs nothing
    review.on_validation_epoch_end(trainer, module)
    trainer.state.fn = TrainerFn.VALIDATING
    review.on_validation_epoch_end(trainer, module)
    review.on_test_epoch_end(trainer, module)
    logger.finalize("success")
    events = events_of(tmp_path)
    expected = {"roc", "confusion_matrix", "threshold_sweep", "reliability"}
    expected |= {"confusion_matrix_of_classes"} if len(classes) > 2 else set()
    assert set(events.Tags()["images"]) == {f"{part}/{name}" for part in ("val", "test") for name in expected}
    assert [event.step for event in events.Images("val/reliability")] == [1]
    assert [event.step for event in events.Tensors("val/precision_recall")] == [1, 21]
    assert [event.step for event in events.Images("test/threshold_sweep")] == [20]


def test_an_epoch_of_one_class_shows_what_there_is(tmp_path: Path) -> None:
    logger = logger_of(tmp_path)
    trainer, module = reviewed(logger)
    trainer.datamodule.manifest.frame["label"] = "A"
    TensorBoardReview({"positive": ["B"]}, phantom=False).on_validation_epoch_end(trainer, module)
    logger.finalize("success")
    tags = events_of(tmp_path).Tags()
    assert tags["images"] == [] and "val/precision_recall" in tags["tensors"]


def test_figures_become_rarer_but_the_last_epoch_has_them() -> None:
    drawn = [epoch for epoch in range(1, 38) if is_drawn(epoch, 37)]
    assert drawn == [*range(1, 21), 25, 30, 35, 37]
    assert not is_drawn(36, None)


def test_drawing_never_takes_long_beside_short_epochs() -> None:
    drawn = [epoch for epoch in range(1, 38) if is_drawn(epoch, 37, share=0.06)]
    assert drawn == [1, 2, 37]


def test_worst_mistakes_stand_beside_their_heat_maps(tmp_path: Path) -> None:
    logger = logger_of(tmp_path)
    mistakes = [Mistake(0, "i", "g", "B", "", 0.1, "false negative", "00.png", "")] * 3
    grey, colour = np.zeros((3, 8, 8, 1), dtype=np.uint8), np.zeros((3, 8, 8, 3), dtype=np.uint8)
    log_mistakes(logger, mistakes, grey, phantom=False, epoch=1)
    log_mistakes(logger, mistakes, grey, phantom=False, epoch=2, overlays=colour, alone=colour)
    logger.finalize("success")
    alone, triples = events_of(tmp_path).Images("test/worst_mistakes")
    assert triples.width == alone.width and triples.height > alone.height  # nine pictures in two lines
    assert triples.step == 2


def compared(folder: Path) -> tuple[Any, Any]:
    """What TensorBoard's HPARAMS tab is sent for a folder of runs: its columns, and a row a run."""
    multiplexer = EventMultiplexer(tensor_size_guidance={"scalars": 0})
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    context = backend_context.Context(SimpleNamespace(data_provider=MultiplexerDataProvider(multiplexer, str(folder))))
    request = RequestContext()
    experiment = get_experiment.Handler(request, context, "", api_pb2.GetExperimentRequest()).run()
    wanted = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=10,
        allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_RUNNING],
        col_params=[api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos],
    )
    return experiment, list_session_groups.Handler(request, context, "", wanted).run()


def test_runs_of_a_multirun_can_be_compared(tmp_path: Path) -> None:
    rates, auroc = {"0": 0.001, "1": 0.01}, {"0": 0.8, "1": 0.9}
    for run, rate in rates.items():
        logger = logger_of(tmp_path / run)
        settings = {"name": "simple_cnn", "learning_rate": rate, "hidden": [64], "nesterov": True, "ema": 0.0}
        # The first run lacks a figure; its column must be there all the same.
        results = {"test/auroc": auroc[run], "test/specificity": math.nan if run == "0" else 0.7}
        log_hyperparameters(logger, settings, results, epoch=3, first=["learning_rate", "name"])
        logger.finalize("success")
        assert (tmp_path / run / "tensorboard" / "hparams.yaml").is_file()
    experiment, answer = compared(tmp_path)
    assert [info.name for info in experiment.hparam_infos][:3] == ["learning_rate", "name", "ema"]
    types = {info.name: info.type for info in experiment.hparam_infos}
    assert set(types) == {"name", "learning_rate", "hidden", "nesterov", "ema"}
    assert types["learning_rate"] == types["ema"] == api_pb2.DATA_TYPE_FLOAT64
    assert [info.name.tag for info in experiment.metric_infos] == ["test/auroc", "test/specificity"]
    assert answer.total_size == 2
    rows = {
        group.hparams["learning_rate"].number_value: {item.name.tag: item.value for item in group.metric_values}
        for group in answer.session_groups
    }
    assert rows[0.001] == {"test/auroc": pytest.approx(0.8)}
    assert rows[0.01] == {"test/auroc": pytest.approx(0.9), "test/specificity": pytest.approx(0.7)}
