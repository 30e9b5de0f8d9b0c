"""Epochs of a training and steps of the network alone take turns, and as many of one as of the other."""

from __future__ import annotations

from typing import Any

from benchmarks.speed.alternate_script import InTurns


class Step:
    """Counts what is asked of it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def __call__(self) -> None:
        self.done.append("step")

    def wait(self) -> None:
        self.done.append("wait")


def test_each_epoch_is_followed_by_as_many_plain_steps() -> None:
    step: Any = Step()
    turns, nobody = InTurns(step), Any
    for batches in (3, 2):
        step.done.clear()
        turns.on_train_epoch_start(nobody, nobody)  # type: ignore[arg-type]
        for number in range(batches):
            turns.on_train_batch_end(nobody, nobody, None, None, number)  # type: ignore[arg-type]
        assert step.done == ["wait"] * batches
        turns.on_train_epoch_end(nobody, nobody)  # type: ignore[arg-type]
        assert step.done == ["wait"] * batches + ["step"] * batches + ["wait"]
    assert len(turns.epochs) == len(turns.alone) == 2
    assert all(seconds > 0 for seconds in [*turns.epochs, *turns.alone])
