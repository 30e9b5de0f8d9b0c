"""Phantom dermoscopy: photographs of drawn skin lesions through a drawn dermoscope, several of each lesion.

It is a test object for software and no model of disease: figures measured on it say nothing about patients. Kinds of lesion
differ in fine structure (see `phantom_lesion`); size, skin tone, light and white balance are drawn alike for all kinds.
Images of one lesion share its structures, skin and hair, so a split by image leaks.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.phantom_lesion import KINDS, Kind, draw_lesion
from datamodules.phantom_sketch import Layers
from datamodules.phantom_thorax import FRAME, Canvas, Picture

PHANTOM_SKIN_VERSION: int = 1
"""Part of cache keys: raise it with any change of pixels or names."""

_LESION, _SKIN, _POSE = (
    2,
    3,
    4,
)  # random streams of one lesion; 1 counts its images, 0 is left out as seeds [7] and [7, 0] are alike

# Optical density that one unit of (melanin, deep, blood) adds to red, green and blue: brown, blue-grey, red.
_ABSORPTION = np.array([[0.62, 1.05, 1.45], [1.00, 0.75, 0.45], [0.10, 0.85, 0.66]], np.float32)
_BARE = np.array([0.98, 0.88, 0.84], np.float32)
_WHITE = np.array([0.97, 0.91, 0.90], np.float32)
_HAIR = np.array([0.75, 0.82, 0.86], np.float32)  # what a hair takes away
_HORN = np.array([0.86, 0.70, 0.42], np.float32)


def draw_dermoscopy(kind: Kind, number: int, count: int, *, size: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Photographs of one lesion, each (size, size, 3) uint8 RGB: one lesion, a new pose, zoom and light for each.

    A picture depends on (seed, number, index, size, kind) alone.

    Args:
        kind: what the lesion is.
        number: of the lesion, positive; another number is another lesion on other skin.
        count: how many photographs.
        size: side in pixels, at least 32.
        seed: non-negative.
    """
    key = [seed, KINDS.index(kind) + 1, number]
    canvas = Canvas(round(size * 1.2))
    layers = draw_lesion(kind, np.random.default_rng([*key, _LESION]), canvas)
    hair = _add_skin(layers, canvas, np.random.default_rng([*key, _SKIN]))
    for index in range(count):
        rng = np.random.default_rng([*key, _POSE, index])
        yield _photograph(_place(_reflectance(layers, hair, rng), rng, size), rng)


def _add_skin(layers: Layers, canvas: Canvas, rng: np.random.Generator) -> Picture:
    """Puts tone, furrows, redness and freckles under the lesion; returns the hair above it, in [0, 1]."""
    furrows = np.abs(np.tanh(1.5 * canvas.noise(rng, 0.035)))
    tone = rng.uniform(0.02, 0.40) + np.float32(0.02) * canvas.noise(rng, 0.3)
    layers.melanin += np.clip(tone + np.float32(rng.uniform(0.02, 0.06)) * (0.6 - furrows), 0, None)
    mottle = canvas.noise(rng, 0.09) + np.float32(0.5) * canvas.noise(rng, 0.012)
    layers.blood += np.clip(rng.uniform(0.06, 0.36) + np.float32(rng.uniform(0.01, 0.045)) * mottle, 0, None)
    if rng.random() < 0.25:
        freckles = canvas.noise(rng, 0.08)
        layers.melanin += np.float32(rng.uniform(0.05, 0.15)) * np.clip(freckles - 0.8, 0, 1.5)
    return _hair(canvas, rng)


def _hair(canvas: Canvas, rng: np.random.Generator) -> Picture:
    mask = canvas.strokes()
    thick, dark = rng.uniform(0.008, 0.014), rng.uniform(0.4, 0.9)
    lean = rng.uniform(0, 2 * np.pi)
    t = np.linspace(-1, 1, 14)
    many = int(rng.integers(3, 13)) if rng.random() < 0.22 else int(rng.integers(0, 3))
    for _ in range(many):
        half, angle, bend = rng.uniform(0.25, 0.9), lean + rng.normal(0, 0.4), rng.normal(0, 0.16)
        along, across = half * t, bend * t**2 + rng.normal(0, 0.05) * t**3
        c, s = np.cos(angle), np.sin(angle)
        line = rng.uniform(-1.0, 1.0, 2) + np.stack([c * along - s * across, s * along + c * across], 1)
        canvas.stroke(mask, line, thick, dark)
    return canvas.soften(mask, 0.004)


def _reflectance(layers: Layers, hair: Picture, rng: np.random.Generator) -> Picture:
    """Colour of the skin under even white light, (pixels, pixels, 3) in [0, 1]: absorption after Beer and Lambert."""
    pressure = rng.uniform(0.75, 1.1)  # a pressed dermoscope empties the vessels
    blood = np.float32(pressure) * layers.blood
    horn, white = np.clip(layers.keratin, 0, 0.9), np.clip(layers.white, 0, 0.9)
    planes = []
    for k, (melanin, deep, red) in enumerate(_ABSORPTION.T):  # plane by plane, which is twice as fast
        plane = _BARE[k] * np.exp(-(melanin * layers.melanin + deep * layers.deep + red * blood))
        plane += horn * (_HORN[k] - plane)
        plane += white * (_WHITE[k] - plane)
        planes.append(plane * (1 - _HAIR[k] * hair))
    return np.asarray(cv2.merge(planes), np.float32)


def _place(skin: Picture, rng: np.random.Generator, size: int) -> Picture:
    """Looks at the canvas from a turned, shifted, nearer or farther camera: (size, size, 3)."""
    half = rng.uniform(0.72, 0.98)
    turn, middle = rng.normal(0, 0.6), rng.normal(0, 0.08, 2)
    pixels = skin.shape[0]
    scale = half / FRAME * pixels / size
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    origin = (middle / FRAME + 1) * pixels / 2
    matrix = np.array([[c, -s, origin[0] - (c - s) * size / 2], [s, c, origin[1] - (s + c) * size / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(skin, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101), np.float32
    )


def _photograph(skin: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Lens, light, gel, ruler and sensor."""
    size = skin.shape[0]
    blur = rng.uniform(0.25, 0.6) * size / 160 + (rng.uniform(0.2, 0.6) * size / 160 if rng.random() < 0.1 else 0)
    picture: Picture = np.asarray(cv2.GaussianBlur(skin, (0, 0), blur), np.float32)
    if rng.random() < 0.25:
        _bubbles(picture, rng)
    if rng.random() < 0.12:
        _ruler(picture, rng)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    lean = rng.uniform(0, 2 * np.pi)
    away = np.sqrt(x * x + y * y)
    light = (
        1
        - np.float32(rng.uniform(0.02, 0.16)) * away**2
        + np.float32(rng.uniform(0, 0.06)) * (float(np.cos(lean)) * x + float(np.sin(lean)) * y)
    )
    if rng.random() < 0.12:
        light = light * (0.04 + 0.96 / (1 + np.exp((away - rng.uniform(1.02, 1.2)) / 0.03)))
    balance = rng.uniform(1.00, 1.16) * np.array([1.0, rng.uniform(0.94, 1.06), rng.uniform(0.92, 1.18)])
    grain = np.float32(255 * rng.uniform(0.004, 0.012)) * rng.standard_normal((size, size), dtype=np.float32)
    gains = (255 * balance).astype(np.float32)
    planes = [gain * light * plane + grain for gain, plane in zip(gains, cv2.split(picture), strict=True)]
    return np.asarray(np.clip(np.rint(cv2.merge(planes)), 0, 255), np.uint8)


def _bubbles(picture: Picture, rng: np.random.Generator) -> None:
    """Air in the gel: thin bright rings with a highlight."""
    size = picture.shape[0]
    over = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(1, 7))):
        x, y = (int(value) for value in rng.uniform(0, size, 2))
        radius = round(size * rng.uniform(0.01, 0.035))
        cv2.circle(over, (x, y), max(2, radius), int(rng.integers(70, 140)), 1, cv2.LINE_AA)
        cv2.circle(over, (x - radius // 3, y - radius // 3), max(1, radius // 4), 160, cv2.FILLED, cv2.LINE_AA)
    share = over.astype(np.float32)[..., None] / 255
    picture += share * (1 - picture)


def _ruler(picture: Picture, rng: np.random.Generator) -> None:
    """Tick marks along one edge."""
    size = picture.shape[0]
    over = np.zeros((size, size), np.uint8)
    pitch, offset = size * rng.uniform(0.05, 0.09), rng.uniform(0, 0.05) * size
    for k in range(int(size / pitch) + 1):
        at, long = round(offset + k * pitch), round(size * (0.06 if k % 5 == 0 else 0.035))
        cv2.line(over, (at, size - 1), (at, size - 1 - long), 200, max(1, size // 160), cv2.LINE_AA)
    over = np.ascontiguousarray(np.rot90(over, int(rng.integers(0, 4))))
    picture *= 1 - over.astype(np.float32)[..., None] / 255
