"""What an augmentation does to training images: one self-contained HTML file, and one picture for a document."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from datamodules.augmentation import Augmentation
from datamodules.prepared import PreparedData

VERSIONS = 8  # changed versions of an image
_ROWS, _MOST_ROWS = 6, 12  # images shown; of many classes, one each of the first so many
_QUALITY = 92
_GEOMETRY = ("rotate", "translate", "scale", "shear")
_WORDS = {  # change -> what it does; {v} is its value, {p} the value in percent
    "rotate": "turned by up to {v} degrees",
    "translate": "shifted by up to {p} % of the side",
    "scale": "zoomed in or out by up to {p} %, width and height apart",
    "shear": "sheared by up to {v} degrees",
    "crop": "cropped to {p} to 100 % of the area",
    "quarter_turns": "turned by 0, 90, 180 or 270 degrees",
    "horizontal_flip": "mirrored left-right, probability {v}",
    "vertical_flip": "mirrored top-bottom, probability {v}",
    "brightness": "brightness changed by up to {p} % of the range",
    "contrast": "contrast changed by up to {p} %",
    "gamma": "exposure changed, gamma between {low} and {high}",
    "saturation": "saturation changed by up to {p} %",
    "hue": "hue turned by up to {p} % of the circle",
    "blur": "slightly blurred, probability {v}",
    "noise": "noise with a standard deviation of up to {p} % of the range",
    "erase": "a rectangle erased, probability {v}",
    "mixup": "blended with another image (mixup, alpha {v})",
    "cutmix": "a patch of another image put in (cutmix, alpha {v})",
}
_BORDERS = {"black": "black", "nearest": "the nearest pixel", "reflect": "its mirror image"}
_COLOUR_ONLY = ("saturation", "hue")


@dataclass(frozen=True)
class Strip:
    """Versions of one image side by side.

    Attributes:
        title: the class, or what is changed. ``note``: in smaller letters.
        images: uint8, each ``(height, width, channels)``.
        captions: one an image.
        plain: whether the first image is unchanged.
    """

    title: str
    note: str
    images: tuple[NDArray[np.uint8], ...]
    captions: tuple[str, ...]
    plain: bool = True


@dataclass(frozen=True)
class Preview:
    """What is shown.

    Attributes:
        title: of the data set. ``name``: of the augmentation. ``command``: that shows it again.
        size, channels: of the images, as the network gets them.
        phantom: True for generated images.
        words: the changes that are on. ``off``: names of those that are off.
        strips: training images, each with changed versions of it.
        alone: the first of them under one change at a time.
        mixed: images mixed with others, where mixup or cutmix is on.
    """

    title: str
    name: str
    command: str
    size: int
    channels: int
    phantom: bool
    words: tuple[str, ...]
    off: tuple[str, ...]
    strips: tuple[Strip, ...]
    alone: tuple[Strip, ...]
    mixed: tuple[Strip, ...] = field(default=())


def preview_of(prepared: PreparedData, settings: dict[str, Any], command: str = "") -> Preview:
    """Draw training images and change them exactly as training does.

    Args:
        prepared: the data set.
        settings: the whole configuration as plain values; used are ``task``, ``augmentation``, ``model`` and ``seed``.
        command: that shows the page again.
    """
    augmentation, seed = settings["augmentation"], int(settings["seed"])
    rows, frame, pixels = chosen_rows(prepared, seed), prepared.manifest.frame, prepared.pixels
    change = Augmentation(augmentation)
    strips = [
        _strip(change, pixels[row], [seed, number], str(frame["label"].iloc[row]), str(frame["image_id"].iloc[row]))
        for number, row in enumerate(rows.tolist())
    ]
    channels = int(pixels.shape[3])
    on = [name for name in changes_on(augmentation) if channels == 3 or name not in _COLOUR_ONLY]
    alone = [
        _strip(Augmentation(_only(augmentation, name)), pixels[rows[0]], [seed], name, _in_words(name, augmentation))
        for name in on
        if name not in ("mixup", "cutmix")
    ]
    return Preview(
        title=settings["task"]["title"],
        name=augmentation["name"],
        command=command,
        size=int(pixels.shape[1]),
        channels=channels,
        phantom=prepared.phantom,
        words=tuple(describe_augmentation(augmentation, channels)),
        off=tuple(name for name in _WORDS if name not in changes_on(augmentation)),
        strips=tuple(strips),
        alone=tuple(alone) if len(alone) > 1 else (),
    )


def chosen_rows(prepared: PreparedData, seed: int) -> NDArray[np.int64]:
    """Rows of the training images to show: six spread over the classes, or one a class; of different groups where possible."""
    manifest, rows = prepared.manifest, prepared.splits.rows("train")
    generator = np.random.default_rng([seed, len(rows)])
    rows = generator.permutation(rows)
    groups = manifest.frame["group_id"].astype(str).to_numpy()
    each = max(1, _ROWS // len(manifest.classes))
    chosen: list[int] = []
    for number in range(len(manifest.classes)):
        own = rows[manifest.targets[rows] == number]
        _, first = np.unique(groups[own], return_index=True)
        again = np.setdiff1d(np.arange(len(own)), first)
        chosen += own[np.concatenate([np.sort(first), again])][:each].tolist()
    return np.asarray(chosen[:_MOST_ROWS], dtype=np.int64)


def changes_on(augmentation: dict[str, Any]) -> list[str]:
    """Names of the changes that are switched on, in the order in which they are done."""
    return [name for name in _WORDS if augmentation.get(name, 0) and not (name == "crop" and augmentation[name] >= 1)]


def describe_augmentation(augmentation: dict[str, Any], channels: int) -> list[str]:
    """The changes that are on, each as a few words.

    Args:
        augmentation: the section of the configuration.
        channels: of the images; what changes colours does nothing to grey images and says so.
    """
    lines = []
    for name in changes_on(augmentation):
        grey = channels == 1 and name in _COLOUR_ONLY
        lines.append(_in_words(name, augmentation) + (" (no effect on grey images)" if grey else ""))
        if name in _GEOMETRY and not any(other in changes_on(augmentation) for other in _after(name)):
            lines.append(f"border filled with {_BORDERS[augmentation.get('border', 'black')]}")
    return lines


def mixed_strip(images: Sequence[NDArray[np.uint8]], captions: Sequence[str], augmentation: dict[str, Any]) -> Strip:
    """Images that :func:`models.mixing.mix` made, with the shares of their classes."""
    kinds = [name for name in ("mixup", "cutmix") if augmentation.get(name, 0)]
    return Strip(
        " or ".join(kinds),
        "; ".join(_in_words(name, augmentation) for name in kinds),
        tuple(images),
        tuple(captions),
        False,
    )


def _after(name: str) -> tuple[str, ...]:
    return _GEOMETRY[_GEOMETRY.index(name) + 1 :]


def _in_words(name: str, augmentation: dict[str, Any]) -> str:
    value = augmentation[name]
    if isinstance(value, bool):
        return _WORDS[name]
    return _WORDS[name].format(
        v=f"{value:g}", p=f"{100 * value:.3g}", low=f"{1 / (1 + value):.2f}", high=f"{1 + value:.2f}"
    )


def _only(augmentation: dict[str, Any], name: str) -> dict[str, Any]:
    return {name: augmentation[name], "border": augmentation.get("border", "black")}


def _strip(change: Augmentation, image: NDArray[np.uint8], seed: list[int], title: str, note: str) -> Strip:
    images = [np.asarray(image)]
    if change.active:
        own = int(np.random.SeedSequence(seed).generate_state(1)[0])
        images += list(change(np.repeat(images[0][None], VERSIONS, axis=0), own))
    captions = ["unchanged", *(f"version {number}" for number in range(1, len(images)))]
    return Strip(title, note, tuple(images), tuple(captions))


def write_preview_page(preview: Preview, path: Path) -> None:
    """Write the page; it needs no network and no other file.

    Args:
        preview: what is shown.
        path: the HTML file; its folder is created, the file replaced as a whole.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["uri"] = _data_uri
    page = environment.get_template("preview.html.j2").render(p=preview, versions=VERSIONS)
    _write(path, page.encode())


def write_preview_picture(preview: Preview, path: Path) -> None:
    """Write the training images and their versions as one PNG.

    Args:
        preview: what is shown.
        path: the PNG file; its folder is created, the file replaced as a whole.
    """
    side = 128 if preview.size <= 128 else 160
    gap, left, top, foot = 8, 24, 92, 56
    strips = [*preview.strips, *preview.mixed]
    columns = max(len(strip.images) for strip in strips)
    label = 26
    width = max(2 * left + columns * (side + gap) + gap, 720)
    canvas = Image.new("RGB", (width, top + len(strips) * (side + label + gap) + foot), "white")
    draw, ink, muted = ImageDraw.Draw(canvas), "#17212b", "#55616e"
    fonts = {size: ImageFont.load_default(size) for size in (13, 15, 24)}
    head = ("Phantom data - " if preview.phantom else "") + f"{preview.title}, augmentation {preview.name}"
    draw.text((left, 22), head, fill=ink, font=fonts[24])
    kind = "grey" if preview.channels == 1 else "colour"
    draw.text(
        (left, 58),
        f"left: training image, {preview.size} x {preview.size} {kind}; right: as the network sees it",
        fill=muted,
        font=fonts[15],
    )
    for number, strip in enumerate(strips):
        y = top + number * (side + label + gap)
        draw.text((left, y + 4), strip.title, fill=ink, font=fonts[15])
        for column, image in enumerate(strip.images):
            x = left + column * (side + gap) + (gap if column and strip.plain else 0)
            canvas.paste(_square(image, side), (x, y + label))
    lines = "Research and education only; not a medical device."
    draw.text((left, canvas.height - 38), lines, fill=muted, font=fonts[13])
    content = BytesIO()
    canvas.save(content, "PNG", optimize=True)
    _write(path, content.getvalue())


def with_mixed(preview: Preview, strip: Strip) -> Preview:
    """The same preview with mixed images."""
    return replace(preview, mixed=(*preview.mixed, strip))


def _square(image: NDArray[np.uint8], side: int) -> Image.Image:
    rgb = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    how = cv2.INTER_AREA if len(image) > side else cv2.INTER_LINEAR
    return Image.fromarray(rgb if len(image) == side else cv2.resize(rgb, (side, side), interpolation=how))


def _data_uri(image: NDArray[np.uint8]) -> str:
    """The image at its own size as JPEG."""
    stored = image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    written, encoded = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}" if written else ""


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
