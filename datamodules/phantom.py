"""Generator of a phantom data set: drawn chest films in the folder layout of Chest X-Ray Images (Pneumonia).

It lets every command run without a download, and its truth is known: pneumonia differs from normal by the fine structure
of an opacity (patchy consolidation, thickened septa, dark air bronchograms, lost vessels). Its brightness says little,
because smooth shadows of the same size and density (soft tissue, folds, exposure) lie over normal lungs too, on average one
more of them than over pneumonia. It is a test object for software and no model of disease: figures measured on it say
nothing about patients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.phantom_files import all_or_nothing, draw_all, write_jpeg
from datamodules.phantom_thorax import FRAME, Canvas, Picture, Thorax, draw_thorax

PHANTOM_VERSION: int = 1
"""Part of cache keys: raise it with any change of pixels or names."""

Finding = Literal["normal", "bacteria", "virus"]

_FOLDER = "chest_xray"
_TEST_SHARE = 0.3
_NORMAL_SHARE = 0.4
_FAINT_SHARE = 0.05
_SMALLEST = 10
_COUNT, _ANATOMY, _CHEST, _POSE = (
    1,
    2,
    3,
    4,
)  # random streams of one patient; not 0, as numpy seeds [7, 0] and [7] alike


@dataclass(frozen=True)
class _Patient:
    number: int
    finding: Finding
    split: Literal["train", "test"]
    names: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return Path(self.split) / ("NORMAL" if self.finding == "normal" else "PNEUMONIA")


def write_phantom(
    root: Path, *, images: int = 900, size: int = 224, seed: int = 0, on_image: Callable[[int], None] | None = None
) -> None:
    """Writes `<root>/chest_xray/{train,test}/{NORMAL,PNEUMONIA}/<name>.jpeg`, all or nothing.

    Each picture depends on (seed, patient number, image index, size) and the patient's finding alone, never on the order
    of drawing. 70 % of the images are train, 40 % of each part are normal; a patient has one to four images and lies in
    one part. The same arguments give the same bytes (for one version of numpy and OpenCV).

    Args:
        root: folder that will hold `chest_xray`; made if missing.
        images: number of images, at least 10.
        size: side of the square 8-bit grey images in pixels, at least 32.
        seed: non-negative; another seed gives other patients.
        on_image: called with the number of images written so far, from the calling thread.

    Raises:
        FileExistsError: `<root>/chest_xray` is there already; it is left untouched.
        ValueError: an argument is out of range.
    """
    if images < _SMALLEST or size < 32 or seed < 0:
        raise ValueError(
            f"a phantom needs images >= {_SMALLEST}, size >= 32 and seed >= 0, "
            f"got images={images}, size={size}, seed={seed}: change the value that is out of range"
        )
    patients = _plan(images, seed)
    with all_or_nothing(root / _FOLDER) as folder:
        for patient in patients:
            (folder / patient.folder).mkdir(parents=True, exist_ok=True)
        draw_all(_write_patient, [(folder, patient, size, seed) for patient in patients], on_image)


def _write_patient(folder: Path, patient: _Patient, size: int, seed: int) -> int:
    for name, picture in zip(patient.names, _films(patient, size, seed), strict=True):
        write_jpeg(folder / patient.folder / name, picture)
    return len(patient.names)


def _plan(images: int, seed: int) -> list[_Patient]:
    """Patients of all four folders with their file names; the counts of images are exact."""
    patients: list[_Patient] = []
    test = round(images * _TEST_SHARE)
    file_number = 0
    counts: dict[Literal["train", "test"], int] = {"train": images - test, "test": test}
    for split, count in counts.items():
        normal = round(count * _NORMAL_SHARE)
        for sick, quota in ((False, normal), (True, count - normal)):
            order = 0
            while quota > 0:
                number = len(patients) + 1
                rng = np.random.default_rng([seed, number, _COUNT])
                shown = min(quota, int(rng.choice([1, 2, 3, 4], p=[0.45, 0.3, 0.15, 0.1])))
                finding: Finding = "normal" if not sick else "virus" if order % 5 in (1, 3) else "bacteria"
                if sick:
                    names = tuple(f"person{number}_{finding}_{file_number + k + 1}.jpeg" for k in range(shown))
                else:
                    prefix = "NORMAL2-IM" if order % 2 else "IM"
                    names = tuple(f"{prefix}-{number:04d}-{k + 1:04d}.jpeg" for k in range(shown))
                patients.append(_Patient(number, finding, split, names))
                quota, order, file_number = quota - shown, order + 1, file_number + shown
    return patients


def _films(patient: _Patient, size: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """The patient's films, (size, size) uint8: one anatomy, a new pose and exposure for each."""
    thorax = draw_thorax(np.random.default_rng([seed, patient.number, _ANATOMY]), Canvas(round(size * 1.25)))
    for index in range(len(patient.names)):
        # The chest stream restarts for every film, so that lesion and shadows come back; only the pose is new.
        chest = np.random.default_rng([seed, patient.number, _CHEST])
        pose = np.random.default_rng([seed, patient.number, _POSE, index])
        yield _expose(_place(_chest(thorax, patient.finding, chest, pose), pose, size), pose)


def _chest(thorax: Thorax, finding: Finding, rng: np.random.Generator, change: np.random.Generator) -> Picture:
    """Density of the whole chest with shadows and, unless normal, the opacity."""
    shadows = _shadows(thorax.canvas, finding, rng, change)
    if finding == "normal":
        return thorax.density + thorax.vessels + thorax.lungs * shadows
    share, texture = _lobar(thorax, rng, change) if finding == "bacteria" else _patchy(thorax, rng, change)
    # Some cases are faint, so that no threshold finds all of them for free.
    share = share * thorax.lungs * (rng.uniform(0.40, 0.65) if rng.random() < _FAINT_SHARE else 1.0)
    mean = rng.uniform(0.22, 0.34) if finding == "bacteria" else rng.uniform(0.10, 0.24)
    opacity = share * (mean * change.uniform(0.85, 1.15) + texture)
    return thorax.density + thorax.vessels * (1 - 0.7 * share) + thorax.lungs * shadows + opacity


def _shadows(canvas: Canvas, finding: Finding, rng: np.random.Generator, change: np.random.Generator) -> Picture:
    """Smooth densities without structure over any lung: soft tissue, folds, uneven exposure; below 0 where clearer."""
    total = rng.uniform(0.02, 0.05) * canvas.noise(rng, rng.uniform(0.25, 0.6))
    count = rng.integers(1, 4) + (rng.integers(0, 3) if finding == "normal" else 0)
    for _ in range(count):
        side = rng.choice([-1, 1])
        centre = (side * rng.uniform(0.25, 0.52), rng.uniform(-0.5, 0.4))
        radii = (rng.uniform(0.12, 0.24), rng.uniform(0.14, 0.28))
        hill = canvas.bump(centre, radii, rng.uniform(0, np.pi))
        total = total + rng.uniform(0.05, 0.20) * change.uniform(0.85, 1.15) * hill
    return np.asarray(total, np.float32)


def _texture(canvas: Canvas, rng: np.random.Generator, strength: float) -> Picture:
    """Patchy fine-grained consolidation, zero on average: fluffy spots of about 2 % of the film's width."""
    fluff = canvas.noise(rng, 0.011, 0.04) + 0.4 * canvas.noise(rng, 0.03, 0.09)
    return np.asarray(strength * fluff / 1.08, np.float32)


def _net(canvas: Canvas, rng: np.random.Generator, mesh: float) -> Picture:
    """Bright meshes of about `mesh` body units, as thickened septa draw them: zero on average, about [-0.6, 0.4]."""
    net = -np.abs(np.tanh(canvas.noise(rng, mesh, 2.7 * mesh)))
    return np.asarray(net - net.mean(), np.float32)


def _bronchograms(canvas: Canvas, centre: tuple[float, float], rng: np.random.Generator) -> Picture:
    """Dark branching airways through a consolidation, in [0, 1], fanning out from the hilum's side."""
    mask = canvas.strokes()
    side = np.sign(centre[0])
    hilum = np.array([side * 0.17, -0.05])
    away = np.arctan2(centre[1] - hilum[1], centre[0] - hilum[0])
    for heading in away + np.linspace(-0.7, 0.7, 5) + rng.normal(0, 0.1, 5):
        point = hilum + 0.08 * np.array([np.cos(heading), np.sin(heading)])
        path = [point]
        for _ in range(9):
            heading += rng.normal(0, 0.16)
            point = point + 0.06 * np.array([np.cos(heading), np.sin(heading)])
            path.append(point)
        canvas.stroke(mask, np.array(path), 0.013, 0.7)
        canvas.stroke(mask, np.array(path[:6]), 0.018, 1.0)
    return canvas.soften(mask, 0.006)


def _lobar(thorax: Thorax, rng: np.random.Generator, change: np.random.Generator) -> tuple[Picture, Picture]:
    """One focal opacity with a ragged soft edge and air bronchograms: its share in [0, 1] and its zero-mean texture."""
    canvas = thorax.canvas
    side = rng.choice([-1, 1])
    centre = (float(side * rng.uniform(0.30, 0.48)), float(rng.uniform(-0.40, 0.36)))
    radii = rng.uniform(0.30, 0.43, 2) * change.uniform(0.92, 1.08)
    edge = canvas.distance(centre, (radii[0], radii[1]), rng.uniform(0, np.pi)) + 0.15 * canvas.noise(rng, 0.10)
    share = 0.5 - 0.5 * np.tanh((edge - 1) / 0.30)
    airways = _bronchograms(canvas, centre, rng)
    texture = (_texture(canvas, rng, 0.095) + 0.20 * _net(canvas, rng, 0.018)) * (1 - 0.8 * airways) - 0.15 * airways
    return np.asarray(share, np.float32), np.asarray(texture, np.float32)


def _patchy(thorax: Thorax, rng: np.random.Generator, change: np.random.Generator) -> tuple[Picture, Picture]:
    """Many small patches around both hila with a net-like texture: their share in [0, 1] and the zero-mean texture."""
    canvas = thorax.canvas
    share = np.zeros((canvas.pixels, canvas.pixels), np.float32)
    for patch in range(int(rng.integers(7, 12))):
        side = (-1, 1)[patch % 2]
        centre = (side * rng.uniform(0.18, 0.55), rng.uniform(-0.5, 0.42))
        radii = rng.uniform(0.11, 0.19, 2) * change.uniform(0.92, 1.08)
        share = np.maximum(
            share, rng.uniform(0.6, 1.0) * canvas.bump(centre, (radii[0], radii[1]), rng.uniform(0, np.pi))
        )
    return share, np.asarray(0.26 * _net(canvas, rng, 0.021) + _texture(canvas, rng, 0.085), np.float32)


def _place(chest: Picture, rng: np.random.Generator, size: int) -> Picture:
    """Photographs the canvas from a slightly turned, shifted, nearer or farther body: (size, size) density."""
    half = rng.uniform(0.82, 0.91)
    turn, middle = np.deg2rad(rng.normal(0, 2)), (rng.normal(0, 0.02), rng.normal(-0.03, 0.025))
    pixels = chest.shape[0]
    scale = half / FRAME * pixels / size
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    origin = [(middle[k] / FRAME + 1) * pixels / 2 for k in (0, 1)]
    matrix = np.array([[c, -s, origin[0] - (c - s) * size / 2], [s, c, origin[1] - (s + c) * size / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(chest, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def _expose(density: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turns density into an 8-bit film: exposure, contrast curve, quantum noise, side marker, collimation."""
    size = density.shape[0]
    gain, curve, fog = rng.uniform(1.15, 1.30), rng.uniform(1.7, 2.0), rng.uniform(-0.02, 0.02)
    film = np.asarray(gain * np.clip(density, 0, 1.1) ** curve + fog, np.float64)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    film = film + rng.normal(0, 0.02) * axis + rng.normal(0, 0.02) * axis[:, None]
    grain = cv2.GaussianBlur(
        rng.standard_normal((size, size), dtype=np.float32), (0, 0), rng.uniform(0.4, 0.7) * size / 224
    )
    film = film + rng.uniform(0.004, 0.011) * grain / grain.std()
    if rng.random() < 0.6:
        place = (round(size * rng.uniform(0.03, 0.08)), round(size * rng.uniform(0.08, 0.14)))
        marked = np.zeros((size, size), np.uint8)
        cv2.putText(marked, "R", place, cv2.FONT_HERSHEY_SIMPLEX, size / 420, 255, max(1, size // 150), cv2.LINE_AA)
        film = np.maximum(film, marked.astype(np.float32) / 275)
    if rng.random() < 0.35:
        film = film * _collimation(rng, size)
    return np.asarray(np.clip(np.round(film * 255), 0, 255), np.uint8)


def _collimation(rng: np.random.Generator, size: int) -> Picture:
    """Lead shutters: 1 in the field, 0 in a slightly turned border of up to 5 % of the side."""
    low, high = rng.uniform(0.0, 0.05, 2) * size, (1 - rng.uniform(0.0, 0.05, 2)) * size
    corners = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]]) - size / 2
    turn = np.deg2rad(rng.normal(0, 0.8))
    corners = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + size / 2
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(corners * 16).astype(np.int32).reshape(-1, 1, 2)], 255, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), size / 300).astype(np.float32) / 255, np.float32)
