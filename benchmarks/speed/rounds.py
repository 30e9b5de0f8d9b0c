"""Interleaved rounds: every contender once, then every contender again; each in a fresh process, each result kept at once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.speed.cases import CONTENDERS, Case, takes_part
from benchmarks.speed.data import CaseData
from benchmarks.speed.processes import Asked, ContenderFailed
from benchmarks.speed.results import Result, speed_of
from conf.output import write_json
from datamodules.errors import DataError

TRIAL = 0  # number of the round in which settings are tried out; it counts for nothing else
_GUESS = 30.0  # seconds of a process of which nothing is known yet
Measure = Callable[[str, Case, CaseData, Asked, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """One process to run."""

    case: Case
    contender: str
    round: int
    choice: dict[str, Any] | None  # None: the fastest of the trials


def candidates(contender: str, cores: int, *, bf16: bool) -> list[dict[str, Any]]:
    """The settings of a contender that are tried on this machine before the rounds; the fastest is what is compared."""
    workers = cores if cores <= 4 else min(12, cores - 2)
    if contender == "lightning":
        return [{"workers": count} for count in (0, workers)]
    if contender == "timm":
        found = [{"workers": count, "channels_last": True} for count in (0, workers)]
        found.append({"workers": workers, "channels_last": False})
        return [*found, {"workers": workers, "channels_last": True, "amp": True}] if bf16 else found
    if contender == "keras":
        return [{"pipeline": "dataset"}, {"pipeline": "dataset", "xla": True}, {"pipeline": "generator"}]
    return [{"compile": True}] if contender == "ceiling_compiled" else [{}]


def plan(cases: Sequence[Case], contenders: Sequence[str], rounds: int, cores: int, *, bf16: bool) -> Iterator[Step]:
    """All processes in their order: case by case; the trials, then the rounds, every second one backwards.

    Going backwards, a machine that slows down steadily favours nobody.
    """
    for case in cases:
        taking_part = [name for name in contenders if takes_part(name, case)]
        settings = {name: candidates(name, cores, bf16=bf16) for name in taking_part}
        for name in taking_part:
            if len(settings[name]) > 1:
                yield from (Step(case, name, TRIAL, choice) for choice in settings[name])
        for number in range(1, rounds + 1):
            for name in taking_part if number % 2 else reversed(taking_part):
                yield Step(case, name, number, settings[name][0] if len(settings[name]) == 1 else None)


class Rounds:
    """Runs a plan and keeps the result file up to date.

    Args:
        result: as it will be written; measurements that it has already are not repeated, unless they failed.
        target: the result file.
        asked: what does not change between contenders.
        measure: runs one process, as :func:`benchmarks.speed.processes.measure` does.
        say: prints a line.
    """

    def __init__(
        self, result: Result, target: Path, asked: Asked, measure: Measure, say: Callable[[str], None] = print
    ) -> None:
        self.result, self.target, self.asked, self.measure, self.say = result, target, asked, measure, say
        result["measurements"] = [entry for entry in result["measurements"] if not entry.get("error")]

    def run(self, steps: Sequence[Step], data_of: Callable[[Case], CaseData]) -> None:
        """Run what is not there yet; a process that fails is written down and the others go on."""
        todo = [step for step in steps if not self._done(step)]
        if len(todo) < len(steps):
            self.say(f"{len(steps) - len(todo)} of {len(steps)} measurements are there already")
        for number, step in enumerate(todo):
            name = f"round {step.round}" if step.round else "trial"
            left = self.seconds_left(todo[number:])
            self.say(
                f"[{number + 1}/{len(todo)}] {step.case.name}, {name}: {CONTENDERS[step.contender]}"
                f"  (about {max(1, round(left / 60))} min left)"
            )
            self._one(step, data_of)

    def _one(self, step: Step, data_of: Callable[[Case], CaseData]) -> None:
        choice = self.fastest(step) if step.choice is None else step.choice
        entry: dict[str, Any] = {"case": step.case.name, "contender": step.contender, "round": step.round}
        entry["choice"] = choice or {}
        started = time.perf_counter()
        about = self.result["cases"].setdefault(
            step.case.name, {"title": step.case.title, "images": 0, "test": 0, "phantom": False}
        )
        try:
            if choice is None:
                raise ContenderFailed("no setting of the trials worked")
            data = data_of(step.case)
            about |= {"images": data.training, "test": data.test, "phantom": data.phantom}
            asked = self.asked if step.round else replace(self.asked, epochs=min(2, self.asked.epochs), auroc=False)
            found = self.measure(step.contender, step.case, data, asked, choice)
            entry |= {name: value for name, value in found.items() if name not in ("scores", "targets")}
            self.say(f"    {speed_of(entry) or 0:,.1f} images/s, {time.perf_counter() - started:.0f} s in all")
        except (ContenderFailed, DataError, ValueError, OSError) as error:  # the next case may work
            entry["error"] = str(error) or type(error).__name__
            self.say("    failed: " + entry["error"].strip().splitlines()[-1])
        self.result["measurements"].append(entry)
        write_json(self.result, self.target)

    def fastest(self, step: Step) -> dict[str, Any] | None:
        """The setting with the highest speed in the trials of this contender on this case; None if none worked."""
        tried = [
            (speed, entry["choice"])
            for entry in self._entries(step)
            if entry["round"] == TRIAL and (speed := speed_of(entry)) is not None
        ]
        return max(tried, key=lambda pair: pair[0])[1] if tried else None

    def seconds_left(self, steps: Sequence[Step]) -> float:
        """From the time that the same contenders took before; of others, the mean of all."""
        walls = [entry["wall"] for entry in self.result["measurements"] if "wall" in entry]
        usual = statistics.mean(walls) if walls else _GUESS
        total = 0.0
        for step in steps:
            own = [entry["wall"] for entry in self._entries(step) if "wall" in entry]
            total += statistics.mean(own) if own else usual
        return total

    def _entries(self, step: Step) -> list[Result]:
        return [
            entry
            for entry in self.result["measurements"]
            if entry["case"] == step.case.name and entry["contender"] == step.contender
        ]

    def _done(self, step: Step) -> bool:
        return any(
            entry["round"] == step.round and (step.choice is None or entry["choice"] == step.choice)
            for entry in self._entries(step)
        )
