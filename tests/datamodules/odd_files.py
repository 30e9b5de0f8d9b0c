"""Broken and odd image files with what must become of each.

``python -m tests.datamodules.odd_files`` writes the table of docs/reference/image-files.md again.
"""

from __future__ import annotations

import io
import os
import re
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

READ = "read"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "image-files.md"


@dataclass(frozen=True)
class OddFile:
    """A file's name, what is odd about it, the reason for which it is refused (or ``READ``), and what writes it."""

    name: str
    oddity: str
    outcome: str
    write: Callable[[Path], object]


def scene(width: int = 48, height: int = 40) -> np.ndarray:
    """A smooth ramp with a bright upper left corner, so that every turn and every inversion shows; uint8."""
    ramp = np.add.outer(np.linspace(0, 100, height), np.linspace(0, 100, width))
    ramp[: height // 4, : width // 4] = 250
    return ramp.astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.copy().save(file, kind, **options)  # Pillow leaves options of one saving on the picture
    return file.getvalue()


GREY = Image.fromarray(scene())
RGB = Image.merge("RGB", [GREY, GREY.transpose(Image.Transpose.ROTATE_180), GREY])
JPEG = saved(RGB, "JPEG")
PNG = saved(GREY, "PNG")
TIFF = saved(GREY, "TIFF")
CMYK = saved(RGB.convert("CMYK"), "JPEG")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes, interlace: int = 0) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def rows_of(pixels: np.ndarray, bits: int = 8) -> bytes:
    """Scan lines of a grey PNG, without filter."""
    if bits < 8:
        packed = [
            np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel()) for row in pixels >> (8 - bits)
        ]
        return b"".join(b"\0" + row.tobytes() for row in packed)
    return b"".join(b"\0" + row.tobytes() for row in (pixels.astype(">u2") * 257 if bits == 16 else pixels))


def interlaced(pixels: np.ndarray) -> bytes:
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b"".join(rows_of(pixels[top::down, left::right]) for left, top, right, down in passes)
    return png(pixels.shape[1], pixels.shape[0], 8, 0, rows, interlace=1)


def turned(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return saved(GREY, kind, exif=exif)


def ycck() -> bytes:
    """What Photoshop writes: inverted CMYK as luma, chroma and black, told by the transform byte of the Adobe marker."""
    cyan, magenta, yellow, black = RGB.convert("CMYK").split()
    light = Image.merge("RGB", [cyan, magenta, yellow]).convert("YCbCr").split()
    planes = [*(plane.point(lambda value: 255 - value) for plane in light), black]
    content = bytearray(saved(Image.merge("CMYK", planes), "JPEG", quality=95))
    content[content.index(b"Adobe") + 11] = 2
    return bytes(content)


def without_adobe() -> bytes:
    """Not inverted CMYK, as a file without the marker of Adobe holds it."""
    content = saved(RGB.convert("CMYK").point(lambda value: 255 - value), "JPEG")
    start = content.index(b"\xff\xee")
    return content[:start] + content[start + 16 :]


def resized_header(content: bytes, at: int, layout: str, width: int, height: int) -> bytes:
    packed = struct.pack(layout, width, height)
    return content[:at] + packed + content[at + len(packed) :]


def huge_jpeg() -> bytes:
    return resized_header(JPEG, JPEG.index(b"\xff\xc0") + 5, ">HH", 30_000, 30_000)


def tag_of_tiff(content: bytes, tag: int, value: int) -> bytes:
    """Another value of a SHORT or LONG tag of a little-endian TIFF with one directory."""
    at = re.search(struct.pack("<H", tag) + b"[\3\4]\0\1\0\0\0", content)
    assert at
    return resized_header(content, at.end(), "<HH", value, 0)


def looped_tiff() -> bytes:
    start = struct.unpack("<I", TIFF[4:8])[0]
    end = start + 2 + 12 * struct.unpack("<H", TIFF[start : start + 2])[0]
    return TIFF[:end] + struct.pack("<I", start) + TIFF[end + 4 :]


def many_scans() -> bytes:
    content = saved(GREY, "JPEG", progressive=True)
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * 200 + b"\xff\xd9"


def animated() -> bytes:
    return saved(RGB, "WEBP", save_all=True, append_images=[RGB.rotate(90, expand=False)])


def text_bomb(kind: bytes, head: bytes) -> bytes:
    return png(48, 40, 8, 0, rows_of(scene()), chunk(kind, head + zlib.compress(bytes(50_000_000))))


def floats(**special: float) -> bytes:
    pixels = scene().astype(np.float32) / 255
    pixels[3, 4] = special.get("value", 0.5)
    return saved(Image.fromarray(pixels), "TIFF")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(JPEG)
        file.truncate(600_000_000)


def listening(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket may have a hundred characters only
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def forbidden(path: Path) -> None:
    path.write_bytes(JPEG)
    path.chmod(0)


CUT = "truncated or corrupt: its pixels cannot be decoded completely"
HEADER = "truncated or corrupt: its header cannot be read"
NOT = "not an image file: it is "
HUGE = "too many pixels: 30000 x 30000 is more than 80,000,000"
NO_NUMBERS = "it holds values that are no numbers (NaN or infinite)"
SMALL = "{} pixels are too small to be an image of a patient"
ALPHA = Image.merge("LA", [GREY, Image.new("L", GREY.size, 128)])
DEEP = Image.fromarray(scene().astype(np.uint16) * 257)
NEGATIVE = Image.fromarray(scene().astype(np.uint16) - np.uint16(99))  # from -99 on, when read as signed
PALETTE = RGB.quantize(16)
HTML = b"<!DOCTYPE html>\n<html><body>404</body></html>"

_BYTES: list[tuple[str, str, str, Callable[[], bytes]]] = [
    ("grey.jpg", "grey JPEG", READ, lambda: saved(GREY, "JPEG")),
    ("progressive.jpg", "progressive JPEG", READ, lambda: saved(RGB, "JPEG", progressive=True)),
    ("cmyk.jpg", "CMYK JPEG, inverted as Adobe stores it", READ, lambda: CMYK),
    ("cmyk_plain.jpg", "CMYK JPEG without Adobe's marker, not inverted", READ, without_adobe),
    ("ycck.jpg", "YCCK JPEG of Adobe", READ, ycck),
    *((f"turned_{n}.jpg", f"EXIF orientation {n}", READ, lambda n=n: turned(n, "JPEG")) for n in range(1, 9)),
    ("turned_9.jpg", "EXIF orientation 9, which does not exist", READ, lambda: turned(9, "JPEG")),
    *((f"turned.{kind.lower()}", f"EXIF orientation 6 in {kind}", READ, lambda k=kind: turned(6, k)) for kind in ("PNG", "WEBP")),
    ("turned.tif", "orientation 6 in TIFF", READ, lambda: saved(GREY, "TIFF", tiffinfo={274: 6})),
    ("exif_broken.jpg", "damaged EXIF around sound pixels", READ,
        lambda: saved(GREY, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff9")),
    ("trailing.jpg", "bytes after the end of a JPEG", READ, lambda: JPEG + b"camera data" * 100),
    ("stereo.jpg", "two pictures in one JPEG (MPO): the first", READ,
        lambda: saved(RGB, "MPO", save_all=True, append_images=[RGB.copy()])),
    *((f"grey_{b}bit.png", f"grey PNG of {b} bit", READ, lambda b=b: png(48, 40, b, 0, rows_of(scene(), b)))
        for b in (1, 2, 4, 16)),
    ("rgb_16bit.png", "RGB PNG of 16 bit", READ,
        lambda: png(48, 40, 16, 2, rows_of(np.repeat(scene(), 3, axis=1), 16))),
    ("all_bits.png", "16 bit, every bit set", READ, lambda: saved(Image.fromarray(np.full((40, 48), 65535, np.uint16)), "PNG")),
    ("interlaced.png", "interlaced PNG", READ, lambda: interlaced(scene())),
    ("rgba.png", "RGBA, half transparent: laid over black", READ, lambda: saved(ALPHA.convert("RGBA"), "PNG")),
    ("la.png", "grey with transparency: laid over black", READ, lambda: saved(ALPHA, "PNG")),
    ("palette.png", "palette", READ, lambda: saved(PALETTE, "PNG")),
    ("palette_alpha.png", "palette with a transparent entry: black", READ, lambda: saved(PALETTE, "PNG", transparency=0)),
    ("key_16bit.png", "16 bit with a transparent value: black", READ, lambda: png(
        48, 40, 16, 0, rows_of(scene(), 16), chunk(b"tRNS", struct.pack(">H", 250 * 257)))),
    ("rgb.bmp", "BMP", READ, lambda: saved(RGB, "BMP")),
    ("bilevel.bmp", "BMP of 1 bit", READ, lambda: saved(GREY.convert("1"), "BMP")),
    ("lzw.tif", "TIFF, LZW", READ, lambda: saved(RGB, "TIFF", compression="tiff_lzw")),
    ("deep_deflate.tif", "TIFF of 16 bit, deflate", READ, lambda: saved(DEEP, "TIFF", compression="tiff_adobe_deflate")),
    ("fax.tif", "TIFF of 1 bit, fax compression", READ, lambda: saved(GREY.convert("1"), "TIFF", compression="group4")),
    ("pages.tif", "TIFF of three pages: the first", READ,
        lambda: saved(GREY, "TIFF", save_all=True, append_images=[RGB.copy(), RGB.copy()])),
    ("white_is_zero.tif", "TIFF of 16 bit that counts from white", READ, lambda: tag_of_tiff(saved(DEEP, "TIFF"), 262, 0)),
    ("signed.tif", "TIFF of signed 16 bit: from its darkest to its brightest pixel", READ,
        lambda: tag_of_tiff(saved(NEGATIVE, "TIFF", tiffinfo={339: 1}), 339, 2)),
    ("float.tif", "TIFF of floats", READ, floats),
    ("loop.tif", "TIFF whose directory follows itself", READ, looped_tiff),
    ("lossy.webp", "WebP", READ, lambda: saved(RGB, "WEBP")),
    ("alpha.webp", "WebP, lossless with transparency", READ, lambda: saved(ALPHA.convert("RGBA"), "WEBP", lossless=True)),
    ("animated.webp", "animated WebP: the first picture", READ, animated),
    ("really_png.jpg", "PNG named .jpg", READ, lambda: PNG),
    ("really_jpeg.dcm", "JPEG named .dcm", READ, lambda: JPEG),
    ("eight.png", "8 x 8 pixels", READ, lambda: saved(GREY.resize((8, 8)), "PNG")),
    ("long.png", "20,000 x 8 pixels", READ, lambda: saved(GREY.resize((20_000, 8)), "PNG")),
    ("empty.jpg", "empty file", "the file is empty", lambda: b""),
    ("one_byte.png", "one byte", "not an image file of a known kind", lambda: b"\x89"),
    ("zeros.jpg", "zeros only", NOT + "nothing but zeros at its start, like a copy that was cut off", lambda: bytes(5000)),
    ("noise.png", "noise", "not an image file of a known kind", lambda: bytes(range(255, 0, -1)) * 9),
    ("text.jpg", "plain text", NOT + "text, not an image", lambda: b"no image here, sorry\n" * 9),
    ("page.jpg", "web page", NOT + "a web page (HTML), not an image; often what a failed download leaves", lambda: HTML),
    ("drawing.png", "SVG", NOT + "an SVG drawing, not an image", lambda: b'<?xml version="1.0"?>\n<svg width="9"></svg>'),
    ("paper.jpg", "PDF", NOT + "a PDF document, not an image", lambda: b"%PDF-1.7\n%\xe2\xe3\n"),
    ("script.jpg", "PostScript", NOT + "a PostScript drawing, not an image", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n"),
    ("gif.jpg", "GIF", NOT + "a GIF picture, which is not read (256 colours, often animated); convert it to PNG",
        lambda: saved(GREY, "GIF")),
    ("phone.jpg", "HEIC of a phone", NOT + "a HEIC picture, which is not read; convert it to JPEG or PNG",
        lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)),
    ("avif.jpg", "AVIF", NOT + "an AVIF picture, which is not read; convert it to PNG",
        lambda: b"\0\0\0\x1cftypavif" + bytes(99)),
    ("film.jpg", "MP4", NOT + "a film, not an image", lambda: b"\0\0\0\x18ftypisom" + bytes(99)),
    ("j2k.jpg", "JPEG 2000", NOT + "a JPEG 2000 picture outside DICOM, which is not read; convert it to PNG",
        lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99)),
    ("layers.jpg", "Photoshop", NOT + "a Photoshop file, which is not read; convert it to PNG", lambda: b"8BPS\0\1" + bytes(99)),
    ("zip.jpg", "ZIP archive", NOT + "an archive, not an image; unpack it first", lambda: b"PK\x03\x04" + bytes(99)),
    ("array.png", "NumPy array", NOT + "a file of arrays, not an image", lambda: b"\x93NUMPY\1\0" + bytes(99)),
    ("lfs.png", "Git LFS pointer", NOT + "a Git LFS pointer, not the image itself; fetch it with: git lfs pull",
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
    ("half.jpg", "JPEG cut in the middle", CUT, lambda: JPEG[: len(JPEG) // 2 + 200]),
    ("last_block.jpg", "JPEG cut in its last block", CUT, lambda: JPEG[:-4]),
    ("no_end.jpg", "JPEG without its end marker", CUT, lambda: JPEG[:-2]),
    ("head.jpg", "JPEG cut in its header", HEADER, lambda: JPEG[:30]),
    ("half.png", "PNG cut in the middle", CUT, lambda: PNG[: len(PNG) // 2]),
    ("no_end.png", "PNG without its end", CUT, lambda: PNG[:-12]),
    ("flipped.png", "PNG with one wrong bit", CUT, lambda: PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:]),
    ("half.bmp", "BMP cut in the middle", CUT, lambda: saved(RGB, "BMP")[:3000]),
    ("half.tif", "TIFF cut in the middle", CUT, lambda: saved(GREY, "TIFF", compression="tiff_lzw")[:-40]),
    ("rows.tif", "TIFF with more rows than it holds", CUT, lambda: tag_of_tiff(TIFF, 257, 2000)),
    ("half.webp", "WebP cut in the middle", HEADER, lambda: saved(RGB, "WEBP", lossless=True)[:200]),
    ("no_width.png", "width of zero", HEADER, lambda: png(0, 40, 8, 0, b"")),
    ("pixel.png", "1 x 1 pixel", SMALL.format("1 x 1"), lambda: saved(GREY.resize((1, 1)), "PNG")),
    ("strip.jpg", "500 x 1 pixels", SMALL.format("500 x 1"), lambda: saved(GREY.resize((500, 1)), "JPEG")),
    ("seven.bmp", "7 x 7 pixels", SMALL.format("7 x 7"), lambda: saved(GREY.resize((7, 7)), "BMP")),
    ("huge.png", "30,000 x 30,000 pixels", HUGE, lambda: png(30_000, 30_000, 8, 2, b"")),
    ("huge.jpg", "30,000 x 30,000 pixels", HUGE, huge_jpeg),
    ("huge.bmp", "30,000 x 30,000 pixels", HUGE, lambda: resized_header(saved(RGB, "BMP"), 18, "<ii", 30_000, 30_000)),
    ("huge.tif", "30,000 x 30,000 pixels", HUGE, lambda: tag_of_tiff(tag_of_tiff(TIFF, 256, 30_000), 257, 30_000)),
    ("huge.webp", "16,384 x 16,384 pixels", "too many pixels: 16384 x 16384 is more than 80,000,000",
        lambda: resized_header(animated(), 24, "<3s3s", b"\xff\x3f\0", b"\xff\x3f\0")),
    ("profile_bomb.png", "colour profile that inflates a thousand times", HEADER, lambda: text_bomb(b"iCCP", b"icc\0\0")),
    ("text_bomb.png", "text that inflates a thousand times", HEADER, lambda: text_bomb(b"zTXt", b"note\0\0")),
    ("chunk_bomb.png", "chunk that claims 2 GB", HEADER, lambda: PNG[:33] + b"\x7f\xff\xff\xfftEXt" + PNG[33:]),
    ("scans.jpg", "progressive JPEG of hundreds of scans",
        "a progressive JPEG of more than 100 scans is made to keep a reader busy", many_scans),
    ("nan.tif", "floats that are no numbers", NO_NUMBERS, lambda: floats(value=float("nan"))),
    ("infinite.tif", "infinite floats", NO_NUMBERS, lambda: floats(value=float("inf"))),
]  # fmt: skip

_OTHER: list[OddFile] = [
    OddFile("sparse.jpg", "600 MB", "600,000,000 bytes are more than the 512,000,000 that are read", sparse),
    OddFile("folder.jpg", "folder", "it is a folder, not a file", Path.mkdir),
    OddFile("pipe.jpg", "named pipe", "it is a pipe, socket or device, not a file", os.mkfifo),
    OddFile("socket.jpg", "socket", "it is a pipe, socket or device, not a file", listening),
    OddFile("nowhere.jpg", "broken link", "cannot be read (No such file or directory)", lambda p: p.symlink_to("gone")),
    OddFile(
        "circle.jpg", "link to itself", "cannot be read (Too many levels of symbolic links)", lambda p: p.symlink_to(p)
    ),
    OddFile("forbidden.jpg", "file without read permission", "cannot be read (Permission denied)", forbidden),
]


def odd_files() -> list[OddFile]:
    """All of them, those of DICOM last."""
    from tests.datamodules.odd_dicom import ODD_DICOM

    def writer(content: Callable[[], bytes]) -> Callable[[Path], object]:
        return lambda path: path.write_bytes(content())

    plain = [
        OddFile(name, oddity, outcome, writer(content)) for name, oddity, outcome, content in [*_BYTES, *ODD_DICOM]
    ]
    return plain[: len(_BYTES)] + _OTHER + plain[len(_BYTES) :]


def table() -> str:
    """The table of the reference page, in Markdown."""
    rows = [f"| `{odd.name}` | {odd.oddity} | {odd.outcome} |" for odd in odd_files()]
    return "\n".join(["| file | what it is | what happens |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text[: text.index("| file |")] + table(), encoding="utf-8")
