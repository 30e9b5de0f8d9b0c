"""From the bytes of an upload to pixels: for the network, and a picture of modest size for the page."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from datamodules.appearance import Looked, look
from datamodules.errors import UnreadableImageError
from datamodules.images import decoded
from serving.uploads import Upload
from workflow.answers import Unread

PREVIEW_SIDE: Final = 768  # pixels of the longer side
_QUALITY: Final = 88


@dataclass(frozen=True)
class Reading:
    """An upload, decoded.

    Attributes:
        image: for the network, or why it could not be read.
        preview: JPEG, upright, drawn anew from the pixels, so without any header of the file; None where not wanted.
        failure: a mistake of ours or of a library while decoding; None usually.
    """

    image: Looked | Unread
    preview: bytes | None = None
    failure: Exception | None = None


def read_upload(upload: Upload, decoding: Mapping[str, Any], *, preview: bool) -> Reading:
    """Decode a file as training decoded its images.

    Args:
        decoding: ``image_size``, ``channels`` and ``interpolation`` of the network.
        preview: draw one too.
    """
    try:
        looked = look(
            upload.content,
            name=upload.name,
            size=decoding["image_size"],
            channels=decoding["channels"],
            interpolation=decoding["interpolation"],
        )
        return Reading(looked, preview_of(upload) if preview else None)
    except UnreadableImageError as error:
        return Reading(Unread(str(error)))
    except Exception as error:  # whatever a hostile file makes a decoder raise; the other files shall get their answers
        return Reading(Unread(f"{upload.name}: it cannot be decoded"), failure=error)


def preview_of(upload: Upload) -> bytes:
    """A JPEG of an upload with its aspect ratio, at most ``PREVIEW_SIDE`` pixels long."""
    pixels = decoded(upload.content, PREVIEW_SIDE // 2, 3, upload.name).pixels
    picture = Image.fromarray(pixels)
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.BOX, reducing_gap=None)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
