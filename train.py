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
from typing import TYPE_CHECKING, Any, cast

import hydra
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from conf.cli import USAGE_ERROR, checked_arguments
from conf.output import short, write_json
from conf.run_settings import in_words, overrides, plain_settings, save_settings
from conf.schema import RESEARCH_NOTICE

# torch and everything that imports it is loaded inside the functions, after the command line has been checked.
if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from callbacks.trainer import RunCallbacks
    from datamodules.datamodule import ImageDataModule
    from datamodules.prepared import PreparedData
    from lightning_modules import ImageClassifier

OBJECTIVE = "val/auroc"
INTERRUPTED = 130
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
    if not resumed and (folder / "run.json").exists():
        raise ValueError(f"{folder} already holds a run, which is never overwritten. Choose another hydra.run.dir.")
    clock = _Clock()
    prepared, datamodule = _data(settings, folder)
    log.info("%s: %s\n%s", "resuming" if resumed else "run folder", short(folder), RESEARCH_NOTICE)
    clock.lap("data")

    from callbacks.checkpoints import epochs_done  # torch is loaded from here on

    module, trainer, kept = _model(settings, folder, prepared)
    last = folder / "checkpoints" / "last.ckpt" if resumed else None
    if last is not None:
        datamodule.first_epoch = epochs_done(last)
    trainer.fit(module, datamodule=datamodule, ckpt_path=last, weights_only=True)
    clock.lap("fit")
    _score(trainer, module, datamodule, kept, folder)
    clock.lap("score")
    metrics = _judge(settings, folder, prepared, kept)
    clock.lap("judge")
    weights_sha256 = _hand_over(settings, folder, prepared, module, metrics)
    kept.snapshot.update(
        durations=clock.laps,
        best_epoch=kept.tracker.best_epoch,
        images_per_second=kept.line.images_per_second,
        weights_sha256=weights_sha256,
    )
    report = _report(settings, folder, prepared, trainer, metrics)
    kept.snapshot.finish()

    from evaluation.terminal import print_results

    print_results(metrics)
    print(f"\nreport: {short(report)}   ({clock.seconds:.0f} s in all)")
    return {**_results(metrics), "threshold": metrics["threshold"]["threshold"], "run_dir": str(folder)}


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


def _data(settings: dict[str, Any], folder: Path) -> tuple[PreparedData, ImageDataModule]:
    """Prepare the data set, write splits.csv and data_card.json, and say what is there."""
    from datamodules.audit import describe_audit
    from datamodules.audit_page import write_audit_page
    from datamodules.card import cautions, data_card, describe, require_same_split
    from datamodules.index import save_csv
    from datamodules.prepared import prepare
    from datamodules.progress import progress_bar, silent

    task, data, options = (settings[name] for name in ("task", "data", "trainer"))
    prepared = prepare(settings, progress_bar if options["progress_bar"] else silent)
    card = data_card(prepared, task, in_words(settings["imbalance"]))
    require_same_split(folder / "data_card.json", card)
    save_csv(prepared.splits.frame, folder / "splits.csv")
    write_json(card, folder / "data_card.json")
    write_json(prepared.audit, folder / "audit.json")
    log.info("%s in %s", card["title"], short(prepared.root))
    for line in [*describe(card), *describe_audit(prepared.audit)]:
        log.info(line)
    for line in cautions(card):
        log.warning(line)
    if settings["audit"]:
        write_audit_page(prepared.audit, prepared.root, folder / "audit.html", title=card["title"])
        log.info("audit page: %s", short(folder / "audit.html"))

    from datamodules.datamodule import ImageDataModule  # torch is loaded only when the data are known to be usable

    datamodule = ImageDataModule(
        prepared.manifest,
        prepared.splits,
        prepared.pixels,
        augmentation=settings["augmentation"],
        batch_size=data["batch_size"],
        num_workers=data["num_workers"],
        seed=settings["seed"],
        limit_train_batches=options["limit_train_batches"],
        weighted_sampler=settings["imbalance"]["weighted_sampler"],
    )
    return prepared, datamodule


def _model(
    settings: dict[str, Any], folder: Path, prepared: PreparedData
) -> tuple[ImageClassifier, Trainer, RunCallbacks]:
    """The seeded module and its Trainer; writes config.yaml."""
    from pytorch_lightning import seed_everything

    from callbacks.mixed_precision import choose_precision, tune_machine
    from callbacks.run_snapshot import RunSnapshot
    from callbacks.trainer import build_trainer, quiet_libraries
    from lightning_modules import ImageClassifier

    options, task = settings["trainer"], settings["task"]
    tune_machine()
    quiet_libraries()
    precision = choose_precision(options["precision"], options["accelerator"])
    seed_everything(settings["seed"], workers=True, verbose=False)
    module = ImageClassifier(
        settings["model"],
        task["classes"],
        task["positive"],
        options["learning_rate"],
        options["weight_decay"],
        class_counts=_class_counts(prepared),
        class_weights=settings["imbalance"]["class_weights"],
        logit_adjustment=settings["imbalance"]["logit_adjustment"],
    )
    save_settings(settings, folder / "config.yaml")
    facts = {
        "title": _title(settings, prepared),
        "command": "python train.py " + " ".join(shlex.quote(item) for item in overrides()),
        "overrides": overrides(),
        "seeds": {"seed": settings["seed"], "split": settings["split"]["seed"]},
        "manifest_sha256": prepared.manifest.sha256,
        "split_sha256": prepared.splits.sha256,
        "phantom": prepared.phantom,
        "precision": {"value": precision.value, "reason": precision.reason},
        "notice": RESEARCH_NOTICE,
    }
    snapshot = RunSnapshot(folder / "run.json", facts)
    trainer, kept = build_trainer(settings, folder, snapshot, precision, phantom=prepared.phantom)
    return module, trainer, kept


def _class_counts(prepared: PreparedData) -> list[int]:
    """Training images of each class."""
    targets = prepared.manifest.targets[prepared.splits.rows("train")]
    return [int((targets == number).sum()) for number in range(len(prepared.manifest.classes))]


def _title(settings: dict[str, Any], prepared: PreparedData) -> str:
    title = f"{settings['task']['title']}: {settings['model']['name']}"
    return f"Phantom data - {title}" if prepared.phantom else title


def _score(
    trainer: Trainer, module: ImageClassifier, datamodule: ImageDataModule, kept: RunCallbacks, folder: Path
) -> None:
    """Score validation and test once with the best weights; the operating point is fixed between the two."""
    from callbacks.checkpoints import store_threshold

    cast(Any, trainer.logger).fitting = False
    best = folder / "checkpoints" / "best.ckpt"
    trainer.validate(module, datamodule=datamodule, ckpt_path=best, verbose=False, weights_only=True)
    store_threshold(best, float(module.threshold))
    # The module already holds the best weights and the threshold; the test path cannot change either.
    trainer.test(module, datamodule=datamodule, verbose=False)
    assert kept.tuning.operating_point is not None
    point = kept.tuning.operating_point
    log.info("threshold %.4g, %s rule: %s", point.threshold, point.rule, point.statement)
    if point.fallback_reason:
        log.warning("the certified rule fell back to the empirical one: %s", point.fallback_reason)
    title = json.loads((folder / "run.json").read_text(encoding="utf-8"))["title"]
    write_json({"title": title, **point.to_dict()}, folder / "threshold.json")


def _judge(settings: dict[str, Any], folder: Path, prepared: PreparedData, kept: RunCallbacks) -> dict[str, Any]:
    """metrics.json, from the predictions files."""
    from datamodules.card import worries_of_data
    from datamodules.thumbnails import thumbnails
    from evaluation.judge import Thumbnails, judge_run

    task, manifest = settings["task"], prepared.manifest
    groups = manifest.frame["group_id"].to_numpy(dtype=str)
    parts = {}
    for part in ("train", "val", "test"):
        rows = prepared.splits.rows(part)
        parts[part] = Thumbnails(thumbnails(prepared.pixels, rows), manifest.targets[rows], groups[rows])
    assert kept.tuning.operating_point is not None
    metrics = judge_run(
        folder,
        kept.tuning.operating_point,
        parts,
        classes=manifest.classes,
        **{name: task[name] for name in ("positive", "positive_name", "negative_name")},
        leak=prepared.leak,
        test_kind="official" if prepared.splits.settings["kind"] in ("official", "predefined") else "cut",
        seed=settings["split"]["seed"],
        title=_title(settings, prepared),
        task=task["name"],
        model=settings["model"]["name"],
        phantom=prepared.phantom,
        group_name=task["group_name"],
        bootstrap=settings["evaluation"]["bootstrap"],
        confidence=settings["evaluation"]["confidence"],
        subgroup_columns=manifest.subgroup_columns,
    )
    card = json.loads((folder / "data_card.json").read_text(encoding="utf-8"))
    leaky = 1 if prepared.leak else 0  # that comes first
    metrics["worries"][leaky:leaky] = worries_of_data(card)
    write_json(metrics, folder / "metrics.json")
    return metrics


def _hand_over(
    settings: dict[str, Any], folder: Path, prepared: PreparedData, module: ImageClassifier, metrics: dict[str, Any]
) -> str:
    """Write ``model/``; returns the SHA-256 of its weights."""
    from models.bundle import save_bundle

    model = settings["model"]
    description = {
        "title": metrics["title"],
        "notice": RESEARCH_NOTICE,
        "network": model,
        "classes": settings["task"]["classes"],
        "positive": settings["task"]["positive"],
        "preprocessing": {
            "size": model["image_size"],
            "channels": model["channels"],
            "resize": "squash, area averaging",
            "scale": 1 / 255,
            "mean": model["mean"],
            "std": model["std"],
        },
        "threshold": metrics["threshold"],
        "manifest_sha256": prepared.manifest.sha256,
        "split_sha256": prepared.splits.sha256,
        "phantom": prepared.phantom,
    }
    return save_bundle(module.network, description, folder / "model")


def _results(metrics: dict[str, Any]) -> dict[str, float]:
    """Final figures by tag, for TensorBoard and sweeps; NaN where a figure does not exist."""
    found: dict[str, float] = {}
    for part, split in metrics["splits"].items():
        figures = {name: split[name] for name in ("auroc", "average_precision")}
        figures |= {name: split["at_threshold"][name] for name in ("accuracy", "sensitivity", "specificity")}
        several = split.get("multiclass") or {}
        figures |= {name: several[name] for name in ("balanced_accuracy", "macro_auroc") if name in several}
        for name, figure in figures.items():
            found[f"{part}/{name}"] = float("nan") if figure["value"] is None else float(figure["value"])
    return found


def _report(
    settings: dict[str, Any], folder: Path, prepared: PreparedData, trainer: Trainer, metrics: dict[str, Any]
) -> Path:
    """The worst mistakes as pictures, HPARAMS, and report.html."""
    from callbacks.mistakes import save_mistakes, worst_mistakes
    from callbacks.tensorboard_review import log_hyperparameters, log_mistakes
    from evaluation.predictions import read_predictions
    from evaluation.report import write_report

    task, logger = settings["task"], cast(Any, trainer.logger)
    outcome = {name: task[name] for name in ("positive", "positive_name", "negative_name")}
    test = read_predictions(folder / "predictions" / "test.csv", tuple(task["classes"]), **outcome)
    mistakes = worst_mistakes(test, metrics["threshold"]["threshold"], settings["evaluation"]["mistakes"])
    rows = prepared.splits.rows("test")[[item.row for item in mistakes] or slice(0)]
    images = prepared.pixels[rows]
    save_mistakes(mistakes, images, folder / "figures" / "mistakes")
    if mistakes:
        log_mistakes(logger, mistakes, images, prepared.phantom, trainer.current_epoch)
    chosen = {
        "seed": settings["seed"],
        "augmentation": settings["augmentation"]["name"],
        **{name: settings["model"][name] for name in ("image_size", "dropout", "hidden")},
        **{name: settings["trainer"][name] for name in ("learning_rate", "weight_decay", "max_epochs")},
        **{name: settings["data"][name] for name in ("batch_size", "per_class")},
    }
    results = _results(metrics)
    # val/auroc is the curve over epochs; the figure of the kept epoch gets a name of its own.
    final = {tag: value for tag, value in results.items() if tag.startswith("test/")} | {
        "val/best_auroc": results[OBJECTIVE]
    }
    log_hyperparameters(logger, chosen, final, trainer.current_epoch)
    return write_report(folder)


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
    except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into SystemExit
        _mark(folder, "interrupted")
        _say_stopped(folder)
        sys.exit(INTERRUPTED)


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
