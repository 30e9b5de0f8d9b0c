"""Seeded corruptions of decoded images at five strengths: what cameras, films, encoders and skin do to a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

STRENGTHS: Final = (1, 2, 3, 4, 5)
"""1 is hardly visible, 5 is severe but a person can still read the image; 0 is the image as it is."""

Image = NDArray[np.uint8]
Corruption = Callable[[Image, float, np.random.Generator], Image]

# One parameter for each strength. Lengths are shares of the shorter side, so that they mean the same at every image size.
PARAMETERS: Final[dict[str, tuple[float, ...]]] = {
    "gaussian_blur": (0.004, 0.007, 0.011, 0.016, 0.022),
    "gaussian_noise": (0.015, 0.03, 0.05, 0.08, 0.12),
    "jpeg": (60.0, 35.0, 22.0, 14.0, 9.0),
    "contrast": (0.80, 0.62, 0.47, 0.34, 0.22),
    "brightness": (0.06, 0.12, 0.18, 0.25, 0.32),
    "rotation": (4.0, 8.0, 14.0, 21.0, 30.0),
    "hair": (3.0, 7.0, 13.0, 21.0, 32.0),
    "ink": (0.05, 0.09, 0.13, 0.17, 0.22),
    "exposure": (1.15, 1.35, 1.65, 2.05, 2.60),
    "grid": (0.02, 0.04, 0.07, 0.11, 0.16),
}
MEANING: Final[dict[str, str]] = {
    "gaussian_blur": "out of focus, or the patient moved: Gaussian of this standard deviation, as a share of the side",
    "gaussian_noise": "quantum or sensor noise: standard deviation a pixel, as a share of the full range",
    "jpeg": "lossy archive or messenger: quality of the JPEG encoder",
    "contrast": "flat film or haze: contrast left, about the image's own mean colour",
    "brightness": "light or display: added to half of the images and taken from the others, as a share of the full range",
    "rotation": "tilted patient or camera: degrees, one way in half of the images and the other way in the rest",
    "hair": "hair over the lesion: number of dark, curved strokes",
    "ink": "a surgeon's marker beside the lesion and a ruler along one edge: radius of the blot, as a share of the side",
    "exposure": "under- or over-exposed film: gamma, in half of the images its inverse",
    "grid": "anti-scatter grid left on the film: amplitude of fine lines, as a share of the full range",
}
TITLES: Final[dict[str, str]] = {
    "gaussian_blur": "Blur",
    "gaussian_noise": "Noise",
    "jpeg": "JPEG",
    "contrast": "Low contrast",
    "brightness": "Brightness",
    "rotation": "Rotation",
    "hair": "Hair",
    "ink": "Ink and ruler",
    "exposure": "Exposure",
    "grid": "Grid lines",
}
_GENERAL: Final = ("gaussian_blur", "gaussian_noise", "jpeg", "contrast", "brightness", "rotation")
_DOMAINS: Final = {"any": _GENERAL, "skin": (*_GENERAL, "hair", "ink"), "xray": (*_GENERAL, "exposure", "grid")}
_FINE: Final = 4  # strokes are drawn on a canvas finer by this factor, so that they may be thinner than a pixel


def kinds_for(domain: str) -> tuple[str, ...]:
    """The corruptions that make sense for a kind of image.

    Args:
        domain: ``xray``, ``skin`` or ``any``.

    Raises:
        ValueError: an unknown domain.
    """
    if domain not in _DOMAINS:
        raise ValueError(f"domain is {domain!r}; choose from {', '.join(_DOMAINS)}.")
    return _DOMAINS[domain]


def parameter_text(kind: str, strength: int) -> str:
    """The parameter of one strength as a table shows it: ``1.3 % of the side``, ``quality 20``."""
    value = PARAMETERS[kind][strength - 1]
    shown = {
        "gaussian_blur": f"{100 * value:.2g} % of the side",
        "gaussian_noise": f"{100 * value:.2g} % of the range",
        "jpeg": f"quality {value:.0f}",
        "contrast": f"{100 * value:.0f} % left",
        "brightness": f"\u00b1{100 * value:.0f} % of the range",
        "rotation": f"\u00b1{value:.0f}\u00b0",
        "hair": f"{value:.0f} hairs",
        "ink": f"blot {100 * value:.0f} % of the side",
        "exposure": f"gamma {value:.2f} or {1 / value:.2f}",
        "grid": f"{100 * value:.0f} % of the range",
    }
    return shown[kind]


def corrupt(
    images: Image, kind: str, strength: int, seed: int = 0, *, numbers: Sequence[int] | NDArray[np.int64] | None = None
) -> Image:
    """Corrupted copies of the images.

    What is drawn at random depends on (seed, kind, number of the image) and not on the strength: the same hairs and one more,
    the same noise and more of it. Equal arguments give equal bytes.

    Args:
        images: shape ``(n, height, width, 1 or 3)``, uint8; not changed.
        kind: a key of ``PARAMETERS``.
        strength: 0 (no change) to 5.
        seed: a whole number, at least 0.
        numbers: of the images, shape (n,), so that a batch gets what the whole set would; by default 0 to n - 1.

    Returns:
        Shape and type of ``images``.

    Raises:
        ValueError: an unknown kind or strength, or images of another shape or type.
    """
    if kind not in PARAMETERS:
        raise ValueError(f"corruption is {kind!r}; choose from {', '.join(PARAMETERS)}.")
    if strength not in (0, *STRENGTHS):
        raise ValueError(f"strength is {strength!r}; expected a whole number from 0 (no change) to {STRENGTHS[-1]}.")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            f"images are {images.dtype} of shape {images.shape}; expected uint8 (n, height, width, 1 or 3)."
        )
    if strength == 0:
        return images.copy()
    order = np.arange(len(images)) if numbers is None else np.asarray(numbers, dtype=np.int64)
    if len(order) != len(images):
        raise ValueError(f"{len(order)} numbers for {len(images)} images; expected one a picture.")
    place, value = tuple(PARAMETERS).index(kind), PARAMETERS[kind][strength - 1]
    done = np.empty_like(images)
    for row, number in enumerate(order):
        generator = np.random.default_rng([seed, place, int(number)])
        done[row] = _CORRUPTIONS[kind](images[row], value, generator).reshape(images.shape[1:])
    return done


def _side(image: Image) -> int:
    return int(min(image.shape[:2]))


def _rounded(values: NDArray[np.floating]) -> Image:
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)


def _sign(generator: np.random.Generator) -> float:
    return 1.0 if generator.random() < 0.5 else -1.0


def _blur(image: Image, value: float, generator: np.random.Generator) -> Image:
    return _as_image(cv2.GaussianBlur(image, (0, 0), value * _side(image), borderType=cv2.BORDER_REFLECT_101))


def _noise(image: Image, value: float, generator: np.random.Generator) -> Image:
    # A grey film has one noise; the three channels of a camera have one each.
    return _rounded(image + 255.0 * value * generator.standard_normal(image.shape, dtype=np.float32))


def _jpeg(image: Image, value: float, generator: np.random.Generator) -> Image:
    colours = image[..., ::-1] if image.shape[2] == 3 else image  # the encoder expects blue first
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(colours), [cv2.IMWRITE_JPEG_QUALITY, int(value)])
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR if image.shape[2] == 3 else cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    return _as_image(decoded[..., ::-1] if image.shape[2] == 3 else decoded)


def _contrast(image: Image, value: float, generator: np.random.Generator) -> Image:
    mean = image.mean(axis=(0, 1), dtype=np.float64)
    return _rounded(mean + value * (image.astype(np.float32) - mean))


def _brightness(image: Image, value: float, generator: np.random.Generator) -> Image:
    return _rounded(image + np.float32(255.0 * value * _sign(generator)))


def _rotation(image: Image, value: float, generator: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), value * _sign(generator), 1.0)
    # Beside a film it is black; around a lesion is skin, whose usual colour is that of the rim.
    rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    filling = [0.0] if image.shape[2] == 1 else [float(level) for level in np.median(rim, axis=0)]
    turned = cv2.warpAffine(
        image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=filling
    )
    return _as_image(turned)


def _exposure(image: Image, value: float, generator: np.random.Generator) -> Image:
    gamma = value if _sign(generator) > 0 else 1.0 / value
    table = _rounded(255.0 * (np.arange(256) / 255.0) ** gamma)
    return _as_image(table[image])


def _grid(image: Image, value: float, generator: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    period = 0.025 * _side(image) * generator.uniform(0.85, 1.15)  # about 40 lines over the image
    tilt, phase = np.deg2rad(generator.uniform(-3.0, 3.0)), generator.uniform(0.0, 2 * np.pi)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    across, along = (columns, rows) if generator.random() < 0.5 else (rows, columns)
    way = across * np.cos(tilt) + along * np.sin(tilt)
    lines = np.sin(2 * np.pi * way / max(period, 2.0) + phase)
    # The lines of a grid are shadows of lead: they show where there is exposure, not in the black beside the film.
    seen = 0.25 + 0.75 * np.minimum(image.mean(axis=2) / 96.0, 1.0)
    return _rounded(image + (255.0 * value * lines * seen)[..., None])


def _hair(image: Image, value: float, generator: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    side, strokes = _side(image), int(value)
    colour = np.array([52.0, 36.0, 28.0]) * generator.uniform(0.4, 1.4)
    lie = generator.uniform(0.0, np.pi)  # hairs of one place lie roughly the same way
    canvas = np.zeros((height * _FINE, width * _FINE), dtype=np.uint8)
    for _ in range(strokes):
        middle = generator.uniform(0.0, 1.0, size=2) * (width, height)
        angle = lie + generator.normal(0.0, 0.45)
        half = generator.uniform(0.2, 0.6) * side * np.array([np.cos(angle), np.sin(angle)])
        bend = generator.normal(0.0, 0.12) * side * np.array([-np.sin(angle), np.cos(angle)])
        points = _FINE * _bezier(middle - half, middle + bend, middle + half)
        thick = max(1, round(_FINE * side * generator.uniform(0.004, 0.010)))
        cv2.polylines(canvas, [np.rint(points).astype(np.int32)], False, int(generator.integers(178, 243)), thick)
    return _painted(image, _coarse(canvas), colour)


def _ink(image: Image, value: float, generator: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    side = _side(image)
    angle = generator.uniform(0.0, 2 * np.pi)
    centre = np.array([width, height]) / 2 + 0.44 * side * np.array([np.cos(angle), np.sin(angle)])
    turns = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)
    waves = np.zeros(len(turns))
    for k in (2, 3, 5):
        waves += generator.normal(0.0, 0.10) * np.cos(k * turns + generator.uniform(0, 2 * np.pi))
    rim = centre + (value * side * (1.0 + waves))[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    blot = np.zeros((height * _FINE, width * _FINE), dtype=np.uint8)
    cv2.fillPoly(blot, [np.rint(rim * _FINE).astype(np.int32)], 255)
    soft = cv2.GaussianBlur(_coarse(blot), (0, 0), max(0.006 * side, 0.5))
    marker = np.array([70.0, 45.0, 130.0]) if generator.random() < 0.5 else np.array([35.0, 60.0, 140.0])
    marked = _painted(image, 0.8 * _as_floats(soft), marker)
    edge = int(generator.integers(4))
    return _painted(marked, 0.85 * _ruler((height, width), edge, value), np.array([25.0, 25.0, 25.0]))


def _ruler(size: tuple[int, int], edge: int, value: float) -> NDArray[np.float32]:
    """Ticks along one edge, every fifth longer: coverage 0 to 1, shape ``size``."""
    height, width = size
    side, along = min(size), (width if edge < 2 else height)
    lines = np.zeros((height * _FINE, width * _FINE), dtype=np.uint8)
    for number, place in enumerate(np.arange(0.02 * side, along, 0.04 * side)):
        length = (0.025 + 0.25 * value) * side * (1.6 if number % 5 == 0 else 1.0)
        ends = {
            0: ((place, 0.0), (place, length)),
            1: ((place, height - 1 - length), (place, height - 1.0)),
            2: ((0.0, place), (length, place)),
            3: ((width - 1 - length, place), (width - 1.0, place)),
        }[edge]
        first, last = (tuple(round(_FINE * float(end)) for end in point) for point in ends)
        cv2.line(lines, first, last, 255, max(1, round(_FINE * 0.006 * side)))
    return _coarse(lines)


def _bezier(first: NDArray[np.float64], middle: NDArray[np.float64], last: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points of a quadratic curve, shape (24, 2)."""
    steps = np.linspace(0.0, 1.0, 24)[:, None]
    return np.asarray((1 - steps) ** 2 * first + 2 * steps * (1 - steps) * middle + steps**2 * last)


def _coarse(canvas: Image) -> NDArray[np.float32]:
    """Coverage of each pixel, 0 to 1, of a drawing on the finer canvas."""
    size = (canvas.shape[1] // _FINE, canvas.shape[0] // _FINE)
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), dtype=np.float32) / 255.0


def _painted(image: Image, covered: NDArray[np.float32], colour: NDArray[np.float64]) -> Image:
    """The image with a colour (red, green, blue; of a grey image its mean) over it where it is covered."""
    paint = colour if image.shape[2] == 3 else np.array([colour.mean()])
    share = covered[..., None]
    return _rounded((1.0 - share) * image + share * paint)


def _as_floats(values: object) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def _as_image(values: object) -> Image:
    return np.asarray(values, dtype=np.uint8)


_CORRUPTIONS: Final[dict[str, Corruption]] = {
    "gaussian_blur": _blur,
    "gaussian_noise": _noise,
    "jpeg": _jpeg,
    "contrast": _contrast,
    "brightness": _brightness,
    "rotation": _rotation,
    "hair": _hair,
    "ink": _ink,
    "exposure": _exposure,
    "grid": _grid,
}
