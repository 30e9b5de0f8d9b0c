"""Train and judge a classifier: data -> model -> fit -> threshold on validation -> test -> report.

python train.py task=pneumonia model=simple_cnn
python train.py --help
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from conf.cli import USAGE_ERROR, checked_arguments
from conf.output import short
from conf.run_settings import plain_settings, save_settings
from conf.schema import RESEARCH_NOTICE
from datamodules.missing import require_folder

# torch and everything that imports it is loaded inside the functions, after the command line has been checked.
if TYPE_CHECKING:
    from datamodules.prepared import PreparedData

OBJECTIVE, BASELINE = "val/auroc", "baseline_"
INTERRUPTED = 130
SMALLER = "Try a smaller data.batch_size, with trainer.accumulate for the same step, or a smaller model.image_size."
log = logging.getLogger("firstread")


def train(cfg: DictConfig, run_dir: Path | None = None) -> dict[str, Any]:
    """One whole run.

    Args:
        cfg: the composed configuration, as :class:`conf.schema.Config` declares it.
        run_dir: where the run is kept; Hydra's output folder if None.

    Returns:
        Final figures by tag (``val/auroc``, ``test/sensitivity``, ...), ``threshold``, and ``run_dir``.

    Raises:
        DataError, ValueError: with a message for the user.
    """
    folder = (run_dir or Path(HydraConfig.get().runtime.output_dir)).resolve()
    settings, resumed = plain_settings(cfg, folder), bool(cfg.resume)
    if not resumed:
        if (folder / "run.json").exists():
            raise ValueError(f"{folder} already holds a run, which is never overwritten. Choose another hydra.run.dir.")
        settings["model"] = _resolved(settings["model"])
    clock = _Clock()
    if settings["data"]["source"] == "files":
        require_folder(settings["task"], Path(settings["data"]["root"]))
    from workflow.data import load_data, require_unseen

    prepared = load_data(settings, folder)
    require_unseen(settings, prepared)
    log.info("%s: %s\n%s", "resuming" if resumed else "run folder", short(folder), RESEARCH_NOTICE)
    clock.lap("data")
    is_baseline = settings["model"]["name"].startswith(BASELINE)
    run = _baseline if is_baseline else _network
    metrics, report = run(settings, folder, prepared, clock, resumed)

    from evaluation.report_parts import worries_of_folder
    from evaluation.terminal import print_results
    from workflow.judging import results

    print_results(metrics, worries=worries_of_folder(folder))
    print(f"\nreport: {short(report)}   ({clock.seconds:.0f} s in all)")
    if not is_baseline:  # which leaves no network
        print(f"use it: python predict.py run={shlex.quote(short(folder))} images=FOLDER")
    return {**results(metrics), "threshold": metrics["threshold"]["threshold"], "run_dir": str(folder)}


def _resolved(model: dict[str, Any]) -> dict[str, Any]:
    """The network's settings with image size and preprocessing filled in; a wrong name or file stops the run here."""
    as_it_is = (model["mean"], model["std"], model["weights"]) == ([0.0], [1.0], "none") and model["image_size"]
    if model["name"] == "simple_cnn" and as_it_is and model["interpolation"] != "auto":
        return model  # nothing to look up, so a mistake in the data is reported before torch is loaded
    from models.pretrained import fetch_weights, resolved_model

    resolved = resolved_model(model)
    fetch_weights(resolved)  # before all images are decoded for nothing
    return resolved


def _network(
    settings: dict[str, Any], folder: Path, prepared: PreparedData, clock: _Clock, resumed: bool
) -> tuple[dict[str, Any], Path]:
    """Train a network, score it and hand it over: metrics and the path of the report."""
    from workflow.data import datamodule_of, metadata_encoder, progress_of, title_of  # torch is loaded from here on
    from workflow.features import features_of_parts, pretrained_module
    from workflow.locking import lock, require_feasible
    from workflow.training import fit, prepare_run, test, validate

    if not resumed:
        require_feasible(settings, prepared)
    encoder = metadata_encoder(settings, prepared)
    table = None if encoder is None else encoder.encode(prepared.manifest.frame)
    settings["model"]["metadata_width"] = 0 if table is None else table.shape[1]
    datamodule = datamodule_of(settings, prepared, table)
    features = None
    if "features" in settings["evaluation"]["baselines"]:
        if settings["model"]["weights"] == "none":
            log.warning("baseline features is left out: model.weights=none, so there are no features to speak of")
        else:
            features = features_of_parts(pretrained_module(settings), prepared, progress_of(settings))
    module, trainer, kept = prepare_run(settings, folder, prepared, datamodule, resumed=resumed)
    fit(settings, folder, prepared, module, datamodule, trainer, resumed=resumed)
    clock.lap("fit")
    # What judges and reports is loaded after training has begun, and ended.
    from workflow.foreign_inputs import write_run_record
    from workflow.hand_over import report
    from workflow.judging import judge

    validate(trainer, module, datamodule, folder)
    weights = lock(settings, folder, prepared, module, kept, None if encoder is None else encoder.describe())
    test(trainer, module, datamodule)
    clock.lap("score")
    write_run_record(settings, folder, prepared, module.network, title_of(settings, prepared), progress_of(settings))
    clock.lap("input_check")
    assert kept.tuning.operating_point is not None
    metrics = judge(settings, folder, prepared, kept.tuning.operating_point, features, kept.calibration.calibrator)
    clock.lap("judge")
    kept.snapshot.update(
        weights_sha256=weights,
        durations=clock.laps,
        best_epoch=kept.tracker.best_epoch,
        images_per_second=kept.line.images_per_second,
    )
    path = report(settings, folder, prepared, metrics, trainer.logger, trainer.current_epoch, module)
    kept.snapshot.finish()
    return metrics, path


def _baseline(
    settings: dict[str, Any], folder: Path, prepared: PreparedData, clock: _Clock, resumed: bool
) -> tuple[dict[str, Any], Path]:
    """Fit a baseline in place of a network: the same split, predictions files, threshold rule and report."""
    from workflow.baselines import train_baseline
    from workflow.data import progress_of
    from workflow.hand_over import report
    from workflow.judging import judge
    from workflow.locking import lock_baseline
    from workflow.training import snapshot_of

    features = None
    if settings["model"]["name"] == BASELINE + "features":
        from workflow.features import features_of_parts, pretrained_module

        features = features_of_parts(pretrained_module(settings), prepared, progress_of(settings))
    save_settings(settings, folder / "config.yaml")
    snapshot = snapshot_of(settings, folder, prepared, None)
    snapshot.write()
    point = train_baseline(settings, prepared, folder, features=features)
    calibrator = lock_baseline(settings, folder, prepared, point)
    clock.lap("fit")
    metrics = judge(settings, folder, prepared, point, features, calibrator)
    clock.lap("judge")
    snapshot.update(durations=clock.laps)
    path = report(settings, folder, prepared, metrics)
    snapshot.finish()
    return metrics, path


class _Clock:
    """Seconds of each stage of a run."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._started = self._last = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 2)
        self._last = now


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    """Run one configuration; the objective of a sweep is val/auroc, NaN for a run that failed."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    lock = folder / "run.lock"  # two processes in one run folder would spoil each other's checkpoints
    try:
        with FileLock(lock, timeout=0):
            try:
                return _objective(cfg, folder)
            finally:
                lock.unlink(missing_ok=True)
                _remove_if_empty(folder)
    except Timeout:
        print(f"error: {folder}: this run is still going in another process. Wait for it, or stop it.", file=sys.stderr)
        sys.exit(USAGE_ERROR)


def _objective(cfg: DictConfig, folder: Path) -> float:
    from datamodules.errors import DataError

    try:
        return float(train(cfg)[OBJECTIVE])
    except (DataError, ValueError, OSError) as error:
        _mark(folder, "failed")
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            log.error("error: %s", error)  # the other runs of the sweep go on
            return float("nan")
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except Exception as error:
        _mark(folder, "failed")
        if _out_of_memory(error):
            print("error: the GPU's memory is too small for this. " + SMALLER, file=sys.stderr)
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            log.exception("error: %s", type(error).__name__)
            return float("nan")
        raise  # a mistake of the program, not of its user: with everything that helps to find it
    except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into SystemExit
        _mark(folder, "interrupted")
        _say_stopped(folder)
        sys.exit(INTERRUPTED)


def _out_of_memory(error: Exception) -> bool:
    """Whether a GPU ran out of memory; asked by name, because torch may not even have been loaded."""
    return type(error).__name__ == "OutOfMemoryError"


def _mark(folder: Path, status: str) -> None:
    """Say in run.json how an unfinished run ended."""
    record = folder / "run.json"
    if record.is_file() and json.loads(record.read_text(encoding="utf-8")).get("status") != "finished":
        from callbacks.run_snapshot import mark

        mark(record, status)


def _say_stopped(folder: Path) -> None:
    if (folder / "checkpoints" / "last.ckpt").is_file():
        log.warning("stopped. Go on with:  python train.py resume=%s", shlex.quote(short(folder)))
    else:
        print("stopped before the first epoch ended; there is nothing to resume. Start again with the same command.")


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


if __name__ == "__main__":
    sys.argv[1:] = checked_arguments(sys.argv[1:])
    try:
        main()
    except KeyboardInterrupt:  # while Hydra was starting
        print("stopped")
        sys.exit(INTERRUPTED)
