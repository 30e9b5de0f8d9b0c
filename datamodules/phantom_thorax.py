"""Anatomy of the phantom: one drawn thorax (outline, lungs, heart, bones, vessels) per patient.

All shapes live in a body frame: x grows to the right of the film (the patient's left), y grows downwards, and the film
shows about [-1, 1] in both. Pictures are float32 "densities": 0 is air (black film), 1 is dense tissue (white film).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Points = NDArray[np.float64]

FRAME = 1.2
"""Half-width of the drawn canvas in body units: wider than the film, so that a shifted pose still shows body."""

# One lung as (|x|, y): apex, chest wall, costophrenic angle, dome of the diaphragm, mediastinal edge.
_LUNG = [(0.13, -0.60), (0.20, -0.80), (0.36, -0.82), (0.50, -0.66), (0.61, -0.38), (0.68, -0.05), (0.72, 0.28),
         (0.73, 0.56), (0.70, 0.66), (0.62, 0.50), (0.46, 0.36), (0.30, 0.36), (0.17, 0.46), (0.12, 0.30),
         (0.12, -0.10)]  # fmt: skip
_DOME = slice(9, 13)
# Half an outline of neck, shoulder, arm pit and flank.
_TORSO = [(0.00, -1.40), (0.17, -1.30), (0.18, -1.02), (0.34, -0.94), (0.74, -0.88), (1.00, -0.66), (1.12, -0.30),
          (1.10, 0.10), (0.99, 0.10), (0.90, -0.16), (0.86, 0.10), (0.87, 0.50), (0.89, 0.90), (0.92, 1.50),
          (0.00, 1.50)]  # fmt: skip


@dataclass(frozen=True)
class Canvas:
    """A square drawing area of `pixels` x `pixels` that maps body units to pixels."""

    pixels: int

    @property
    def unit(self) -> float:
        """Pixels per body unit."""
        return self.pixels / (2 * FRAME)

    @cached_property
    def grid(self) -> tuple[Picture, Picture]:
        """Body coordinates (x, y) of every pixel centre, each (pixels, pixels)."""
        axis = ((np.arange(self.pixels) + 0.5) / self.unit - FRAME).astype(np.float32)
        x, y = np.meshgrid(axis, axis)
        return x, y

    def fill(self, outline: Points, soft: float = 0.01) -> Picture:
        """Mask in [0, 1] of a closed outline (k, 2), its edge blurred by `soft` body units."""
        mask = np.zeros((self.pixels, self.pixels), np.uint8)
        cv2.fillPoly(mask, [self._fixed(outline)], 255, cv2.LINE_AA, 4)
        return self.soften(mask, soft)

    def stroke(self, mask: NDArray[np.uint8], line: Points, width: float, level: float) -> None:
        """Draws an open line (k, 2), `width` body units wide, of brightness `level` in [0, 1] into an 8-bit mask."""
        thickness = max(1, round(width * self.unit))
        cv2.polylines(mask, [self._fixed(line)], False, round(255 * level), thickness, cv2.LINE_AA, 4)

    def strokes(self) -> NDArray[np.uint8]:
        """An empty 8-bit mask for `stroke`."""
        return np.zeros((self.pixels, self.pixels), np.uint8)

    def soften(self, mask: NDArray[np.uint8], sigma: float) -> Picture:
        """An 8-bit mask as a picture in [0, 1], blurred by `sigma` body units."""
        return self.blur(np.asarray(mask / np.float32(255), np.float32), sigma)

    def blur(self, picture: Picture, sigma: float) -> Picture:
        """Gaussian blur by `sigma` body units; a sigma below a fifth of a pixel changes nothing."""
        if sigma * self.unit < 0.2:
            return picture
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma * self.unit), np.float32)

    def bump(self, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> Picture:
        """Gaussian hill of height 1: `radii` are its standard deviations in body units, `angle` in radians."""
        distance = self.distance(centre, radii, angle)
        return np.asarray(np.exp(-0.5 * distance * distance), np.float32)

    def distance(self, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> Picture:
        """Elliptic distance from `centre` per pixel: 1 on the ellipse with the half-axes `radii`."""
        x, y = self.grid
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
        along, across = (c * dx + s * dy) / np.float32(radii[0]), (c * dy - s * dx) / np.float32(radii[1])
        return np.asarray(np.sqrt(along * along + across * across), np.float32)

    def noise(self, rng: np.random.Generator, fine: float, coarse: float | None = None) -> Picture:
        """Random field of mean 0 and variance 1 with details of `fine` body units, those above `coarse` taken out."""
        if coarse is None and fine * self.unit > 4:
            cells = max(4, int(self.pixels / (fine * self.unit)))
            small = rng.standard_normal((cells, cells), dtype=np.float32)
            field = cv2.resize(small, (self.pixels, self.pixels), interpolation=cv2.INTER_CUBIC)
        else:
            white = rng.standard_normal((self.pixels, self.pixels), dtype=np.float32)
            field = self.blur(white, fine)
            if coarse is not None:
                field = field - self.blur(white, coarse)
        field = field - field.mean()
        return np.asarray(field / (field.std() + 1e-6), np.float32)

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        pixels = (np.asarray(points) + FRAME) * self.unit - 0.5
        return np.round(pixels * 16).astype(np.int32).reshape(-1, 1, 2)


@dataclass(frozen=True)
class Thorax:
    """One patient's drawn chest; all pictures are (pixels, pixels) float32.

    Attributes:
        canvas: the drawing area.
        density: tissue without vessels, about [0, 1].
        vessels: density that the lung vessels add.
        lungs: visible lung fields in [0, 1] (heart and mediastinum taken out), both sides.
    """

    canvas: Canvas
    density: Picture
    vessels: Picture
    lungs: Picture


def smooth_outline(points: Points, rounds: int = 3) -> Points:
    """Rounds a closed polygon (k, 2) by cutting its corners (Chaikin 1974); returns (k * 2**rounds, 2)."""
    for _ in range(rounds):
        following = np.roll(points, -1, axis=0)
        pair = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1)
        points = pair.reshape(-1, 2)
    return points


def draw_thorax(rng: np.random.Generator, canvas: Canvas) -> Thorax:
    """Draws one random adult-like chest in frontal view.

    Args:
        rng: source of all anatomical variation.
        canvas: where to draw.
    """
    x, y = canvas.grid
    width, tall = rng.uniform(0.90, 1.08), rng.uniform(0.92, 1.08)
    body = _torso(rng, canvas, width)
    lung_outlines = [_lung_outline(rng, side, width, tall) for side in (-1, 1)]
    lungs = np.maximum(*(canvas.fill(outline, 0.012) for outline in lung_outlines))
    heart = _heart(rng, canvas, width)

    soft = 0.46 + 0.13 * y + 0.10 * np.exp(-((x / 0.5) ** 2)) + 0.02 * canvas.noise(rng, 0.5)
    mediastinum = np.clip(1.35 - np.abs(x) / (0.13 * width), 0, 1)
    density = body * (soft + 0.08 * canvas.blur(np.asarray(mediastinum, np.float32), 0.03))
    air = rng.uniform(0.17, 0.24) + 0.05 * np.abs(y) ** 2 + 0.02 * canvas.noise(rng, 0.45)
    fields = lungs * (1 - heart)
    density = density * (1 - lungs) + lungs * air
    density = density * (1 - heart) + heart * (0.60 + 0.08 * y + 0.015 * canvas.noise(rng, 0.3))
    # Below the domes the ribs drown in the dense abdomen.
    density += body * _bones(rng, canvas, lung_outlines, width) * (0.35 + 0.65 * np.clip(1.9 - 2.2 * y, 0, 1))
    density += 0.10 * body * canvas.blur(_scapulae(rng, canvas, width), 0.02)
    stomach = canvas.bump((0.34 * width, 0.62), (rng.uniform(0.08, 0.14), 0.06))
    density -= rng.uniform(0.0, 0.25) * stomach * (1 - lungs) * (1 - heart)
    vessels = _vessels(rng, canvas, width) * (0.25 + 0.75 * (1 - heart)) * lungs
    return Thorax(canvas, density.astype(np.float32), vessels.astype(np.float32), fields.astype(np.float32))


def _torso(rng: np.random.Generator, canvas: Canvas, width: float) -> Picture:
    half = np.array(_TORSO) + rng.normal(0, 0.008, (len(_TORSO), 2))
    half[:, 0] *= width * rng.uniform(0.98, 1.06)
    outline = np.concatenate([half, (half * [-1, 1])[::-1]])
    body = canvas.fill(smooth_outline(outline), 0.008)
    # Tissue thins out towards the skin, so the edge of a real film is a slope and not a step.
    return np.asarray(body * (0.35 + 0.65 * canvas.blur(body, 0.08)), np.float32)


def _lung_outline(rng: np.random.Generator, side: int, width: float, tall: float) -> Points:
    points = np.array(_LUNG) + rng.normal(0, 0.010, (len(_LUNG), 2))
    points[_DOME, 1] += rng.normal(0, 0.05) + (0.05 if side > 0 else -0.02)
    points *= [width * side, tall]
    return smooth_outline(points)


def _heart(rng: np.random.Generator, canvas: Canvas, width: float) -> Picture:
    size = rng.uniform(0.90, 1.15)
    centre = (rng.uniform(0.08, 0.14) * width, rng.uniform(0.20, 0.27))
    angle = rng.uniform(0.45, 0.75)
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    wobble = 1 + 0.04 * np.sin(2 * turn + rng.uniform(0, 6)) + 0.03 * np.sin(3 * turn + rng.uniform(0, 6))
    along, across = 0.37 * size * wobble * np.cos(turn), 0.27 * size * wobble * np.sin(turn)
    outline = np.stack(
        [
            centre[0] + along * np.cos(angle) - across * np.sin(angle),
            centre[1] + along * np.sin(angle) + across * np.cos(angle),
        ],
        1,
    )
    heart = canvas.fill(outline, 0.012)
    knob = canvas.fill(_ellipse((0.12 * width, rng.uniform(-0.38, -0.30)), (0.085, 0.11)), 0.012)
    vein = canvas.fill(_ellipse((-0.11 * width, -0.35), (0.045, 0.30)), 0.02)
    return np.asarray(np.clip(np.maximum(np.maximum(heart * 0.97, knob * 0.8), vein * 0.6), 0, 1), np.float32)


def _ellipse(centre: tuple[float, float], radii: tuple[float, float]) -> Points:
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([centre[0] + radii[0] * np.cos(turn), centre[1] + radii[1] * np.sin(turn)], 1)


def _bones(rng: np.random.Generator, canvas: Canvas, lungs: list[Points], width: float) -> Picture:
    back, front, core = canvas.strokes(), canvas.strokes(), canvas.strokes()
    gap, slope = rng.uniform(0.150, 0.175), rng.uniform(0.16, 0.30)
    for outline, side in zip(lungs, (-1, 1), strict=True):
        lateral = outline[np.abs(outline[:, 0]) > 0.45 * width]
        order = np.argsort(lateral[:, 1])
        for rib in range(10):
            start = -0.86 + rib * gap + rng.normal(0, 0.006)
            t = np.linspace(0, 1, 24)
            wall = np.interp(start + slope, lateral[order, 1], np.abs(lateral[order, 0])) + 0.03
            reach = wall if rib > 1 else wall * (0.75 + 0.12 * rib)
            posterior = np.stack(
                [
                    side * (0.08 + (reach - 0.08) * np.sin(t * np.pi / 2)),
                    start - 0.05 * np.sin(np.pi * t) + slope * t**2,
                ],
                1,
            )
            canvas.stroke(back, posterior, 0.062, 1.0)
            canvas.stroke(core, posterior, 0.030, 1.0)
            if 0 < rib < 7:
                anterior = np.stack(
                    [side * (reach - (reach - 0.26) * t**1.3), start + slope + 0.26 * t - 0.05 * t**2], 1
                )
                canvas.stroke(front, anterior, 0.070, 1.0)
    ribs = canvas.soften(back, 0.012) - 0.35 * canvas.soften(core, 0.012)
    bones = rng.uniform(0.06, 0.085) * ribs + rng.uniform(0.02, 0.035) * canvas.soften(front, 0.015)
    return np.asarray(bones + _clavicles(rng, canvas, width) + _spine(rng, canvas), np.float32)


def _clavicles(rng: np.random.Generator, canvas: Canvas, width: float) -> Picture:
    mask = canvas.strokes()
    for side in (-1, 1):
        inner, rise = rng.uniform(-0.66, -0.58), rng.uniform(0.08, 0.22)
        t = np.linspace(0, 1, 24)
        line = np.stack([side * width * (0.09 + 0.66 * t), inner - rise * t - 0.03 * np.sin(2 * np.pi * t)], 1)
        canvas.stroke(mask, line, 0.075, 0.75)
        canvas.stroke(mask, line, 0.045, 0.55)
    return np.asarray(0.16 * canvas.soften(mask, 0.010), np.float32)


def _spine(rng: np.random.Generator, canvas: Canvas) -> Picture:
    x, y = canvas.grid
    bend = rng.normal(0, 0.015) * np.sin(2.2 * y + rng.uniform(0, 6))
    column = 0.5 - 0.5 * np.tanh((np.abs(x - bend) - 0.085) / 0.024)
    discs = 0.75 + 0.25 * np.tanh(3 * np.cos(2 * np.pi * y / rng.uniform(0.15, 0.18) + rng.uniform(0, 6)) + 1.5)
    return np.asarray(rng.uniform(0.03, 0.08) * column * discs, np.float32)


def _scapulae(rng: np.random.Generator, canvas: Canvas, width: float) -> Picture:
    blades = np.zeros((canvas.pixels, canvas.pixels), np.float32)
    for side in (-1, 1):
        inner = rng.uniform(0.56, 0.76)
        corners = [(inner, -0.68), (0.90, -0.72), (0.92, -0.50), (inner + 0.13, -0.02), (inner + 0.06, -0.06)]
        blades += canvas.fill(smooth_outline(np.array(corners) * [side * width, 1]), 0.012) * rng.uniform(0.5, 1.0)
    return blades


def _vessels(rng: np.random.Generator, canvas: Canvas, width: float) -> Picture:
    mask = canvas.strokes()
    hila = np.zeros((canvas.pixels, canvas.pixels), np.float32)
    for side in (-1, 1):
        root = np.array([side * 0.17 * width, rng.uniform(-0.08, 0.0)])
        hila += canvas.bump((float(root[0]), float(root[1])), (0.05, 0.09), side * 0.3)
        for heading in np.linspace(-1.35, 1.45, 9) + rng.normal(0, 0.12, 9):
            _branch(rng, canvas, mask, root, side, float(heading), rng.uniform(0.42, 0.62), 0.9)
    return np.asarray(0.10 * canvas.soften(mask, 0.006) + rng.uniform(0.08, 0.14) * hila, np.float32)


def _branch(
    rng: np.random.Generator,
    canvas: Canvas,
    mask: NDArray[np.uint8],
    start: Points,
    side: int,
    heading: float,
    length: float,
    level: float,
) -> None:
    point, steps = start, 7
    for step in range(steps):
        heading += rng.normal(0, 0.12)
        ahead = point + length / steps * np.array([side * np.cos(heading), np.sin(heading)])
        fade = level * (1 - 0.75 * step / steps)
        canvas.stroke(mask, np.stack([point, ahead]), 0.026 * fade, fade)
        if step in (1, 3) and level > 0.4:
            _branch(rng, canvas, mask, ahead, side, heading + rng.choice([-0.6, 0.6]), length * 0.55, fade * 0.75)
        point = ahead
