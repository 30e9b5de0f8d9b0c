"""Train and judge a classifier: data -> model -> fit -> threshold on validation -> test -> report.

python train.py task=pneumonia model=simple_cnn
python train.py --help
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from conf.cli import USAGE_ERROR, checked_arguments
from conf.schema import RESEARCH_NOTICE, Config

# torch and everything that imports it is loaded inside the functions, after the command line has been checked.
if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from callbacks.auroc_tracking import AUROCTracker
    from callbacks.epoch_line import EpochLine
    from callbacks.mixed_precision import PrecisionChoice
    from callbacks.run_snapshot import RunSnapshot
    from callbacks.threshold import ThresholdTuning
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
    resumed = bool(cfg.resume)
    settings = _settings(cfg, folder)
    if not resumed and (folder / "run.json").exists():
        raise ValueError(f"{folder} already holds a run, which is never overwritten. Choose another hydra.run.dir.")
    clock = _Clock()

    from models.bundle import save_bundle

    prepared, datamodule = _data(settings, folder)
    log.info("%s: %s\n%s", "resuming" if resumed else "run folder", _short(folder), RESEARCH_NOTICE)
    clock.lap("data")
    module, trainer, parts = _trainer(settings, folder, prepared, datamodule)
    _fit(trainer, module, datamodule, folder / "checkpoints" / "last.ckpt" if resumed else None, folder)
    clock.lap("fit")
    best = _score(trainer, module, datamodule, parts, folder)
    clock.lap("score")
    metrics = _judge(settings, folder, prepared, parts)
    clock.lap("judge")
    description = _model_description(settings, prepared, metrics)
    weights_sha256 = save_bundle(module.network, description, folder / "model")
    results = _results(metrics)
    parts.snapshot.finish(
        durations=clock.laps,
        best_epoch=best,
        images_per_second=parts.line.images_per_second,
        weights_sha256=weights_sha256,
    )
    report = _report(settings, folder, prepared, trainer, results)
    _print_results(metrics, report, clock)
    return {**results, "threshold": metrics["threshold"]["threshold"], "run_dir": str(folder)}


class _Clock:
    """Seconds of each stage of a run."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.started = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 2)
        self._last = now


class _Parts:
    """The callbacks that the run needs again after training."""

    def __init__(self, line: EpochLine, tracker: AUROCTracker, tuning: ThresholdTuning, snapshot: RunSnapshot) -> None:
        self.line, self.tracker, self.tuning, self.snapshot = line, tracker, tuning, snapshot


def _settings(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """The configuration as plain values with absolute paths; of a resumed run, the one it was started with."""
    if cfg.resume:
        stored = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(folder / "config.yaml"))
        stored.trainer.progress_bar = cfg.trainer.progress_bar
        given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
        if any(item.startswith("trainer.max_epochs=") for item in given):
            stored.trainer.max_epochs = cfg.trainer.max_epochs
        cfg = cast(DictConfig, stored)
    settings = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    for name in ("root", "prepared"):
        settings["data"][name] = str(Path(settings["data"][name]).expanduser().resolve())
    settings["resume"] = None
    return settings


def _data(settings: dict[str, Any], folder: Path) -> tuple[PreparedData, ImageDataModule]:
    from datamodules.card import data_card
    from datamodules.datamodule import ImageDataModule
    from datamodules.index import save_csv
    from datamodules.prepared import prepare

    task, model = settings["task"], settings["model"]
    prepared = prepare(
        settings["data"],
        settings["split"],
        tuple(task["classes"]),
        image_size=model["image_size"],
        channels=model["channels"],
        progress=_progress_bar if settings["trainer"]["progress_bar"] else _no_bar,
    )
    card = data_card(prepared, dataset=task["dataset"], group_name=task["group_name"])
    stored = folder / "splits.csv"
    if stored.is_file():
        _require_same_split(stored.with_name("data_card.json"), card)
    folder.mkdir(parents=True, exist_ok=True)
    save_csv(prepared.splits.frame, stored)
    _write_json(card, folder / "data_card.json")
    _say_data(card, prepared)
    datamodule = ImageDataModule(
        prepared.manifest,
        prepared.splits,
        prepared.pixels,
        augmentation=settings["augmentation"],
        batch_size=settings["data"]["batch_size"],
        num_workers=settings["data"]["num_workers"],
        seed=settings["seed"],
        limit_train_batches=settings["trainer"]["limit_train_batches"],
    )
    return prepared, datamodule


def _require_same_split(stored: Path, card: dict[str, Any]) -> None:
    before = json.loads(stored.read_text(encoding="utf-8"))
    for name in ("manifest_sha256", "split_sha256"):
        if before[name] != card[name]:
            raise ValueError(
                f"{stored.parent}: the data or their split are not those the run was started with "
                f"({name} {before[name][:12]} then, {card[name][:12]} now). Restore them, or start a new run."
            )


def _say_data(card: dict[str, Any], prepared: PreparedData) -> None:
    log.info("%s in %s", card["title"], _short(prepared.root))
    for part in ("train", "val", "test"):
        rows = [count for count in card["counts"] if count["split"] == part]
        listed = ", ".join(f"{row['images']:,} {row['class']}" for row in rows)
        log.info("  %-5s %6d images: %s; %d %ss", part, sum(r["images"] for r in rows), listed,
                 sum(r["groups"] for r in rows), card["group_name"])  # fmt: skip
    if card["unused"]:
        log.info("  %d training images are not used (data.per_class)", card["unused"])
    if card["left_out_total"]:
        first = card["left_out"][0]
        log.warning("  left out: %d files, listed in the report; the first: %s (%s)",
                    card["left_out_total"], first["path"], first["reason"])  # fmt: skip
    if card["unknown_names"]:
        log.warning("  %d file names follow no known pattern; each counts as a %s of its own, which may hide leakage",
                    card["unknown_names"], card["group_name"])  # fmt: skip


def _trainer(
    settings: dict[str, Any], folder: Path, prepared: PreparedData, datamodule: ImageDataModule
) -> tuple[ImageClassifier, Trainer, _Parts]:
    import pytorch_lightning as lightning

    from callbacks.auroc_tracking import AUROCTracker
    from callbacks.checkpoints import AtomicCheckpointIO, best_and_last
    from callbacks.epoch_line import EpochLine
    from callbacks.mixed_precision import MixedPrecision, choose_precision, tune_machine
    from callbacks.predictions import PredictionWriter
    from callbacks.reproducibility import SeedEachEpoch
    from callbacks.run_snapshot import RunSnapshot
    from callbacks.tensorboard_review import EpochLogger, TensorBoardReview
    from callbacks.threshold import ThresholdTuning
    from lightning_modules import ImageClassifier

    options, task = settings["trainer"], settings["task"]
    tune_machine()
    _quiet_libraries()
    choice = choose_precision(options["precision"], options["accelerator"])
    lightning.seed_everything(settings["seed"], workers=True, verbose=False)
    module = ImageClassifier(
        settings["model"], task["classes"], task["positive"], options["learning_rate"], options["weight_decay"]
    )
    _write_yaml(settings, folder / "config.yaml")
    snapshot = RunSnapshot(folder / "run.json", _facts(settings, prepared, choice))
    parts = _Parts(
        EpochLine(options["progress_bar"]),
        AUROCTracker(folder / "history.csv"),
        ThresholdTuning(**settings["threshold"], positive=task["positive"], group_name=task["group_name"]),
        snapshot,
    )
    callbacks: list[lightning.Callback] = [
        MixedPrecision(choice),
        SeedEachEpoch(settings["seed"]),
        parts.tuning,
        PredictionWriter(folder / "predictions", task["positive"]),
        TensorBoardReview(task["positive"], prepared.phantom),
        parts.line,
        parts.tracker,
        snapshot,
        best_and_last(folder / "checkpoints"),
    ]
    if options["patience"] is not None:
        callbacks.append(
            lightning.callbacks.EarlyStopping(
                OBJECTIVE, mode="max", patience=options["patience"], check_on_train_epoch_end=True
            )
        )
    trainer = lightning.Trainer(
        accelerator=options["accelerator"],
        devices=1,
        precision=cast(Any, choice.value),
        max_epochs=options["max_epochs"],
        deterministic=options["deterministic"],
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=EpochLogger(folder, name="", version="tensorboard", default_hp_metric=False),
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000,  # epochs are logged; steps are not
        enable_progress_bar=False,  # EpochLine has its own
        enable_model_summary=False,
    )
    return module, trainer, parts


def _facts(settings: dict[str, Any], prepared: PreparedData, choice: PrecisionChoice) -> dict[str, Any]:
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    return {
        "command": "python train.py " + " ".join(shlex.quote(item) for item in overrides),
        "overrides": overrides,
        "seeds": {"seed": settings["seed"], "split": settings["split"]["seed"]},
        "manifest_sha256": prepared.manifest.sha256,
        "split_sha256": prepared.splits.sha256,
        "phantom": prepared.phantom,
        "precision": {"value": choice.value, "reason": choice.reason},
        "notice": RESEARCH_NOTICE,
    }


def _fit(
    trainer: Trainer, module: ImageClassifier, datamodule: ImageDataModule, checkpoint: Path | None, folder: Path
) -> None:
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        _say_interrupted(folder)
        sys.exit(INTERRUPTED)
    if trainer.interrupted:
        _say_interrupted(folder)
        sys.exit(INTERRUPTED)


def _say_interrupted(folder: Path) -> None:
    if (folder / "checkpoints" / "last.ckpt").is_file():
        log.warning("stopped. Go on with:  python train.py resume=%s", shlex.quote(_short(folder)))
    else:
        log.warning("stopped before the first epoch ended; there is nothing to resume in %s", _short(folder))


def _score(
    trainer: Trainer, module: ImageClassifier, datamodule: ImageDataModule, parts: _Parts, folder: Path
) -> int | None:
    """Score validation and test once with the best weights; the operating point is fixed between the two."""
    from callbacks.checkpoints import store_threshold

    cast(Any, trainer.logger).fitting = False
    best = folder / "checkpoints" / "best.ckpt"
    trainer.validate(module, datamodule=datamodule, ckpt_path=best, verbose=False, weights_only=True)
    store_threshold(best, float(module.threshold))
    # The module already holds the best weights and the threshold; the test path cannot change either.
    trainer.test(module, datamodule=datamodule, verbose=False)
    assert parts.tuning.operating_point is not None
    _write_json(parts.tuning.operating_point.to_dict(), folder / "threshold.json")
    return parts.tracker.best_epoch


def _judge(settings: dict[str, Any], folder: Path, prepared: PreparedData, parts: _Parts) -> dict[str, Any]:
    """metrics.json: from the predictions files, beside a baseline that sees 16 x 16 pixels."""
    from datamodules.thumbnails import thumbnails
    from evaluation.baseline import domain_auc, thumbnail_scores
    from evaluation.predictions import Predictions, read_predictions, write_predictions
    from evaluation.summary import evaluate_run

    task, manifest = settings["task"], prepared.manifest
    rows = {part: prepared.splits.rows(part) for part in ("train", "val", "test")}
    small = {part: thumbnails(prepared.pixels, rows[part]) for part in rows}
    positive = manifest.targets == manifest.classes.index(task["positive"])
    scored: dict[str, Predictions] = {}
    for part in ("val", "test"):
        scored[part] = read_predictions(folder / "predictions" / f"{part}.csv", manifest.classes, task["positive"])
        frame = scored[part].frame.copy()
        scores = thumbnail_scores(small["train"], positive[rows["train"]], small[part])
        for name in manifest.classes:
            frame[f"prob_{name}"] = scores if name == task["positive"] else 1.0 - scores
        write_predictions(folder / "predictions" / f"thumbnail_{part}.csv", frame)
        scored[f"thumbnail_{part}"] = Predictions(frame, manifest.classes, task["positive"])
    groups = manifest.frame["group_id"].to_numpy(dtype=str)
    domain = {}
    for index, name in enumerate(manifest.classes):
        ours, theirs = (manifest.targets[rows[part]] == index for part in ("train", "test"))
        domain[name] = domain_auc(
            small["train"][ours], small["test"][theirs],
            groups[rows["train"]][ours], groups[rows["test"]][theirs], seed=settings["split"]["seed"],
        )  # fmt: skip
    assert parts.tuning.operating_point is not None
    metrics = evaluate_run(
        scored["val"], scored["test"], parts.tuning.operating_point,
        baseline_val=scored["thumbnail_val"], baseline_test=scored["thumbnail_test"], domain_aucs=domain,
        title=f"{task['title']}: {settings['model']['name']}", task=task["name"], model=settings["model"]["name"],
        phantom=prepared.phantom, group_name=task["group_name"], bootstrap=settings["evaluation"]["bootstrap"],
        confidence=settings["evaluation"]["confidence"], seed=settings["split"]["seed"],
        subgroup_columns=manifest.subgroup_columns,
    )  # fmt: skip
    _write_json(metrics, folder / "metrics.json")
    return metrics


def _model_description(settings: dict[str, Any], prepared: PreparedData, metrics: dict[str, Any]) -> dict[str, Any]:
    model = settings["model"]
    return {
        "title": ("Phantom data - " if prepared.phantom else "") + metrics["title"],
        "notice": RESEARCH_NOTICE,
        "network": model,
        "classes": settings["task"]["classes"],
        "positive": settings["task"]["positive"],
        "preprocessing": {
            "size": model["image_size"], "channels": model["channels"], "resize": "squash, area averaging",
            "scale": 1 / 255, "mean": model["mean"], "std": model["std"],
        },
        "threshold": metrics["threshold"],
        "manifest_sha256": prepared.manifest.sha256,
        "split_sha256": prepared.splits.sha256,
        "phantom": prepared.phantom,
    }  # fmt: skip


def _results(metrics: dict[str, Any]) -> dict[str, float]:
    """Final figures by tag, for TensorBoard and sweeps."""
    found: dict[str, float] = {}
    for part, split in metrics["splits"].items():
        values = {"auroc": split["auroc"]}
        if part == "test":
            values |= {"average_precision": split["average_precision"], "accuracy": split["at_threshold"]["accuracy"]}
        values |= {name: split["at_threshold"][name] for name in ("sensitivity", "specificity")}
        found |= {
            f"{part}/{name}": float("nan") if v["value"] is None else float(v["value"]) for name, v in values.items()
        }
    return found


def _report(
    settings: dict[str, Any], folder: Path, prepared: PreparedData, trainer: Trainer, results: dict[str, float]
) -> Path:
    from callbacks.mistakes import save_mistakes, worst_mistakes
    from callbacks.tensorboard_review import log_hyperparameters, log_mistakes
    from evaluation.predictions import read_predictions
    from evaluation.report import write_report

    task = settings["task"]
    test = read_predictions(folder / "predictions" / "test.csv", tuple(task["classes"]), task["positive"])
    threshold = json.loads((folder / "threshold.json").read_text(encoding="utf-8"))["threshold"]
    mistakes = worst_mistakes(test, threshold, settings["evaluation"]["mistakes"])
    images = (
        prepared.pixels[prepared.splits.rows("test")[[item.row for item in mistakes]]]
        if mistakes
        else prepared.pixels[:0]
    )
    save_mistakes(mistakes, images, folder / "figures" / "mistakes")
    logger = cast(Any, trainer.logger)
    if mistakes:
        log_mistakes(logger, mistakes, images, prepared.phantom, trainer.current_epoch)
    chosen = {
        "seed": settings["seed"],
        "augmentation": settings["augmentation"]["name"],
        **{name: settings["model"][name] for name in ("image_size", "dropout", "hidden")},
        **{name: settings["trainer"][name] for name in ("learning_rate", "weight_decay", "max_epochs")},
        **{name: settings["data"][name] for name in ("batch_size", "per_class")},
    }
    # val/auroc is the curve over epochs; the figure of the kept epoch gets a name of its own.
    final = {"val/best_auroc" if tag == OBJECTIVE else tag: value for tag, value in results.items()}
    log_hyperparameters(logger, chosen, final, trainer.current_epoch)
    return write_report(folder)


def _print_results(metrics: dict[str, Any], report: Path, clock: _Clock) -> None:
    """The short table that ends a run, what to worry about, and where the report is."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table

    from evaluation.summary import format_interval

    threshold, group = metrics["threshold"], metrics["group_name"]
    title = ("Phantom data - " if metrics["phantom"] else "") + metrics["title"]
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("", "validation", "test (locked)"):
        table.add_column(column, justify="left")
    sides = [metrics["splits"][part] for part in ("val", "test")]
    table.add_row("AUROC", *(format_interval(side["auroc"]) for side in sides))
    for name, at in (("0.5", "at_0.5"), (f"{threshold['threshold']:.4g} ({threshold['rule']})", "at_threshold")):
        table.add_row(f"[bold]at {name}[/bold]", "", "")
        for metric in ("accuracy", "sensitivity", "specificity"):
            table.add_row(f"  {metric}", *(format_interval(side[at][metric]) for side in sides))
    console = Console(highlight=False)
    console.print()
    console.print(table)
    console.print(
        f"{metrics['confidence']:.0%} intervals from {metrics['bootstrap']['resamples']:,} resamples of {group}s\n"
    )
    price = Table(
        title="price of recall, on validation", title_justify="left", title_style="", box=None, pad_edge=False
    )
    for column in ("rule", "threshold", "sensitivity", "specificity"):
        price.add_column(column, justify="left" if column == "rule" else "right")
    for row in threshold["price"]:
        shown = ("threshold", "sensitivity", "specificity")
        price.add_row(row["rule"], *("-" if row[name] is None else f"{row[name]:.3f}" for name in shown))
    console.print(price)
    console.print()
    for worry in metrics["worries"]:
        console.print(f"[bold]{worry['level']}: {worry['title']}[/bold]")
        console.print(Padding(worry["text"], (0, 0, 0, 2)), markup=False)
    console.print(f"\nreport: {_short(report)}   ({time.perf_counter() - clock.started:.0f} s in all)", soft_wrap=True)


@contextmanager
def _progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar in a terminal; nothing where the output is a file, or where there is nothing to do."""
    from tqdm import tqdm

    bar: Any = None

    def advance(count: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, desc=title, unit=" images", leave=False, disable=None, dynamic_ncols=True)
        bar.update(count)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.close()


@contextmanager
def _no_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda count: None


def _quiet_libraries() -> None:
    """Messages of libraries that say nothing to a person who runs this command."""
    import warnings

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    # Our loaders plan whole batches and choose their workers; Lightning's advice is about other loaders.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*The number of training batches.*")
    # Lightning 2.6 calls torch's pytree in the old way.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    # Resuming reuses the folder on purpose.
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")


def _write_json(content: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(beside, path)


def _write_yaml(settings: dict[str, Any], path: Path) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    OmegaConf.save(OmegaConf.create(settings), beside)
    os.replace(beside, path)


def _short(path: Path) -> str:
    """Relative to where the command was typed, when that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    """Run one configuration; the objective of a sweep is val/auroc, NaN for a run that failed."""
    from datamodules.errors import DataError

    multirun = HydraConfig.get().mode is RunMode.MULTIRUN
    try:
        return float(train(cfg)[OBJECTIVE])
    except (DataError, ValueError, OSError) as error:
        folder = Path(HydraConfig.get().runtime.output_dir)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        if multirun:
            log.error("error: %s", error)
            return float("nan")
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)


if __name__ == "__main__":
    sys.argv[1:] = checked_arguments(sys.argv[1:])
    main()
