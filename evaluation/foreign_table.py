"""A CSV file that another tool wrote, as text: encoding, separator, header, lines of equal length."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.predictions import PredictionsError
from evaluation.wording import plural

_SEPARATORS: Final = (",", ";", "\t")
_SPREADSHEETS: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


@dataclass(frozen=True, eq=False)
class Table:
    """The cells as they are written, without spaces around them.

    Attributes:
        path: of the file. ``frame``: one row a line, all text, no cell is missing. ``lines``: number of each row's line.
        decimal_comma: whether ``0,5`` may be a number: only where the separator is no comma.
    """

    path: Path
    frame: pd.DataFrame
    lines: NDArray[np.int64]
    decimal_comma: bool

    @property
    def names(self) -> list[str]:
        """Names of the columns, in their order."""
        return [str(name) for name in self.frame.columns]

    def fail(self, text: str) -> NoReturn:
        """Raise a PredictionsError that names the file."""
        raise PredictionsError(f"{self.path}: {text}")

    def part(self, rows: NDArray[np.bool_]) -> Table:
        """Some of the rows, with their line numbers."""
        held = pd.DataFrame(self.frame.loc[rows]).reset_index(drop=True)
        return Table(self.path, held, self.lines[rows], self.decimal_comma)

    def numbers(self, column: str) -> NDArray[np.float64]:
        """The values of a column, shape (rows,), exact and finite.

        Raises:
            PredictionsError: naming the line of a cell that is no finite number.
        """
        texts = self.frame[column].tolist()
        found = np.array([self._number(text) for text in texts], dtype=np.float64)
        wrong = ~np.isfinite(found)
        if wrong.any():
            row = int(np.argmax(wrong))
            shown = repr(texts[row]) if texts[row] else "empty"
            comma = "," in texts[row] and not self.decimal_comma
            self.fail(
                f"{column} is {shown} in line {self.lines[row]}, and no finite number in "
                f"{plural(int(wrong.sum()), 'line')} in all. "
                + ("Write decimals with a point." if comma else "Every image needs its score.")
            )
        return found

    def is_numeric(self, column: str) -> bool:
        """Whether every cell that is not empty is a finite number, and at least one is."""
        texts = [text for text in self.frame[column].unique() if text]
        return bool(texts) and all(np.isfinite(self._number(text)) for text in texts)

    def has_number(self, column: str) -> bool:
        """Whether any cell is a finite number: a column of scores stays one where a few cells are spoilt."""
        return any(np.isfinite(self._number(text)) for text in self.frame[column].unique())

    def _number(self, text: str) -> float:
        try:
            return float(text.replace(",", ".", 1) if self.decimal_comma else text)
        except ValueError:
            return float("nan")


def read_table(path: Path) -> Table:
    """Read a CSV file with commas, semicolons or tabs in UTF-8, with or without a byte order mark.

    Raises:
        PredictionsError: a file of another kind, two columns of one name, or a line with more or fewer fields than the header.
    """
    path = Path(path)
    text = _text(path)
    first, _, rest = text.partition("\n")
    skipped = 0
    if first.strip().lower().startswith("sep="):  # Excel's own hint on the separator
        text, skipped = rest, 1
    header_line = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=lambda mark: len(next(csv.reader([header_line], delimiter=mark), [])))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    header = [name.strip() for name in next(reader, [])]
    if len(header) < 2:
        raise PredictionsError(
            f"{path}: the first line is {header_line[:80]!r}; expected the names of at least two columns, separated by commas, "
            "semicolons or tabs."
        )
    _check_header(path, header)
    rows, lines = [], []
    for cells in reader:
        line = reader.line_num + skipped
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            hint = " Write decimals with a point, or separate by semicolons." if len(cells) > len(header) else ""
            raise PredictionsError(f"{path}: line {line} has {len(cells)} fields, the header has {len(header)}.{hint}")
        rows.append([cell.strip() for cell in cells])
        lines.append(line)
    if not rows:
        raise PredictionsError(f"{path}: there is no line below the header.")
    named = [
        number for number, name in enumerate(header) if name
    ]  # a column without a name is the index of a data frame
    frame = pd.DataFrame({header[number]: [row[number] for row in rows] for number in named}, dtype=object)
    return Table(path, frame, np.array(lines, dtype=np.int64), separator != ",")


def _text(path: Path) -> str:
    if not path.is_file():
        raise PredictionsError(f"{path}: there is no such file.")
    content = path.read_bytes()
    if content.startswith(_SPREADSHEETS):
        raise PredictionsError(f"{path}: this is a spreadsheet. Save it as 'CSV UTF-8' and give that file.")
    if b"\x00" in content[:4096]:
        raise PredictionsError(f"{path}: this is no text in UTF-8. Save it as 'CSV UTF-8'.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PredictionsError(f"{path}: this is no text in UTF-8 ({error}). Save it as 'CSV UTF-8'.") from error


def _check_header(path: Path, header: list[str]) -> None:
    named = [name for name in header if name]
    twice = [name for name in named if named.count(name) > 1]
    if twice:
        raise PredictionsError(f"{path}: two columns are called {twice[0]!r}. Rename one of them.")
