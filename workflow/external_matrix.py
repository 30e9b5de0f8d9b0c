"""Several external tests as one matrix: trained on x tested on, read from their records; nothing is scored again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from conf.output import short, write_json
from conf.schema import RESEARCH_NOTICE
from evaluation.external_page import write_matrix_page
from evaluation.pages import write_whole
from evaluation.robustness import beyond_chance
from evaluation.transfer import COMPARED
from evaluation.wording import listed, plural, worry
from workflow.ensembles import whole_folder
from workflow.judged_folder import promise_worries
from workflow.records import folder_for, read_json, shown, started
from workflow.robustness_table import print_table, stacked

KIND: Final = "external matrix"
RECORD: Final = "external.json"


def is_external(folders: Sequence[Path]) -> bool:
    """Whether all folders are external tests.

    Raises:
        ValueError: some are and some are not.
    """
    found = [folder for folder in folders if (folder / RECORD).is_file()]
    if found and len(found) < len(folders):
        other = next(folder for folder in folders if folder not in found)
        raise ValueError(
            f"aggregate: {short(found[0])} is an external test and {short(other)} is not. Give runs, or external tests."
        )
    return bool(found)


def matrix_of(folders: Sequence[Path], *, command: str, output: Path | None = None) -> tuple[dict[str, Any], Path]:
    """Put external tests side by side: one row a run, one column a data set.

    Args:
        folders: that ``evaluate.py run=RUN task=TASK data.root=FOLDER`` made.
        command: as it was typed. ``output``: folder that is made; None: ``evaluations/external/<date_time>``.

    Returns:
        The content of aggregate.json, and the folder. ``tested``: names of the data sets; ``rows``: one a run with its own test
        part and ``cells``, by name of the data set.

    Raises:
        ValueError: intervals of different confidence, or a run tested twice on the same data.
    """
    records = [read_json(folder / RECORD, "it is no external test") for folder in folders]
    level = records[0]["confidence"]
    for folder, record in zip(folders, records, strict=True):
        if record["confidence"] != level:
            raise ValueError(
                f"aggregate: the intervals are of different confidence: {level} in {short(folders[0])} and "
                f"{record['confidence']} in {short(folder)}. Make one of the tests again with confidence={level}."
            )
    folder = folder_for("external", output)
    names = _tested(records)
    rows: dict[str, dict[str, Any]] = {}
    for record, name, source in zip(records, names, folders, strict=True):
        for held in record["rows"]:
            # By weights, because a record may have been made from another folder.
            row = rows.setdefault(f"{held.get('weights_sha256') or held['run']} {held['threshold']}", _row(held))
            if name in row["cells"]:
                raise ValueError(f"aggregate: {row['name']} was tested on {name} twice. Give one of the two records.")
            row["cells"][name] = _cell(held, source)
    content = {
        **{"schema": 1, "kind": KIND, "notice": RESEARCH_NOTICE, "command": command, "made": started()},
        "title": f"Trained on, tested on: {plural(len(rows), 'model')}, {plural(len(set(names)), 'other data set')}",
        "phantom": any(bool(record["phantom"]) for record in records),
        "confidence": level,
        "source": [shown(source) for source in folders],
        "tested": list(dict.fromkeys(names)),
        "rows": list(rows.values()),
    }
    content |= {"headline": _headline(content), "worries": _worries(content)}
    with whole_folder(folder) as beside:
        write_json(content, beside / "aggregate.json")
        write_whole(beside / "aggregate.csv", _table(content).to_csv(index=False, lineterminator="\n").encode())
        write_matrix_page(beside, content)
    return content, folder


def _tested(records: Sequence[dict[str, Any]]) -> list[str]:
    """What the data sets are called; those of one name but other images or classes are told apart by a number."""
    known: dict[str, list[str]] = {}
    names = []
    for record in records:
        about = record["tested_on"]
        what = json.dumps([about[key] for key in ("part", "manifest_sha256", "mapping")])
        name = about["name"] if about["part"] == "all" else f"{about['name']}, {about['part']} part"
        same = known.setdefault(name, [])
        if what not in same:
            same.append(what)
        number = same.index(what) + 1
        names.append(name if number == 1 else f"{name} ({number})")
    return names


def _row(held: dict[str, Any]) -> dict[str, Any]:
    return {**{key: held[key] for key in ("name", "run", "trained_on", "threshold", "rule", "own")}, "cells": {}}


def _cell(held: dict[str, Any], source: Path) -> dict[str, Any]:
    metrics = read_json(source / held["folder"] / "metrics.json", "this external test is not whole")
    return {
        **held["external"],
        "difference": held["difference"],
        "promise": held["promise"],
        "seen": held["seen"]["images"],
        "positive_class": metrics["positive_class"],
        "report": shown(source / held["folder"] / "report.html"),
    }


def _headline(content: dict[str, Any]) -> str:
    cells = [cell for row in content["rows"] for cell in row["cells"].values()]
    start = (
        f"{plural(len(cells), 'test')} of {plural(len(content['rows']), 'model')} on data that they were not trained on"
    )
    paired = [cell["difference"]["auroc"] for cell in cells if cell["difference"]]
    fallen = sum(beyond_chance(change) and change["value"] < 0 for change in paired)
    if not paired:
        return f"{start}."
    return f"{start}. Compared with the own test part, AUROC is lower beyond chance in {fallen} of {len(paired)}."


def _worries(content: dict[str, Any]) -> list[dict[str, str]]:
    cells = {f"{row['name']} on {name}": cell for row in content["rows"] for name, cell in row["cells"].items()}
    found = promise_worries({called: cell["promise"] for called, cell in cells.items()})
    positive = sorted({str(cell["positive_class"]) for cell in cells.values()})
    if len(positive) > 1:
        text = f"What counts as positive differs between the models: {listed(positive)}. Rows are not of the same question."
        found.append(worry("caution", "Different positive classes", text))
    if len({cell["n"] for cell in cells.values()}) > len(content["tested"]):
        text = (
            "Images that a model has seen in training are left out, so that models may be tested on different images."
        )
        found.append(worry("note", "Not the same images", text))
    return found


def _table(content: dict[str, Any]) -> pd.DataFrame:
    """One row a model and data set, its own test part first."""
    found = []
    for row in content["rows"]:
        own = {} if row["own"] is None else {"own test part": row["own"]}
        for name, cell in {**own, **row["cells"]}.items():
            line = {
                "run": row["run"],
                "trained_on": row["trained_on"],
                "tested_on": name,
                "threshold": row["threshold"],
            }
            line |= {key: cell[key] for key in ("n", "n_positive")}
            for metric in COMPARED:
                line |= {metric: cell[metric]["value"]}
                line |= {f"{metric} {end}": cell[metric][end] for end in ("low", "high")}
            promise = cell.get("promise")
            line["promise"] = "" if promise is None else "kept" if promise["kept"] else "broken"
            found.append(line)
    return pd.DataFrame(found)


def print_matrix(content: dict[str, Any], console: Console) -> None:
    """Print what aggregate.json of external tests says: a row for each model and data set."""
    table = Table(title=escape(content["title"]), title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("model", max_width=30, overflow="fold")
    for column in ("tested on", "images", "AUROC", "sensitivity", "specificity"):
        table.add_column(column, no_wrap=column != "tested on", max_width=24 if column == "tested on" else None)
    for row in content["rows"]:
        own = {} if row["own"] is None else {f"own test: {row['trained_on']}": row["own"]}
        for number, (name, cell) in enumerate({**own, **row["cells"]}.items()):
            figures = [stacked(cell[metric]) for metric in COMPARED]
            table.add_row(escape(row["name"]) if number == 0 else "", escape(name), f"{cell['n']:,}", *figures)
    console.print()
    print_table(table, console)
    console.print(f"\n[bold]{escape(content['headline'])}[/bold]")
    for item in content["worries"]:
        console.print(f"[bold]{item['level']}: {escape(item['title'])}[/bold]")
        console.print(Padding(escape(item["text"]), (0, 0, 0, 2)))
