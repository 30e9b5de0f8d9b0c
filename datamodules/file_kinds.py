"""What lies under the name of an image when it is none."""

from __future__ import annotations

import re

_DAMAGED = re.compile(rb"\xff\xd8\xff|\x89PNG|BM|II\*\0|MM\0\*|RIFF....WEBP", re.DOTALL)
_OTHER_KINDS = [  # what is found under the name of an image, by its first bytes
    (rb"GIF8", "a GIF picture, which is not read (256 colours, often animated); convert it to PNG"),
    (rb"....ftyp(hei|hev|mif1|msf1)", "a HEIC picture, which is not read; convert it to JPEG or PNG"),
    (rb"....ftypavi", "an AVIF picture, which is not read; convert it to PNG"),
    (rb"....ftyp", "a film, not an image"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture outside DICOM, which is not read; convert it to PNG"),
    (rb"8BPS", "a Photoshop file, which is not read; convert it to PNG"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript drawing, not an image"),
    (rb"%PDF", "a PDF document, not an image"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the image itself; fetch it with: git lfs pull"),
    (rb"(?i)\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!doctype svg|<svg)", "an SVG drawing, not an image"),
    (
        rb"(?i)\s*<(!doctype html|html|head|body)",
        "a web page (HTML), not an image; often what a failed download leaves",
    ),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ", "an archive, not an image; unpack it first"),
    (rb"\x89HDF|\x93NUMPY|\x80[\x02-\x05]", "a file of arrays, not an image"),
    (rb"\x00{64}", "nothing but zeros at its start, like a copy that was cut off"),
    (rb"[\t\n\r\x20-\x7e]{16}", "text, not an image"),
]


def why_no_image(content: bytes) -> str:
    """The reason for refusing a file that no reader of images recognises, told by its first bytes."""
    if _DAMAGED.match(content):
        return "truncated or corrupt: its header cannot be read"
    kind = next((kind for start, kind in _OTHER_KINDS if re.match(start, content[:2048], re.DOTALL)), "")
    return f"not an image file: it is {kind}" if kind else "not an image file of a known kind"
