"""The result file: every single measurement, written after each; and what follows from them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from benchmarks.speed.cases import CONTENDERS, OURS
from benchmarks.speed.machine import in_words

Result = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """What several rounds say of one contender on one case.

    Attributes:
        speed: median over rounds of the images per second from epoch 2 on; None where it failed or was left out.
        low, high: over rounds.
        ratio: median over rounds of our speed over this one's in the same round; None where one is missing.
        ratio_low, ratio_high: over rounds.
        auroc: median test AUROC. ``waiting``, ``utilisation``: medians of shares.
        note: why there is no speed, and how the contender was set.
    """

    case: str
    contender: str
    speed: float | None
    low: float
    high: float
    ratio: float | None
    ratio_low: float
    ratio_high: float
    auroc: float | None
    waiting: float | None
    utilisation: float | None
    note: str


def speed_of(measurement: Result) -> float | None:
    """Images per second of the training part of the epochs from the second on; of the first, where there is only one."""
    epochs = measurement.get("epochs")
    if not epochs:
        return None
    later = epochs[1:] or epochs
    return float(statistics.median(images / seconds for images, seconds in later))


def rows_of(result: Result) -> list[Row]:
    """A row for every case and contender that was measured, failed or was left out, in the order of the table."""
    found = []
    for case in result["cases"]:
        measured = [entry for entry in result["measurements"] if entry["case"] == case and entry["round"] > 0]
        ours = {entry["round"]: speed_of(entry) for entry in measured if entry["contender"] == OURS}
        for contender in CONTENDERS:
            entries = [entry for entry in measured if entry["contender"] == contender]
            if entries:
                found.append(_row(case, contender, entries, ours))
    return found


def _row(case: str, contender: str, entries: list[Result], ours: dict[int, float | None]) -> Row:
    speeds = {entry["round"]: speed for entry in entries if (speed := speed_of(entry)) is not None}
    pairs = [mine / speed for number, speed in speeds.items() if (mine := ours.get(number)) is not None]
    errors = [entry["error"] for entry in entries if entry.get("error")]
    choice: dict[str, Any] = next((entry["choice"] for entry in entries if entry.get("choice")), {})
    note = errors[0].strip().splitlines()[-1] if errors else in_short(choice)
    return Row(
        case,
        contender,
        statistics.median(speeds.values()) if speeds and not errors else None,
        min(speeds.values(), default=0.0),
        max(speeds.values(), default=0.0),
        statistics.median(pairs) if pairs and not errors else None,
        min(pairs, default=0.0),
        max(pairs, default=0.0),
        _median(entries, "auroc"),
        _median(entries, "waiting"),
        _median(entries, "utilisation"),
        note,
    )


def _median(entries: list[Result], name: str) -> float | None:
    values = [entry[name] for entry in entries if entry.get(name) is not None]
    return float(statistics.median(values)) if values else None


def in_short(choice: dict[str, Any]) -> str:
    """How a contender was set, in a few words."""
    words = []
    for name, value in choice.items():
        if name == "workers":
            words.append(f"{value} workers" if value else "no workers")
        elif isinstance(value, bool):
            words += [name] if value else []
        else:
            words.append(f"{value}")
    return ", ".join(words)


def rounds_in_words(result: Result) -> str:
    """Such as ``Medians of 1 to 3 interleaved rounds``: as many as have been measured of each case."""
    rounds: dict[str, int] = {}
    for entry in result["measurements"]:
        rounds[entry["case"]] = max(rounds.get(entry["case"], 0), entry["round"])
    least, most = min(rounds.values(), default=0), max(rounds.values(), default=0)
    if most <= 1:
        return "One round"
    return (
        f"Medians of {least} to {most} interleaved rounds" if least < most else f"Medians of {most} interleaved rounds"
    )


def as_markdown(result: Result) -> str:
    """The tables of a result in Markdown."""
    lines = [
        f"{rounds_in_words(result)}, {result['epochs']} epochs each, batch {result['batch']}; {in_words(result['machine'])}.",
        "",
    ]
    shares = any(row.utilisation is not None for row in rows_of(result))
    extra = " GPU busy | waiting |" if shares else ""
    lines += [
        f"| case | contender | images/s | lowest to highest | firstread to this one (range) | test AUROC |{extra} settings |",
        "|---|---|---:|---:|---:|---:|" + ("---:|---:|" if shares else "") + "---|",
    ]
    before = ""
    for row in rows_of(result):
        title = "" if row.case == before else result["cases"][row.case]["title"]
        before = row.case
        cells = [title, CONTENDERS[row.contender], *_figures(row)]
        if shares:
            cells += [_percent(row.utilisation), _percent(row.waiting)]
        lines.append("| " + " | ".join([*cells, row.note]) + " |")
    missing = result.get("missing", {})
    lines += [f"\nNot measured: {CONTENDERS[name]} ({reason})." for name, reason in missing.items()]
    return "\n".join(lines) + "\n"


def _figures(row: Row) -> list[str]:
    if row.speed is None:
        return ["failed", "", "", ""]
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} ({row.ratio_low:.2f} to {row.ratio_high:.2f})"
    auroc = "" if row.auroc is None else f"{row.auroc:.3f}"
    return [
        f"{row.speed:,.0f}" if row.speed >= 20 else f"{row.speed:.1f}",
        f"{row.low:,.0f} to {row.high:,.0f}",
        ratio,
        auroc,
    ]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"
