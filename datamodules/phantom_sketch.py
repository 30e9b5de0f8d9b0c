"""Sheet on which a phantom lesion is drawn: its outline, its layers, and the strokes that its structures are made of."""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.phantom_thorax import FRAME, Canvas, Picture, Points


@dataclass
class Layers:
    """What lies in and on the skin, each (pixels, pixels) float32, 0 where there is none.

    Attributes:
        melanin: pigment near the surface (brown to black); optical density, 1 is a dark brown.
        deep: pigment in the depth, which scatters blue-grey; optical density.
        blood: vessels and redness; optical density, 1 is a full red.
        white: share of whitish scar, scale or halo, in [0, 1].
        keratin: share of yellowish horn, in [0, 1].
    """

    melanin: Picture
    deep: Picture
    blood: Picture
    white: Picture
    keratin: Picture


class Sketch:
    """A lesion's outline on a canvas, and the layers that its structures are drawn into."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator, lobes: float, ragged: float, soft: float) -> None:
        """`lobes`: asymmetry, `ragged`: irregularity, `soft`: width of the border, each as a share of the radius."""
        self.canvas, self.rng = canvas, rng
        self.radius = float(rng.uniform(0.34, 0.66))
        self.centre = rng.normal(0, 0.07, 2)
        self.noise = canvas.noise(rng, 0.22)
        self.fine = canvas.noise(rng, 0.012)
        self.rho = self._radial(lobes, ragged) + np.float32(0.5 * ragged) * canvas.noise(rng, 0.05)
        self.share = np.asarray(0.5 - 0.5 * np.tanh((self.rho - 1) / soft), np.float32)
        self.layers = Layers(*(np.zeros((canvas.pixels, canvas.pixels), np.float32) for _ in fields(Layers)))

    def _radial(self, lobes: float, ragged: float) -> Picture:
        """Distance from the centre over the outline's radius in that direction: 1 on the outline."""
        turn = np.arange(720) / 720 * 2 * np.pi
        waves = np.zeros(720)
        for k in range(2, 10):
            waves += (
                (lobes if k < 4 else 0.6 * ragged) * self.rng.normal() * np.cos(k * turn + self.rng.uniform(0, 6.3))
            )
        outline = self.radius * np.clip(1 + waves / 1.5, 0.45, 1.7)
        x, y = self.canvas.grid
        dx, dy = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        distance, angle = cv2.cartToPolar(dx, dy)
        return np.asarray(
            distance / outline.astype(np.float32)[(angle * (720 / 2 / np.pi)).astype(np.int32) % 720], np.float32
        )

    def lattice(self, pitch: float, jitter: float) -> Points:
        """Points of a hexagonal lattice over the lesion, displaced by `jitter` of the pitch."""
        reach = 1.35 * self.radius
        columns, rows = np.arange(-reach, reach, pitch), np.arange(-reach, reach, 0.866 * pitch)
        x, y = np.meshgrid(columns, rows)
        x = x + 0.5 * pitch * (np.arange(len(rows)) % 2)[:, None]
        points = np.stack([x.ravel(), y.ravel()], 1) + self.centre
        return np.asarray(points + self.rng.normal(0, jitter * pitch, points.shape))

    def scatter(self, count: int, low: float = 0.0, high: float = 0.95) -> Points:
        """Random points whose distance from the centre lies between `low` and `high` radii."""
        turn = self.rng.uniform(0, 2 * np.pi, count)
        away = self.radius * np.sqrt(self.rng.uniform(low**2, high**2, count))
        return np.asarray(self.centre + away[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1))

    def spots(self, points: Points, radius: tuple[float, float], soft: float = 0.006) -> Picture:
        """Discs of random radius (body units) and strength at the points, in [0, 1]."""
        side = self.canvas.pixels
        mask = np.zeros((2 * side, 2 * side), np.uint8)  # twice as fine, as small circles come out square
        pixels = np.round(((points + FRAME) * self.canvas.unit * 2 - 0.5) * 16).astype(int)
        radii = np.round(self.rng.uniform(*radius, len(points)) * self.canvas.unit * 32).astype(int)
        levels = self.rng.integers(170, 256, len(points))
        for (x, y), size, level in zip(pixels.tolist(), radii.tolist(), levels.tolist(), strict=True):
            cv2.circle(mask, (x, y), size, level, cv2.FILLED, cv2.LINE_AA, 4)
        small = np.asarray(cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        return self.canvas.soften(small, soft)

    def mesh(self, pitch: float, jitter: float, thick: float) -> Picture:
        """Lines of a honeycomb between lattice points, in [0, 1]; `thick` in [0, 1] widens them."""
        mask = np.full((self.canvas.pixels,) * 2, 255, np.uint8)
        pixels = np.round((self.lattice(pitch, jitter) + FRAME) * self.canvas.unit - 0.5).astype(int)
        inside = pixels[((pixels >= 0) & (pixels < self.canvas.pixels)).all(1)]
        mask[inside[:, 1], inside[:, 0]] = 0
        away = cv2.distanceTransform(mask, cv2.DIST_L2, 5) / np.float32(pitch * self.canvas.unit)
        return np.asarray(np.clip((away - (0.52 - 0.3 * thick)) / 0.16, 0, 1), np.float32)

    def paths(self, starts: Points, heading: NDArray[np.float64], length: float, width: float, bend: float) -> Picture:
        """Winding lines from each start in its heading (radians), in [0, 1]."""
        mask = self.canvas.strokes()
        steps = 8
        for start, angle in zip(starts, heading, strict=True):
            turns = angle + np.cumsum(self.rng.normal(0, bend, steps))
            moves = np.stack([np.cos(turns), np.sin(turns)], 1) * length / steps
            line = np.concatenate([[start], start + np.cumsum(moves, 0)])
            self.canvas.stroke(mask, line, width, float(self.rng.uniform(0.7, 1.0)))
        return self.canvas.soften(mask, 0.005)

    def region(self, amount: float, soft: float = 0.25) -> Picture:
        """A random smooth part of the canvas, in [0, 1], about a share `amount` of it."""
        field = self.canvas.noise(self.rng, 0.28)
        return np.asarray(
            0.5 + 0.5 * np.tanh((field - float(np.quantile(field[::7, ::7], 1 - amount))) / soft), np.float32
        )

    def ground(self, melanin: tuple[float, float], blood: tuple[float, float], uneven: float) -> None:
        """Base colour inside the outline, with blotches of strength `uneven`."""
        grain = np.float32(0.10) * self.fine + np.float32(0.12) * self.canvas.noise(self.rng, 0.04)
        tint = self.share * np.clip(1 + np.float32(uneven) * self.noise + grain, 0.1, 2.2)
        self.layers.melanin += np.float32(self.rng.uniform(*melanin)) * tint
        self.layers.blood += np.float32(self.rng.uniform(*blood)) * self.share

    def even_out(self, share: float) -> None:
        """Moves mean pigment and redness by `share` of the way to values drawn alike for every kind.

        So the average colour says little about the kind.
        """
        targets = {"melanin": (0.40, 1.0), "blood": (0.0, 0.35), "deep": (0.0, 0.25)}
        weight = self.share / self.share.sum()
        for name, (low, high) in targets.items():
            layer: Picture = getattr(self.layers, name)
            shift = np.float32(self.rng.uniform(low, high) - float((layer * weight).sum()))
            setattr(self.layers, name, np.maximum(layer + np.float32(share) * shift * self.share, 0))
