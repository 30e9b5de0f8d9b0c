"""The final files of a prediction: predictions.csv, .json and .parquet, and groups.csv; each written beside and renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Protocol

from workflow.answers import Answer
from workflow.prediction_groups import COLUMNS, GroupAnswer
from workflow.prediction_rows import TEXTS, Columns, csv_line

NAME, GROUPS = "predictions", "groups.csv"
_AT_ONCE: Final = 4096  # rows of one piece of a parquet file


class _Writer(Protocol):
    def add(self, answer: Answer) -> None: ...

    def close(self) -> None: ...


def write_answers(
    folder: Path,
    formats: Sequence[str],
    columns: Columns,
    answers: Iterable[Answer],
    facts: dict[str, Any],
) -> Iterator[Answer]:
    """Write one file a format while the answers pass by; they take their names when the last answer is in.

    Args:
        formats: of :data:`conf.predict_options.FORMATS`. ``facts``: what a JSON file says before the images, plain values.

    Yields:
        The answers as they came, for whoever counts them.
    """
    with ExitStack() as stack:
        writers = [stack.enter_context(_writing(folder, name, columns, facts)) for name in formats]
        for answer in answers:
            for writer in writers:
                writer.add(answer)
            yield answer


def write_groups(folder: Path, groups: Sequence[GroupAnswer]) -> None:
    """Write groups.csv."""
    with _beside(folder / GROUPS) as beside, beside.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(csv_line(COLUMNS))
        for group in groups:
            content = asdict(group) | {"group_id": group.group}
            file.write(csv_line(content[name] for name in COLUMNS))


@contextmanager
def _writing(folder: Path, name: str, columns: Columns, facts: dict[str, Any]) -> Iterator[_Writer]:
    with _beside(folder / f"{NAME}.{name}") as beside:
        writer: _Writer
        if name == "csv":
            writer = _Csv(beside, columns)
        elif name == "json":
            writer = _Json(beside, facts)
        else:
            writer = _Parquet(beside, columns, str(facts["notice"]))
        try:
            yield writer
        finally:
            writer.close()


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A place beside a file, which takes its name at the end, or is removed."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


class _Csv:
    def __init__(self, path: Path, columns: Columns) -> None:
        # A name that is no text in UTF-8 is written with its bytes as \udc..; the table stays one that can be read.
        self._file, self._columns = path.open("w", encoding="utf-8", errors="backslashreplace", newline=""), columns
        self._file.write(csv_line(columns.names))

    def add(self, answer: Answer) -> None:
        self._file.write(csv_line(self._columns.values(answer)))

    def close(self) -> None:
        self._file.close()


class _Json:
    """One object: facts first, then one line an image."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self._file, self._end = path.open("w", encoding="ascii"), "\n"
        self._file.write(json.dumps(facts, indent=2, allow_nan=False).removesuffix("\n}") + ',\n  "images": [')

    def add(self, answer: Answer) -> None:
        self._file.write(f"{self._end}    {json.dumps(answer.to_dict(), allow_nan=False)}")
        self._end = ",\n"

    def close(self) -> None:
        self._file.write("\n  ]\n}\n")
        self._file.close()


class _Parquet:
    def __init__(self, path: Path, columns: Columns, notice: str) -> None:
        import pyarrow  # type: ignore[import-untyped,unused-ignore]
        import pyarrow.parquet  # type: ignore[import-untyped,unused-ignore]

        kinds = {**dict.fromkeys(TEXTS, pyarrow.string()), "borderline": pyarrow.bool_()}
        fields = [(name, kinds.get(name, pyarrow.float64())) for name in columns.names]
        self._schema = pyarrow.schema(fields, metadata={"notice": notice})
        self._arrow, self._columns = pyarrow, columns
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema)
        self._rows: list[list[Any]] = []

    def add(self, answer: Answer) -> None:
        self._rows.append([_text(value) for value in self._columns.values(answer)])
        if len(self._rows) == _AT_ONCE:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            columns = [list(values) for values in zip(*self._rows, strict=True)]
            arrays = [self._arrow.array(values, kind) for values, kind in zip(columns, self._schema.types, strict=True)]
            self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
            self._rows = []


def _text(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value
