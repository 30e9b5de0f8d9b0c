"""Images of a prediction, decoded in threads while others are scored."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from conf.predict_options import Options
from datamodules.appearance import Looked
from datamodules.errors import UnreadableImageError
from datamodules.machine import usable_cores
from workflow.answers import Unread
from workflow.prediction_inputs import Inputs
from workflow.predictor import Predictor

_AT_ONCE: Final = (
    4  # images that a thread decodes before it hands them over: one by one, a tenth slower with small networks
)
_AHEAD: Final = 3  # chunks decoded, or waiting, while one is scored


def decoded_chunks(
    predictor: Predictor, inputs: Inputs, starts: Sequence[int], options: Options
) -> Iterator[tuple[int, list[Looked | Unread]]]:
    """Chunks of decoded images in order; a few chunks are decoded ahead, never more."""
    pool = ThreadPoolExecutor(options.workers or usable_cores(), thread_name_prefix="decode")
    ahead: deque[tuple[int, list[Future[list[Looked | Unread]]]]] = deque()
    try:
        for start in starts:
            rows = range(start, min(start + options.batch_size, len(inputs)))
            pieces = (rows[first : first + _AT_ONCE] for first in range(0, len(rows), _AT_ONCE))
            ahead.append((start, [pool.submit(_read_rows, predictor, inputs, piece) for piece in pieces]))
            if len(ahead) > _AHEAD:
                yield _waited(ahead.popleft())
        while ahead:
            yield _waited(ahead.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _waited(chunk: tuple[int, list[Future[list[Looked | Unread]]]]) -> tuple[int, list[Looked | Unread]]:
    return chunk[0], [image for future in chunk[1] for image in future.result()]


def _read_rows(predictor: Predictor, inputs: Inputs, rows: Sequence[int]) -> list[Looked | Unread]:
    return [read_row(predictor, inputs, row) for row in rows]


def read_row(predictor: Predictor, inputs: Inputs, row: int) -> Looked | Unread:
    """Decode one image; whatever is wrong with its file is said of it and stops no other."""
    if row in inputs.problems:
        return Unread(inputs.problems[row])
    path = Path(inputs.paths[row])
    try:
        return predictor.look(path)
    except UnreadableImageError as error:
        return Unread(str(error))
    except MemoryError:
        return Unread(f"{path.name}: there is not enough memory to decode it")
    except ValueError as error:  # a name that no file can have
        return Unread(f"{path.name}: cannot be read ({error})")
