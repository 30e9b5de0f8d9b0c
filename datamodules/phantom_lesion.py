"""Drawn skin lesions: nine kinds that differ in pigment pattern, vessels and border, as layers of pigment, blood and white.

A test object for software and no model of disease. The motifs follow the field's vocabulary of dermoscopy (pattern analysis:
network, globules, streaks, veil, nests, lacunae); their frequencies and colours are chosen for the drawing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Literal, get_args

import numpy as np

from datamodules.phantom_sketch import Layers, Sketch
from datamodules.phantom_thorax import Canvas, Picture

Kind = Literal["nevus", "melanoma", "pbk", "sk", "bcc", "ak", "scc", "vascular", "df"]
"""nevus, melanoma, pigmented benign keratosis, seborrheic keratosis, basal cell carcinoma, actinic keratosis, squamous cell
carcinoma, vascular lesion, dermatofibroma."""
KINDS: tuple[Kind, ...] = get_args(Kind)

_DISCREET_SHARE = 0.05


def draw_lesion(kind: Kind, rng: np.random.Generator, canvas: Canvas) -> Layers:
    """Draws one random lesion of a kind, about the middle of the canvas, on no skin.

    Size, depth of colour and place are drawn alike for every kind; kinds differ by their structures.

    Args:
        kind: which one.
        rng: source of all variation of the lesion.
        canvas: where to draw.
    """
    lobes, ragged, soft, even, draw = _KIND[kind]
    sketch = Sketch(canvas, rng, *(float(value * rng.uniform(0.6, 1.5)) for value in (lobes, ragged, soft)))
    draw(sketch)
    sketch.even_out(even)
    if rng.random() < _DISCREET_SHARE:  # some cases are faint, so that no model finds all of them for free
        for field in fields(Layers):
            picture = getattr(sketch.layers, field.name)
            setattr(sketch.layers, field.name, canvas.blur(np.asarray(0.7 * picture, np.float32), 0.02))
    return sketch.layers


def _nevus(s: Sketch) -> None:
    """Regular: one network, or even globules, or both with the network outside; fading evenly to the border."""
    s.ground((0.2, 0.5), (0.05, 0.25), 0.10)
    fade = np.clip(1.15 - s.rho, 0, 1) ** np.float32(0.5)
    pattern = s.rng.random()
    strength = np.float32(s.rng.uniform(0.6, 0.95))
    if pattern < 0.65:
        s.layers.melanin += strength * s.mesh(s.rng.uniform(0.075, 0.095), 0.13, 0.4) * fade
    if pattern > 0.55:
        inner = fade if pattern > 0.65 else np.clip(1.6 - 3 * s.rho, 0, 1)
        s.layers.melanin += strength * s.spots(s.lattice(s.rng.uniform(0.085, 0.105), 0.15), (0.022, 0.030)) * inner


def _melanoma(s: Sketch) -> None:
    """Asymmetric and variegated: blotches, broken network, black dots, streaks, blue-white veil, white regression."""
    s.ground((0.35, 0.8), (0.05, 0.35), 0.45)
    broken = s.region(0.4)
    s.layers.melanin += np.float32(0.8) * s.mesh(s.rng.uniform(0.09, 0.13), 0.28, 0.6) * s.share * broken
    dots = s.spots(s.scatter(int(s.rng.integers(25, 60)), 0.1, 1.05), (0.008, 0.034), 0.004)
    s.layers.melanin += np.float32(1.3) * dots
    around = s.rng.uniform(0, 2 * np.pi) + s.rng.uniform(-0.8, 0.8, 20)
    rim = s.centre + 0.86 * s.radius * np.stack([np.cos(around), np.sin(around)], 1)
    s.layers.melanin += np.float32(1.5) * s.paths(rim, around, 0.15, 0.020, 0.10) * np.clip(1.45 - s.rho, 0, 0.5)
    veil = s.region(0.28) * np.clip(1.25 - s.rho, 0, 1)
    s.layers.deep += np.float32(s.rng.uniform(0.8, 1.3)) * veil
    s.layers.white += np.float32(0.22) * veil
    scar = s.region(0.15, 0.15) * np.clip(1.3 - s.rho, 0, 1)
    s.layers.melanin *= 1 - np.float32(0.8) * scar
    s.layers.white += np.float32(0.45) * scar
    s.layers.deep += np.float32(1.2) * scar * s.spots(s.lattice(0.055, 0.3), (0.008, 0.013), 0.003)


def _pbk(s: Sketch) -> None:
    """Moth-eaten border, parallel ridges like a fingerprint, grey granules."""
    bites = s.spots(s.scatter(9, 0.9, 1.1), (0.05, 0.10), 0.01)
    s.share = np.asarray(s.share * (1 - 0.95 * bites), np.float32)
    s.ground((0.35, 0.75), (0.05, 0.3), 0.15)
    x, y = s.canvas.grid
    turn = s.rng.uniform(0, np.pi)
    phase = (np.cos(turn) * x + np.sin(turn) * y).astype(np.float32) + np.float32(0.05) * s.noise
    ridges = np.clip(1.2 * np.sin(phase * np.float32(2 * np.pi / s.rng.uniform(0.07, 0.09))), -1, 1)
    s.layers.melanin += (
        np.float32(s.rng.uniform(0.22, 0.34)) * ridges * s.share * (1 + np.float32(0.35) * s.canvas.noise(s.rng, 0.06))
    )
    s.layers.deep += np.float32(0.7) * s.region(0.2) * s.share * s.spots(s.lattice(0.05, 0.3), (0.009, 0.015), 0.004)


def _sk(s: Sketch) -> None:
    """Stuck on, sharply bordered: milia-like white dots, comedo-like dark openings, fissures."""
    s.ground((0.45, 0.85), (0.05, 0.25), 0.15)
    s.layers.keratin += np.float32(s.rng.uniform(0.1, 0.3)) * s.share
    milia = s.spots(s.scatter(int(s.rng.integers(22, 45))), (0.020, 0.036), 0.005)
    plugs = s.spots(s.scatter(int(s.rng.integers(15, 35))), (0.020, 0.038), 0.005)
    fissures = np.exp(-((s.canvas.noise(s.rng, 0.12) / np.float32(0.14)) ** 2)) * s.share
    s.layers.melanin += (np.float32(1.3) * plugs + np.float32(0.4) * fissures) * s.share
    s.layers.melanin *= 1 - np.float32(0.75) * milia
    s.layers.white += np.float32(0.6) * milia * s.share
    s.layers.keratin += np.float32(0.3) * plugs * s.share


def _bcc(s: Sketch) -> None:
    """Blue-grey ovoid nests and specks, sharp arborising vessels, shiny white lines, on translucent pink."""
    s.ground((0.05, 0.45), (0.15, 0.4), 0.25)
    nests = np.zeros_like(s.share)
    for x, y in s.scatter(int(s.rng.integers(5, 11)), 0.1, 0.95):
        radii = s.rng.uniform(0.04, 0.11), s.rng.uniform(0.035, 0.07)
        edge = s.canvas.distance((float(x), float(y)), radii, s.rng.uniform(0, np.pi))
        nests = np.maximum(nests, 0.5 - 0.5 * np.tanh((edge - 1) / 0.25))
    specks = s.spots(s.scatter(18, 0.2, 1.0), (0.010, 0.020), 0.004)
    s.layers.deep += np.float32(s.rng.uniform(0.7, 1.1)) * np.maximum(nests, specks)
    s.layers.melanin *= 1 - np.float32(0.6) * nests
    s.layers.blood += np.float32(0.9) * _arborising(s)
    s.layers.white += (
        np.float32(0.5) * s.paths(s.scatter(9, 0, 0.7), np.full(9, s.rng.uniform(0, 3)), 0.13, 0.014, 0.1) * s.share
    )


def _arborising(s: Sketch) -> Picture:
    """Sharp vessels that branch from thick stems into fine twigs, in [0, 1]."""
    mask = s.canvas.strokes()
    for _ in range(int(s.rng.integers(2, 5))):
        angle = s.rng.uniform(0, 2 * np.pi)
        start = s.centre + 0.95 * s.radius * np.array([np.cos(angle), np.sin(angle)])
        twigs = [(start, angle + np.pi + s.rng.normal(0, 0.4), 0.022, 1.0)]
        while twigs:
            point, heading, width, level = twigs.pop()
            turns = heading + np.cumsum(s.rng.normal(0, 0.28, 6))
            line = np.concatenate([[point], point + np.cumsum(0.055 * np.stack([np.cos(turns), np.sin(turns)], 1), 0)])
            s.canvas.stroke(mask, line, width, level)
            if width > 0.010:
                for k, way in ((3, -0.7), (4, 0.7), (6, 0.1)):
                    twigs.append((line[k], turns[min(k, 5)] + way, 0.62 * width, 0.85 * level))
    return s.canvas.soften(mask, 0.004)


def _ak(s: Sketch) -> None:
    """Strawberry: red-brown pseudonetwork round yellowish follicles with white rings, fine scale."""
    s.ground((0.2, 0.55), (0.3, 0.5), 0.25)
    follicles = s.lattice(s.rng.uniform(0.12, 0.145), 0.2)
    wide = s.spots(follicles, (0.038, 0.046), 0.005)
    core = s.spots(follicles, (0.018, 0.024), 0.004)
    s.layers.blood += np.float32(0.45) * s.share * (1 - wide)
    for layer in (s.layers.melanin, s.layers.blood):
        layer *= 1 - np.float32(0.5) * wide * s.share
    s.layers.white += np.float32(0.28) * np.clip(wide - core, 0, 1) * s.share
    s.layers.keratin += np.float32(0.6) * core * s.share
    flakes = s.region(0.22, 0.1) * (s.canvas.noise(s.rng, 0.014, 0.05) > 0.8)
    s.layers.white += np.float32(0.5) * flakes * s.share


def _scc(s: Sketch) -> None:
    """White structureless areas, scale and a horny middle, looped vessels at the rim, specks of blood."""
    s.ground((0.2, 0.6), (0.2, 0.45), 0.3)
    scale = (s.canvas.noise(s.rng, 0.016, 0.07) > 0.45) * s.region(0.6, 0.2)
    pale = s.region(0.35)
    s.layers.white += (
        np.float32(0.30) * pale + np.float32(0.55) * s.canvas.blur(scale.astype(np.float32), 0.005)
    ) * s.share
    horn = np.clip(1.4 - 2.2 * s.rho, 0, 1) * np.clip(0.7 + 0.4 * s.canvas.noise(s.rng, 0.05), 0, 1)
    s.layers.keratin += np.float32(s.rng.uniform(0.3, 0.6)) * horn
    mask = s.canvas.strokes()
    turn = np.linspace(0, 1.55 * np.pi, 12)
    loop = 0.034 * np.stack([np.cos(turn) * np.linspace(0.6, 1.1, 12), np.sin(turn)], 1)
    for start in s.scatter(int(s.rng.integers(28, 45)), 0.5, 1.0):
        angle = s.rng.uniform(0, 2 * np.pi)
        c, n = np.cos(angle), np.sin(angle)
        s.canvas.stroke(mask, start + loop @ np.array([[c, n], [-n, c]]), 0.014, 1.0)
    s.layers.blood += np.float32(1.2) * s.canvas.soften(mask, 0.004)
    crust = s.spots(s.scatter(10, 0, 0.6), (0.012, 0.03), 0.005)
    s.layers.blood += np.float32(1.5) * crust
    s.layers.melanin += np.float32(1.0) * crust


def _vascular(s: Sketch) -> None:
    """Packed round red to purple lacunae with pale septa; some dark with clotted blood."""
    s.ground((0.05, 0.35), (0.2, 0.4), 0.1)
    points = s.lattice(s.rng.uniform(0.13, 0.18), 0.16)
    lacunae = np.minimum(s.spots(points, (0.055, 0.078), 0.008), s.share)
    s.layers.blood += np.float32(s.rng.uniform(0.6, 1.1)) * lacunae
    s.layers.deep += np.float32(s.rng.uniform(0.1, 0.8)) * lacunae * (0.5 + 0.5 * s.region(0.5))
    s.layers.white += np.float32(0.25) * np.clip(s.share - lacunae, 0, 1)
    clots = s.region(0.15, 0.1) * lacunae
    s.layers.deep += np.float32(1.0) * clots
    s.layers.melanin += np.float32(0.6) * clots


def _df(s: Sketch) -> None:
    """White scar-like middle with white lines, and a delicate network that fades outwards."""
    s.ground((0.2, 0.5), (0.15, 0.35), 0.1)
    ring = np.clip(1.25 - s.rho, 0, 1) * np.clip(2.4 * s.rho - 0.7, 0, 1)
    s.layers.melanin += np.float32(s.rng.uniform(0.55, 0.85)) * s.mesh(s.rng.uniform(0.06, 0.075), 0.14, 0.25) * ring
    middle = np.clip(1.5 - 2.4 * s.rho + 0.15 * s.noise, 0, 1)
    s.layers.melanin *= 1 - np.float32(0.5) * middle
    lines = s.mesh(s.rng.uniform(0.11, 0.14), 0.25, 0.25)
    s.layers.white += middle * (np.float32(0.22) + np.float32(0.5) * lines)


_KIND: dict[Kind, tuple[float, float, float, float, Callable[[Sketch], None]]] = {
    # lobes, ragged, soft, evened out (less for the kinds that are rare)
    "nevus": (0.05, 0.03, 0.10, 0.65, _nevus),
    "melanoma": (0.14, 0.10, 0.07, 0.65, _melanoma),
    "pbk": (0.08, 0.06, 0.07, 0.65, _pbk),
    "sk": (0.07, 0.04, 0.04, 0.65, _sk),
    "bcc": (0.10, 0.08, 0.18, 0.45, _bcc),
    "ak": (0.12, 0.09, 0.18, 0.3, _ak),
    "scc": (0.10, 0.09, 0.14, 0.3, _scc),
    "vascular": (0.07, 0.05, 0.06, 0.2, _vascular),
    "df": (0.05, 0.03, 0.20, 0.35, _df),
}
