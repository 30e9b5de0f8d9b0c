"""JPEG lossless and JPEG-LS frames, decoded by gdcm in a process of its own: on damaged data gdcm may end its process.

Run as a script, this file is that process: it takes frames from standard input and answers on standard output.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

# What pydicom asks of a module that decodes: these two names, and decode_frame.
DECODER_DEPENDENCIES = {
    "1.2.840.10008.1.2.4.57": ("gdcm>=3.0.10",),  # JPEG lossless
    "1.2.840.10008.1.2.4.70": ("gdcm>=3.0.10",),  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": ("gdcm>=3.0.10",),  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81": ("gdcm>=3.0.10",),  # JPEG-LS near-lossless
}
_PATIENCE = 120.0  # seconds for one frame; the largest takes a few

_idle: list[
    tuple[int, subprocess.Popen[bytes]]
] = []  # with the process they belong to: a forked one must not share them


def is_available(uid: str) -> bool:
    """Whether frames of this transfer syntax are decoded here."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """The pixels of one frame, little endian, colours by pixel.

    Raises:
        ValueError, ConnectionError: if the frame cannot be decoded.
    """
    stored, allocated = runner.bits_stored, runner.bits_allocated
    if "JPEG-LS" in runner.transfer_syntax.name:
        stored = runner.get_option("jls_precision", stored)
        allocated = 8 if stored <= 8 else 16
        runner.set_option("bits_allocated", allocated)
        runner.set_option("planar_configuration", 0)
    layout = {
        "length": len(src), "size": [runner.columns, runner.rows, 1], "syntax": str(runner.transfer_syntax),
        "photometric": str(runner.photometric_interpretation),
        "planar": runner.planar_configuration if runner.samples_per_pixel > 1 else 0,
        "format": [runner.samples_per_pixel, allocated, stored, stored - 1, runner.pixel_representation],
    }  # fmt: skip
    question = json.dumps(layout).encode() + b"\n" + src
    try:
        frame = _exchange(question)
    except ConnectionError:  # once more: something else may have ended the process
        frame = _exchange(question)
    if not frame:
        raise ValueError("the frame cannot be decoded")
    return frame


def _exchange(question: bytes) -> bytes:
    worker = _free_worker()
    stopwatch = threading.Timer(_PATIENCE, worker.kill)
    stopwatch.start()
    try:
        frame = _asked(worker, question)
    except BaseException:  # whatever is left in its pipes belongs to no later frame
        worker.kill()
        worker.communicate()
        raise
    finally:
        stopwatch.cancel()
    _idle.append((os.getpid(), worker))
    return frame


def _free_worker() -> subprocess.Popen[bytes]:
    while _idle:
        owner, worker = _idle.pop()
        if owner == os.getpid() and worker.poll() is None:
            return worker
    return subprocess.Popen(
        [sys.executable, "-I", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us; a frame cut off by it would look corrupt
    )


@atexit.register
def _dismiss() -> None:
    for owner, worker in _idle:
        if owner == os.getpid():
            worker.communicate()  # closes its pipes, upon which it ends


def _asked(worker: subprocess.Popen[bytes], question: bytes) -> bytes:
    """The answer; empty if the frame was refused.

    Raises:
        ConnectionError: if the worker has died.
    """
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(question)
        worker.stdin.flush()
        head = worker.stdout.read(8)
        answer = worker.stdout.read(int.from_bytes(head, "little"))
    except OSError as error:
        raise ConnectionError("the decoder has died") from error
    if len(head) < 8 or len(answer) != int.from_bytes(head, "little"):
        raise ConnectionError("the decoder has died")
    return answer


def _decoded(gdcm: Any, layout: dict[str, Any], src: bytes) -> bytes:
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(src)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions(tuple(layout["size"]))
    image.SetDataElement(element)
    photometric = gdcm.PhotometricInterpretation
    image.SetPhotometricInterpretation(photometric(photometric.GetPIType(layout["photometric"])))
    image.SetPlanarConfiguration(layout["planar"])
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(layout["syntax"])))
    image.SetPixelFormat(gdcm.PixelFormat(*layout["format"]))
    pixels = image.GetBuffer()  # gdcm gives bytes as text; None where it fails
    return b"" if pixels is None else bytes(pixels.encode("utf-8", "surrogateescape"))


def _serve(questions: BinaryIO, answers: BinaryIO) -> None:
    import gdcm  # type: ignore[import-untyped,unused-ignore]

    while line := questions.readline():
        layout = json.loads(line)
        try:
            frame = _decoded(gdcm, layout, questions.read(layout["length"]))
        except Exception:
            frame = b""
        answers.write(len(frame).to_bytes(8, "little") + frame)
        answers.flush()


if __name__ == "__main__":
    answering = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what gdcm prints is no answer
    _serve(sys.stdin.buffer, answering)
