"""Answers on disk while a command works: whole lines, appended, so that whatever stops it, the same command can go on."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from filelock import FileLock, Timeout

from conf.output import short

if TYPE_CHECKING:
    from workflow.answers import Answer

JOURNAL, RECORD, _LOCK = "unfinished.jsonl", "prediction.json", ".lock"
# A file of ours that was not finished: its name with a dot before it and the number of the process behind it.
_BESIDE: Final = re.compile(
    r"\.(predictions?\.\w+|groups\.csv|unfinished\.jsonl|panel(_\d+)?\.html|page_\d+\.png)\.\d+"
)
_SYNC: Final = 1.0  # seconds
_CALLED: Final = {
    "version": "the version of firstread",
    "weights": "the weights of the model",
    "threshold": "the threshold",
    "calibration": "the calibration",
    "borderline_from": "the borderline region",
    "input_check": "the input check",
    "images": "the list of images",
    "metadata": "the metadata of the images",
    "abstain": "abstain",
    "batch_size": "batch_size",
}


def require_open(output: Path) -> None:
    """Raise a ValueError where a folder can neither be made nor gone on with."""
    if not output.exists() or (output / JOURNAL).is_file():
        return
    if output.is_dir() and all(path.name == _LOCK or _BESIDE.fullmatch(path.name) for path in output.iterdir()):
        return
    what = "holds finished predictions" if (output / RECORD).is_file() else "is already there"
    raise ValueError(f"output={short(output)}: this {what} and is never overwritten. Choose another output=FOLDER.")


@contextmanager
def held(output: Path) -> Iterator[None]:
    """The folder, made, tidied and held against a second command that would write into it.

    Raises:
        ValueError: another command works in it.
    """
    output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"output={short(output)}: another predict.py works in this folder. Wait for it, or choose another output=FOLDER."
        ) from None
    try:
        _tidy(output)
        yield
    finally:
        with suppress(OSError):
            (output / _LOCK).unlink()  # before it is let go: a third command must not find this file free
        lock.release()


def _tidy(output: Path) -> None:
    """Remove what a killed command left beside the places of its files; nobody else writes here while the folder is held."""
    for path in [*output.glob(".*"), *output.glob("panel/.*")]:
        if _BESIDE.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


class Journal:
    """The answers that are there; the first line says what they are answers to.

    Args:
        folder: of the output, held by this process.
        identity: what decides the answers, plain values under the names of ``_CALLED``.
        names: the image ids in order.
        chunk: how many answers are appended at once; what is left of an unfinished chunk is dropped, so that every image is
            scored in the company in which it would have been scored without an interruption.

    Attributes:
        done: number of answers on disk.

    Raises:
        ValueError: the folder holds answers to something else, or a damaged journal.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], names: Sequence[str], chunk: int) -> None:
        self.path, self._names, self._chunk = folder / JOURNAL, names, chunk
        self._synced = time.monotonic()
        identity = json.loads(json.dumps(identity))
        if self.path.is_file() and (before := self._header()) is not None:
            self._require_same(before, identity)
            self.done = self._cut()
        else:
            beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            beside.write_text(json.dumps(identity) + "\n", encoding="utf-8")
            os.replace(beside, self.path)
            self.done = 0

    def append(self, answers: Sequence[Answer]) -> None:
        """Add a chunk; when this returns, the operating system has it, and a kill of this process loses nothing.

        The disk is waited for once a second: a power cut may cost that much more, which is then answered again.
        """
        # Answers hold plain values and tuples of them; asdict() would copy each deeply, at the cost of scoring a small network.
        text = "".join(json.dumps(vars(answer)) + "\n" for answer in answers)
        with self.path.open("ab") as file:
            file.write(text.encode("ascii"))
            file.flush()
            if time.monotonic() - self._synced > _SYNC:
                os.fsync(file.fileno())
                self._synced = time.monotonic()
        self.done += len(answers)

    def answers(self) -> Iterator[Answer]:
        """All that are there, in order, read from the disk one by one.

        Raises:
            ValueError: a line is damaged, or is not the answer to its image.
        """
        from workflow.answers import Answer

        with self.path.open("rb") as file:
            next(file)
            for row, line in enumerate(file):
                content: dict[str, Any] = {
                    key: tuple(value) if isinstance(value, list) else value
                    for key, value in self._content(line, row).items()
                }
                yield Answer(**content)

    def remove(self) -> None:
        """Everything that was said is in its final files."""
        self.path.unlink()

    def _header(self) -> dict[str, Any] | None:
        """What the answers are answers to; None where not even the first line is whole."""
        with self.path.open("rb") as file:
            line = file.readline()
        if not line.endswith(b"\n"):
            return None
        try:
            content = json.loads(line)
        except ValueError as error:
            raise self._damaged(0) from error
        if not isinstance(content, dict):
            raise self._damaged(0)
        return content

    def _require_same(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        changed = next((name for name in now if before.get(name) != now[name]), None)
        if changed is None:
            return
        values = [str(side.get(changed)) for side in (before, now)]
        shown = f" (was {values[0]}, is {values[1]})" if all(len(value) <= 24 for value in values) else ""
        raise ValueError(
            f"output={short(self.path.parent)}: this folder holds unfinished predictions, and {_CALLED.get(changed, changed)} "
            f"changed since{shown}. Type the command as it was to go on with them, or choose another output=FOLDER."
        )

    def _cut(self) -> int:
        """Drop a torn line and an unfinished chunk; how many answers are left."""
        ends: list[int] = []
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                ends.append((ends[-1] if ends else 0) + len(line))
        answers = min(len(ends) - 1, len(self._names))
        kept = answers if answers == len(self._names) else answers // self._chunk * self._chunk
        with self.path.open("rb+") as file:
            file.truncate(ends[kept])
        return kept

    def _content(self, line: bytes, row: int) -> dict[str, Any]:
        try:
            content = json.loads(line)
            if content["image_id"] != self._names[row]:
                raise self._damaged(row + 1)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise self._damaged(row + 1) from error
        return dict(content)

    def _damaged(self, line: int) -> ValueError:
        return ValueError(
            f"{short(self.path)}: line {line + 1} is damaged, so these predictions cannot be finished. Remove the folder "
            f"{short(self.path.parent)} and predict again."
        )
