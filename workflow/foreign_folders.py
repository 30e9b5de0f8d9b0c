"""A finished run and folders of images that it should not answer on: how many does its input check turn away?"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from conf.output import short, write_json
from conf.schema import RESEARCH_NOTICE, EvaluationConfig
from datamodules.images import looks_like_image
from datamodules.prepared import PreparedData
from datamodules.progress import progress_bar, silent
from evaluation.foreign_inputs_page import write_foreign_page
from evaluation.input_check import InputCheck
from workflow.ensembles import whole_folder
from workflow.foreign_inputs import EXAMINED, Checked, Judged, content_of, judged_built_in, judged_files, judged_test
from workflow.input_checking import fitted
from workflow.own_data import own_data
from workflow.predictor import Predictor, load_predictor
from workflow.records import folder_for, shown, started
from workflow.robustness_table import print_table
from workflow.scoring import Scorer, load_scorer

SCHEMA: Final = 1
_PARTS: Final = ("train", "val", "test")
log = logging.getLogger("firstread")


def foreign_of(
    run: Path,
    folders: Sequence[Path],
    *,
    command: str,
    output: Path | None = None,
    images: int | None = None,
    seed: int = 0,
    data_root: Path | None = None,
    progress: bool = True,
) -> tuple[dict[str, Any], Path]:
    """Judge folders of foreign images, and the built-in sets, by the input check of a run.

    Args:
        run: folder of a finished run of a network, or of an ensemble; it is only read. One from before there were input checks
            is given one now, from its own data.
        folders: of images, read with all folders below them.
        command: as it was typed.
        output: folder that is made; None: ``evaluations/<task>/<date_time>``.
        images: at most how many of the test part and of each folder, drawn at random; None: 400.
        seed: of the draws. ``data_root``: where the run's data set is, if it has moved. ``progress``: show bars.

    Returns:
        The content of foreign.json, and the folder: foreign.json, distances.csv, report.html and figures.

    Raises:
        ValueError, DataError: with a message for the user; nothing is written then.
    """
    began, clock = started(), time.perf_counter()
    bar = progress_bar if progress else silent
    scorer, predictor = load_scorer(run), load_predictor(run)
    task = scorer.config["task"]
    folder = folder_for(task["name"], output)
    files = {path: _files(path, images or EXAMINED, seed) for path in folders}
    prepared = own_data(scorer, data_root, bar)
    checked = _checked(predictor, prepared, seed)
    test = judged_test(checked, prepared, seed, images or EXAMINED, bar)
    named = _names(folders)
    foreign = [
        judged_files(
            checked, f"folder_{number}", named[path], f"{len(files[path]):,} files of {shown(path)}.", files[path], bar
        )
        for number, path in enumerate(folders)
    ]
    for judged, path in zip(foreign, folders, strict=True):
        if not judged.verdicts:
            raise ValueError(
                f"foreign={path}: none of its {judged.unreadable:,} images can be read. Name another folder."
            )
    foreign += judged_built_in(checked, prepared, task, bar)
    content = {
        **_facts(scorer, predictor, prepared, command, began),
        **content_of(checked, test, foreign),
        "seed": seed,
        "seconds": round(time.perf_counter() - clock, 1),
    }
    with whole_folder(folder) as beside:
        _write_distances(beside / "distances.csv", [test, *foreign])
        write_json(content, beside / "foreign.json")
        write_foreign_page(beside, content)
    return content, folder


def print_foreign(content: dict[str, Any], console: Console | None = None) -> None:
    """Print what foreign.json says: one row a set, then the sentences."""
    console = console or Console(highlight=False)
    title = f"{escape(content['title'])}; {content['test']['n']:,} test images"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    columns = ("features\nAUROC", "features\nFPR95", "all checks\nAUROC", "all checks\nFPR95", "turned\naway")
    for column in ("set", "images", *columns):
        table.add_column(column, no_wrap=True, justify="left" if column == "set" else "right")
    table.add_row(
        "[bold]test images[/bold]", f"{content['test']['n']:,}", "", "", "", "", _share(content["test"]["abstain"])
    )
    for item in content["sets"]:
        figures = [
            text
            for kind in ("features", "checks")
            for text in (f"{item[kind]['auroc']:.3f}", _share(item[kind]["fpr95"]))
        ]
        table.add_row(escape(item["name"]), f"{item['n']:,}", *figures, _share(item["abstain"]))
    print_table(table, console)
    console.print("")
    for sentence in content["sentences"]:
        console.print(escape(sentence))


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _files(folder: Path, most: int, seed: int) -> dict[str, Path]:
    """Some images of a folder by their paths below it."""
    paths = sorted(path for path in folder.rglob("*") if looks_like_image(path) and path.is_file())
    if not paths:
        raise ValueError(f"foreign={folder}: there is no image in this folder. Name a folder of images.")
    drawn = np.sort(np.random.default_rng([seed, 9]).permutation(len(paths))[:most])
    return {paths[number].relative_to(folder).as_posix(): paths[number] for number in drawn}


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """The last part of each path, with the one before where two are called the same, or like a part of the run's own data."""
    last = [path.resolve().name for path in folders]
    return {
        path: name if last.count(name) == 1 and name not in _PARTS else "/".join(path.resolve().parts[-2:])
        for path, name in zip(folders, last, strict=True)
    }


def _checked(predictor: Predictor, prepared: PreparedData, seed: int) -> list[Checked]:
    alpha = EvaluationConfig().abstain
    assert alpha is not None
    found = []
    for part, check in zip(predictor.networks, predictor.checks, strict=True):
        network = part.description["network"]
        fresh: InputCheck | None = check
        if check is None:
            log.warning("%s has no input check; one is fitted now, from its own data", short(part.run))
            fresh = fitted(part.network, network, prepared, alpha, seed)
        if fresh is None:
            raise ValueError(
                f"{short(part.run)}: its data are too few for an input check. Give a run with more images."
            )
        found.append(Checked(part.network, network, fresh))
    return found


def _facts(scorer: Scorer, predictor: Predictor, prepared: PreparedData, command: str, began: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "title": f"Unknown inputs, {scorer.name}: {scorer.config['task']['title']}",
        "notice": RESEARCH_NOTICE,
        "command": command,
        "run": shown(scorer.run),
        "made": began,
        "version": scorer.record.get("version"),
        "phantom": prepared.phantom,
        "task": scorer.config["task"]["name"],
        "group_name": scorer.config["task"]["group_name"],
        "fitted_now": any(check is None for check in predictor.checks),
        "weights_sha256": list(predictor.weights_sha256),
        "split_sha256": prepared.splits.sha256,
    }


def _write_distances(path: Path, judged: Sequence[Judged]) -> None:
    """One row an image: how strange it is and what the check says."""
    rows: list[Mapping[str, Any]] = [
        {
            "set": item.key,
            "image": name,
            "strangeness": verdict.strangeness,
            "features": verdict.features,
            "p_value": verdict.p_value,
            "features_p_value": verdict.features_p_value,
            "reasons": "; ".join(verdict.reasons),
        }
        for item in judged
        for name, verdict in zip(item.names, item.verdicts, strict=True)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
