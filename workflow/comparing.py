"""The steps of ``evaluate.py compare=[A,B]``: read the folders, compare in pairs, write comparison.json and report.html."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from conf.output import short, write_json
from conf.schema import RESEARCH_NOTICE
from evaluation.bootstrap import Bootstrap, Resampling
from evaluation.comparison_page import write_comparison_page
from evaluation.decided import Decided, intervals_of, ordered, resample
from evaluation.pages import write_whole
from evaluation.paired import compare_decided, holm, require_same_images, row_of, signed
from evaluation.paired_words import p_text, words_of
from evaluation.wording import Worry, figure, listed, worry
from workflow.ensembles import require_new, whole_folder
from workflow.judged_folder import JudgedFolder, promise_worries, promised, read_judged
from workflow.robustness_table import print_table

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PRINTED: Final = ("auroc", "macro_auroc", "sensitivity", "specificity", "balanced_accuracy")


def compare_runs(
    folders: Sequence[Path],
    *,
    command: str,
    output: Path | None = None,
    bootstrap: int | None = None,
    confidence: float | None = None,
    interval: str | None = None,
) -> tuple[dict[str, Any], Path]:
    """Compare judged folders on the same test images: the first (A) with every other one.

    Args:
        folders: two or more: runs, ensembles, records of evaluate.py.
        command: as it was typed. ``output``: folder that is made; None: ``evaluations/<task>/<date_time>``.
        bootstrap: resamples. ``confidence``: of the intervals. ``interval``: how they are read off. None: as in the first folder.

    Returns:
        The content of comparison.json, and the folder. ``runs``: one entry a folder with its letter, name and own figures;
        ``pairs``: A against each other one, as :func:`evaluation.paired.compare` gives it, with ``first``, ``second``, ``p``,
        ``p_adjusted`` and ``words``; ``headline``, ``worries``.

    Raises:
        ValueError: with a message for the user.
    """
    held = _read(folders)
    how = _resampling(held[0], bootstrap, confidence, interval)
    task = str(held[0].metrics["task"])
    moment = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    output = (output or Path("evaluations") / task / moment).absolute()
    require_new(output)
    first = held[0].test
    sides = [first, *(other.test.like(first.predictions) for other in held[1:])]
    drawn = [resample(side, how) for side in sides]
    content = {
        **_facts(held, how, command),
        "runs": [
            _run(run, side, made, name, how) | {"letter": letter}
            for run, side, made, name, letter in zip(held, sides, drawn, _names(held), LETTERS, strict=False)
        ],
        "pairs": _pairs(held, sides, drawn, how),
    }
    content["headline"] = _headline(content)
    content["worries"] = _worries(held, sides)
    with whole_folder(output) as folder:
        write_json(content, folder / "comparison.json")
        write_whole(folder / "scores.csv", _scores(sides).to_csv(index=False, lineterminator="\n").encode())
        write_comparison_page(folder)
    return content, output


def _read(folders: Sequence[Path]) -> list[JudgedFolder]:
    """The folders, checked to answer the same question about the same images."""
    if len(folders) < 2:
        raise ValueError(
            f"compare: {len(folders)} folder given; a comparison needs at least two: compare=[RUN_A,RUN_B]."
        )
    if len(folders) > len(LETTERS):
        raise ValueError(f"compare: {len(folders)} folders given; at most {len(LETTERS)} can be compared at once.")
    resolved = [folder.resolve() for folder in folders]
    for folder in folders:
        if resolved.count(folder.resolve()) > 1:
            raise ValueError(f"compare: {folder} is given twice. Give different folders.")
    held = [read_judged(folder) for folder in folders]
    first = held[0]
    for other in held[1:]:
        _require_same_question(first, other)
        names = (short(first.folder), short(other.folder))
        try:
            require_same_images(first.test.predictions, other.test.predictions, names)
        except ValueError as error:
            raise ValueError(f"compare: {error}") from error
    return held


def _require_same_question(first: JudgedFolder, other: JudgedFolder) -> None:
    """Tasks and classes agree; a file of predictions that was judged on its own has no task of ours."""
    given = "given" in (first.metrics.get("test_kind"), other.metrics.get("test_kind"))
    for key in ("task", "classes", "positive", "positive_class", "negative_class"):
        ours, theirs = first.metrics[key], other.metrics[key]
        if ours != theirs and not (given and key not in ("classes", "positive")):
            raise ValueError(
                f"compare: the folders answer different questions: {key} is {ours} in {short(first.folder)} and {theirs} in "
                f"{short(other.folder)}. Compare runs of one task."
            )


def _resampling(
    first: JudgedFolder, bootstrap: int | None, confidence: float | None, interval: str | None
) -> Resampling:
    own = first.metrics["bootstrap"]
    return Resampling(
        resamples=int(own["resamples"]) if bootstrap is None else bootstrap,
        confidence=float(first.metrics["confidence"]) if confidence is None else confidence,
        seed=(int(own["seed"]), 1),  # as of a test part
        interval=str(own["method"]) if interval is None else interval,
    )


def _facts(held: Sequence[JudgedFolder], how: Resampling, command: str) -> dict[str, Any]:
    first = held[0]
    metrics = first.metrics
    names = _names(held)
    what = " against ".join(names) if len(held) == 2 else f"{len(held)} models"
    return {
        "schema": 1,
        "kind": "comparison",
        "title": f"{metrics['title'].split(':')[0]}: {what}",
        "task": metrics["task"],
        "phantom": any(bool(run.metrics["phantom"]) for run in held),
        "leak": next((run.metrics["leak"] for run in held if run.metrics.get("leak")), None),
        "classes": metrics["classes"],
        "positive": metrics["positive"],
        "positive_class": metrics["positive_class"],
        "negative_class": metrics["negative_class"],
        "group_name": metrics["group_name"],
        "test_kind": metrics.get("test_kind"),
        "confidence": how.confidence,
        "bootstrap": {
            "resamples": how.resamples,
            "unit": metrics["group_name"],
            "method": how.interval,
            "seed": int(metrics["bootstrap"]["seed"]),
        },
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": held[0].record.get("version"),
        "command": command,
        "notice": RESEARCH_NOTICE,
    }


def _names(held: Sequence[JudgedFolder]) -> list[str]:
    """What the models are called; those of one name are told apart by their thresholds, or else by their folders."""
    names = [run.name for run in held]
    cuts = ["thresholds of the folds" if run.threshold is None else f"threshold {run.threshold:.4g}" for run in held]
    for more in (cuts, [run.folder.resolve().name for run in held]):
        names = [
            f"{name}, {further}" if names.count(name) > 1 else name for name, further in zip(names, more, strict=True)
        ]
    return names


def _run(run: JudgedFolder, side: Decided, drawn: Bootstrap, name: str, how: Resampling) -> dict[str, Any]:
    intervals = intervals_of(side, drawn, how.confidence)
    threshold = run.metrics["threshold"]
    return {
        "name": name,
        "folder": short(run.folder),
        "title": run.metrics["title"],
        "model": run.metrics["model"],
        "threshold": run.threshold,
        "rule": threshold["rule"],
        "promise": promised(run.metrics),
        "command": run.record.get("command"),
        **{key: run.record.get(key) for key in ("manifest_sha256", "split_sha256", "weights_sha256")},
        "predictions_sha256": sha256(run.path(run.test_part).read_bytes()).hexdigest(),
        "figures": {name: intervals[name].to_dict() for name in ordered(intervals)},
    }


def _pairs(
    held: Sequence[JudgedFolder], sides: Sequence[Decided], drawn: Sequence[Bootstrap], how: Resampling
) -> list[dict[str, Any]]:
    """A against every other one; p values of DeLong's test, and only those, adjusted where there are several."""
    metrics = held[0].metrics
    pairs = [
        compare_decided(sides[0], sides[number], drawn[0], drawn[number], how, metrics["group_name"])
        for number in range(1, len(sides))
    ]
    tested = [pair["delong"]["difference"]["p"] if pair["delong"] else None for pair in pairs]
    adjusted = holm(tested)
    classes = (metrics["positive_class"], metrics["negative_class"])
    found = []
    for number, pair in enumerate(pairs, start=1):
        p, several = adjusted[number - 1], len(pairs) > 1
        words = words_of(
            pair, ("A", LETTERS[number]), classes, metrics["group_name"], adjusted_p=p if several else None
        )
        order = {"first": 0, "second": number, "p": tested[number - 1], "p_adjusted": p if several else None}
        found.append({**order, **pair, "words": words})
    return found


def _headline(content: dict[str, Any]) -> str:
    pairs = content["pairs"]
    if len(pairs) == 1:
        return str(pairs[0]["words"]["headline"])
    above = [LETTERS[pair["second"]] for pair in pairs if pair["words"]["ranking"] == "b"]
    below = [LETTERS[pair["second"]] for pair in pairs if pair["words"]["ranking"] == "a"]
    parts = []
    if above:
        parts.append(f"{listed(above)} {'ranks' if len(above) == 1 else 'rank'} the images better than A")
    if below:
        parts.append(f"{listed(below)} {'ranks' if len(below) == 1 else 'rank'} them worse")
    if len(above) + len(below) < len(pairs):
        rest = [LETTERS[p["second"]] for p in pairs if p["words"]["ranking"] is None]
        parts.append(f"there is no evidence that {' or '.join(rest)} differs from A in ranking")
    text = "; ".join(parts)
    return (
        f"{text[0].upper()}{text[1:]} (p values of AUROC adjusted by Holm's method for {len(pairs)} comparisons; those of "
        "sensitivity and specificity are not adjusted)."
    )


def _worries(held: Sequence[JudgedFolder], sides: Sequence[Decided]) -> list[Worry]:
    """What a reader of the comparison has to know."""
    found: list[Worry] = []
    leaky = [LETTERS[number] for number, run in enumerate(held) if run.metrics.get("leak")]
    if leaky:
        unit = held[0].metrics["group_name"]
        text = f"The split of {listed(leaky)} puts images of one {unit} on both sides, so its figures may be too good."
        found.append(worry("alarm", "LEAKY split", text))
    found += promise_worries({letter: promised(run.metrics) for letter, run in zip(LETTERS, held, strict=False)})
    if any(bool(run.metrics["phantom"]) for run in held):
        found.append(worry("note", "Phantom data", "Generated images: this says nothing about patients."))
    for key, what in (
        ("manifest_sha256", "images, labels or groups"),
        ("split_sha256", "training and validation images"),
    ):
        known = [str(run.record[key]) for run in held if run.record.get(key)]
        if len(set(known)) > 1:
            text = (
                f"The models had different {what} ({key} differs), though the test images are the same. A difference "
                "between them may come from the data and not from the method."
            )
            found.append(worry("caution", "Trained on different data", text))
            break
    if sides[0].predictions.labels.sum() < 20 or (sides[0].predictions.labels == 0).sum() < 20:
        text = "One class has fewer than 20 test images; most differences cannot be seen in so few."
        found.append(worry("caution", "Few test images", text))
    text = (
        "Two runs that differ in more than their method (seed, weights, epochs) differ by chance too: compare the mean over "
        "several seeds before calling one method better (python evaluate.py aggregate=FOLDER)."
    )
    if all("members" not in run.record for run in held):
        found.append(worry("note", "One run each", text))
    return found


def _scores(sides: Sequence[Decided]) -> pd.DataFrame:
    """One row an image: score and decision of every model."""
    frame = sides[0].predictions.frame[["image_id", "group_id", "label"]].copy()
    for number, side in enumerate(sides):
        frame[f"score_{LETTERS[number]}"] = side.predictions.scores
        frame[f"called_positive_{LETTERS[number]}"] = side.flagged.astype(int)
    return frame


def print_comparison(content: dict[str, Any], console: Console | None = None) -> None:
    """Print what comparison.json says: the answer, the models, and the differences.

    Args:
        content: of :func:`compare_runs`. ``console``: where to; the terminal if None.
    """
    console = console or Console(highlight=False)
    console.print(f"\n[bold]{escape(content['headline'])}[/bold]\n")
    for run in content["runs"]:
        cut = "thresholds of the folds" if run["threshold"] is None else f"threshold {run['threshold']:.4g}"
        kept = (
            "" if run["promise"] is None else f", promise {'kept' if run['promise']['kept'] else '[bold]broken[/bold]'}"
        )
        console.print(f"[bold]{run['letter']}[/bold]  {escape(run['name'])} ({cut}, {escape(run['rule'])}{kept})")
    for pair in content["pairs"]:
        console.print()
        print_table(_table(content, pair), console)
    console.print()
    for pair in content["pairs"]:
        for sentence in pair["words"]["sentences"]:
            console.print(escape(sentence))
    for item in content["worries"]:
        console.print(f"[bold]{item['level']}: {escape(item['title'])}[/bold]")
        console.print(Padding(escape(item["text"]), (0, 0, 0, 2)))


def _table(content: dict[str, Any], pair: dict[str, Any]) -> Table:
    """One row a figure: A, the other one, the difference in pairs and what the test says."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    runs = [content["runs"][pair[side]] for side in ("first", "second")]
    letters = [run["letter"] for run in runs]
    for column in ("", *letters, f"{letters[1]} - {letters[0]}", "test"):
        table.add_column(column, no_wrap=True)
    labels = {row["name"]: row["label"] for row in pair["differences"]}
    for name in [name for name in PRINTED if name in runs[0]["figures"]]:
        row = row_of(pair, name)
        p = row["p"] if row else None
        if name == "auroc" and pair["p_adjusted"] is not None:
            p = pair["p_adjusted"]
        shown = [figure(run["figures"][name]["value"]) for run in runs]
        said = "" if p is None else p_text(p)
        table.add_row(labels[name], *shown, signed(row["difference"]) if row else "-", said)
    return table
