"""The end of a prediction in the terminal: how many images were called what, and what to hold against it."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from conf.output import short
from evaluation.panel import printable, shortened
from workflow.answers import ABSTAIN
from workflow.predicting import Prediction
from workflow.prediction_rows import CALIBRATED
from workflow.predictor import Predictor

_REASON_WIDTH = 90


def print_prediction(prediction: Prediction, predictor: Predictor, console: Console | None = None) -> None:
    """Print the counts by decision, the first unreadable files, the threshold, and where the files are."""
    console = console or Console(highlight=False)
    console.print()
    if predictor.about.phantom:
        console.print("[bold]Phantom data: this model was trained on drawn images.[/bold]")
    console.print(f"[bold]{escape(predictor.about.title)}[/bold]")
    console.print(_decisions(prediction, predictor))
    if prediction.groups:
        console.print()
        console.print(_groups(prediction, predictor))
    console.print()
    _print_unreadable(prediction, console)
    left_out = prediction.record["images"]["left_out"]
    if left_out:
        was = "others were" if left_out > 1 else "other was"
        console.print(
            f"{left_out:,} {was} left out: not named like an image, or a linked folder, which is not followed.\n"
        )
    console.print(Padding(predictor.point.statement, 0), markup=False)
    caution = prediction.record["caution"]
    if caution:
        console.print(Padding(f"caution: {caution}", (1, 0, 0, 0)), markup=False)
    for sentence in _lacking(predictor):
        console.print(Padding(sentence, (1, 0, 0, 0)), markup=False)
    console.print()
    pages = [path for path in prediction.files if path.suffix == ".html"]
    for path in [*(path for path in prediction.files if path.suffix not in (".html", ".png")), *pages[:1]]:
        console.print(short(path), markup=False, soft_wrap=True)
    console.print(predictor.about.notice, markup=False)


def _decisions(prediction: Prediction, predictor: Predictor) -> Table:
    counts, about = prediction.counts, predictor.about
    table = _plain("image")
    for name in (about.positive_called, about.negative_called):
        table.add_row(escape(name), *_share(counts.decisions[name], counts.images))
        if name == about.negative_called and predictor.borderline_from is not None:
            start, end = predictor.borderline_from, predictor.point.threshold
            table.add_row(
                f"  of these borderline (score {start:.4g} to {end:.4g})", *_share(counts.borderline, counts.images)
            )
    if counts.decisions[ABSTAIN]:
        table.add_row(ABSTAIN, *_share(counts.decisions[ABSTAIN], counts.images))
        for reason, number in counts.reasons.most_common(4):
            table.add_row(f"  {escape(_shortened(reason))}", f"{number:,}", "")
    if counts.unreadable:
        table.add_row("unreadable", *_share(counts.unreadable, counts.images))
    return table


def _groups(prediction: Prediction, predictor: Predictor) -> Table:
    about, groups = predictor.about, prediction.groups
    table = _plain(about.group_name)
    for name in (about.positive_called, about.negative_called, ABSTAIN, None):
        number = sum(group.decision == name for group in groups)
        if number or name in (about.positive_called, about.negative_called):
            table.add_row(escape(name or "unreadable"), *_share(number, len(groups)))
    return table


def _lacking(predictor: Predictor) -> list[str]:
    """What a model from before these existed does not have."""
    found = []
    if all(check is None for check in predictor.checks):
        found.append("This model has no input check: it answers any picture, also one of another kind.")
    if predictor.calibrator.method == "none":
        column = CALIBRATED + predictor.about.positive_called
        found.append(f"The scores of this model are not recalibrated; the column {column} repeats them.")
    return found


def _plain(unit: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("")
    table.add_column(f"{unit}s", justify="right")
    table.add_column("share", justify="right")
    return table


def _share(number: int, total: int) -> tuple[str, str]:
    return f"{number:,}", f"{number / total:.1%}" if total else ""


def _shortened(text: str) -> str:
    return text if len(text) <= _REASON_WIDTH else text[: _REASON_WIDTH - 3] + "..."


def _print_unreadable(prediction: Prediction, console: Console) -> None:
    counts = prediction.counts
    if not counts.unreadable:
        return
    console.print(f"{counts.unreadable:,} could not be read:")
    for name, error in counts.errors:
        text = printable(error.removeprefix(f"{name.rpartition('/')[2]}: "))
        console.print(Padding(f"{shortened(name)}: {text}", (0, 0, 0, 2)), markup=False)
    if counts.unreadable > len(counts.errors):
        console.print(f"  and {counts.unreadable - len(counts.errors):,} more, see the column error")
    console.print()
