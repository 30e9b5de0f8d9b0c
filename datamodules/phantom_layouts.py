"""Phantom skin data sets: drawn dermoscopy in the folder layouts and with the metadata of four public sets.

They let every command run without a download. They are test objects for software and no model of disease.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

import numpy as np

from datamodules.phantom_dermoscopy import PHANTOM_SKIN_VERSION, draw_dermoscopy
from datamodules.phantom_files import all_or_nothing, draw_all, write_jpeg
from datamodules.phantom_lesion import KINDS, Kind
from datamodules.phantom_records import SCHEMAS, ham10000_row, isic_row, owners

__all__ = [
    "PHANTOM_SKIN_VERSION",
    "write_phantom_ham10000",
    "write_phantom_isic9",
    "write_phantom_isic_archive",
    "write_phantom_skin_cancer",
]

Schema = Literal["new", "old"]
Progress = Callable[[int], None] | None

_SMALLEST_SIZE = 32
_FEWEST_LESIONS = 15  # so that a class can be cut into test (a fifth) and validation (a tenth of the rest)
_IMAGES_PER_LESION = (0.58, 0.22, 0.11, 0.05, 0.025, 0.015)  # probabilities of 1 to 6
_COUNT, _NAMES = 1, 9  # random streams: of one lesion, of one data set

# Image counts of the published sets; phantoms keep their shares.
_HAM10000 = {"nv": 6705, "mel": 1113, "bkl": 1099, "bcc": 514, "akiec": 327, "vasc": 142, "df": 115}
_ISIC9 = {
    **{"actinic keratosis": 114, "basal cell carcinoma": 376, "dermatofibroma": 95, "melanoma": 438, "nevus": 357},
    **{
        "pigmented benign keratosis": 462,
        "seborrheic keratosis": 77,
        "squamous cell carcinoma": 181,
        "vascular lesion": 139,
    },
}
_ISIC9_TEST = {name: 3 if name in ("seborrheic keratosis", "vascular lesion") else 16 for name in _ISIC9}
_ARCHIVE = {"nevus": 55, "melanoma": 14, "bcc": 11, "pbk": 6, "sk": 4, "ak": 3, "scc": 4, "vascular": 1.5, "df": 1.5}
# What a label is drawn as, with probabilities.
_DRAWN: dict[str, dict[Kind, float]] = {
    **{"nv": {"nevus": 1}, "mel": {"melanoma": 1}, "bkl": {"sk": 0.5, "pbk": 0.5}, "akiec": {"ak": 0.75, "scc": 0.25}},
    **{"vasc": {"vascular": 1}, "actinic keratosis": {"ak": 1}, "basal cell carcinoma": {"bcc": 1}},
    **{"dermatofibroma": {"df": 1}, "pigmented benign keratosis": {"pbk": 1}, "seborrheic keratosis": {"sk": 1}},
    **{"squamous cell carcinoma": {"scc": 1}, "vascular lesion": {"vascular": 1}},
    **{kind: {kind: 1} for kind in KINDS},
    "benign": {"nevus": 0.7, "sk": 0.1, "pbk": 0.1, "df": 0.06, "vascular": 0.04},
    "malignant": {"melanoma": 0.65, "bcc": 0.2, "scc": 0.1, "ak": 0.05},
}


@dataclass(frozen=True)
class _Lesion:
    """A lesion to draw: `number` decides its look, `shown` how many images it has."""

    label: str
    kind: Kind
    number: int
    shown: int


def write_phantom_ham10000(
    root: Path, *, images: int = 1200, size: int = 160, seed: int = 0, on_image: Progress = None
) -> None:
    """Writes `<root>/ham10000/{images/ISIC_*.jpg, HAM10000_metadata.csv}`, all or nothing.

    Classes have HAM10000's shares, but at least 15 lesions each. A lesion has one diagnosis and one to six images. Some ages,
    sexes and sites are missing. Each picture depends on (seed, lesion number, image index, size, class) alone, and the
    same arguments give the same bytes (for one version of numpy and OpenCV).

    Args:
        root: folder that will hold `ham10000`; made if missing.
        images: number of images, at least 300.
        size: side of the square RGB images in pixels, at least 32.
        seed: non-negative; another seed gives other lesions.
        on_image: called with the number of images written so far, from the calling thread.

    Raises:
        FileExistsError: `<root>/ham10000` is there already; it is left untouched.
        ValueError: an argument is out of range.
    """
    _check(images, 300, size, seed)
    lesions = list(_plan(_quotas(images, _HAM10000, _FEWEST_LESIONS), seed, 1_000_000))
    rng = np.random.default_rng([seed, 1, _NAMES])
    image_ids = iter(rng.permutation(images) + 24_306)
    lesion_ids = (
        rng.choice(7_500, len(lesions), replace=False) if len(lesions) <= 7_500 else rng.permutation(len(lesions))
    )
    files: list[list[Path]] = []
    rows: list[dict[str, str]] = []
    for lesion, lesion_id in zip(lesions, lesion_ids, strict=True):
        names = [f"ISIC_{next(image_ids):07d}" for _ in range(lesion.shown)]
        files.append([Path("images") / f"{name}.jpg" for name in names])
        shared = ham10000_row(lesion.label, np.random.default_rng([seed, lesion.number, _NAMES]))
        rows += [{"lesion_id": f"HAM_{lesion_id:07d}", "image_id": name, **shared} for name in names]
    rows.sort(key=lambda row: row["image_id"])
    _write(root / "ham10000", lesions, files, {"HAM10000_metadata.csv": _csv(rows)}, size, seed, on_image)


def write_phantom_isic9(
    root: Path, *, images: int = 1200, size: int = 160, seed: int = 0, on_image: Progress = None
) -> None:
    """Writes `<root>/isic9/{Train,Test}/<class>/ISIC_*.jpg`, nine classes, all or nothing.

    About 5 % of the images are Test, with at least 2 a class; no lesion lies in both parts. Train has the published set's class
    shares, but at least 15 lesions a class. Arguments and errors as of `write_phantom_ham10000`, with the folder `isic9`.
    """
    _check(images, 300, size, seed)
    test = {
        name: max(2, round(0.05 * images * count / sum(_ISIC9_TEST.values()))) for name, count in _ISIC9_TEST.items()
    }
    train = list(_plan(_quotas(images - sum(test.values()), _ISIC9, _FEWEST_LESIONS), seed, 2_000_000))
    held = list(_plan(test, seed, 3_000_000))
    ids = iter(np.random.default_rng([seed, 2, _NAMES]).permutation(images) + 100)
    files = [
        [Path(part) / lesion.label / f"ISIC_{next(ids):07d}.jpg" for _ in range(lesion.shown)]
        for part, lesions in (("Train", train), ("Test", held))
        for lesion in lesions
    ]
    _write(root / "isic9", [*train, *held], files, {}, size, seed, on_image)


def write_phantom_skin_cancer(
    root: Path, *, images: int = 1200, size: int = 160, seed: int = 0, on_image: Progress = None
) -> None:
    """Writes `<root>/skin_cancer/{train,test}/{benign,malignant}/<n>.jpg`, all or nothing.

    20 % of the images are test, 45 % of each part are malignant; no lesion lies in both parts. Arguments and errors as of
    `write_phantom_ham10000`, with the folder `skin_cancer` and at least 120 images.
    """
    _check(images, 120, size, seed)
    test = round(0.2 * images)
    lesions: list[_Lesion] = []
    files: list[list[Path]] = []
    for part, count, first in (("train", images - test, 4_000_000), ("test", test, 5_000_000)):
        malignant = round(0.454 * count)
        planned = list(_plan({"benign": count - malignant, "malignant": malignant}, seed, first))
        for label in ("benign", "malignant"):
            names = iter(np.random.default_rng([seed, first, len(label), _NAMES]).permutation(images) + 1)
            ours = [lesion for lesion in planned if lesion.label == label]
            files += [[Path(part) / label / f"{next(names)}.jpg" for _ in range(lesion.shown)] for lesion in ours]
            lesions += ours
    _write(root / "skin_cancer", lesions, files, {}, size, seed, on_image)


def write_phantom_isic_archive(
    root: Path, *, images: int = 1200, size: int = 160, seed: int = 0, on_image: Progress = None, schema: Schema = "new"
) -> None:
    """Writes `<root>/isic_archive/{images/ISIC_*.jpg, metadata.csv}`, all or nothing.

    Nine kinds of lesion, at least 15 lesions each; a patient has one to three lesions. About 1 % of the images (at least
    two) have no row, as many rows have no image, and some fields are missing; a lesion of several images always has its
    lesion_id. Both schemas show the same images. Other arguments and errors as of `write_phantom_ham10000`, with the
    folder `isic_archive`.

    Args:
        schema: `new` (diagnosis_1 to 5, anatom_site_1 to 5) or `old` (diagnosis, benign_malignant, which is empty for
            basal cell carcinoma, anatom_site_general).
    """
    _check(images, 300, size, seed)
    if schema not in SCHEMAS:
        raise ValueError(f"schema={schema!r} is not known; use one of {', '.join(SCHEMAS)}")
    lesions = list(_plan(_quotas(images, _ARCHIVE, _FEWEST_LESIONS), seed, 6_000_000))
    rng = np.random.default_rng([seed, 3, _NAMES])
    odd = max(2, round(0.01 * images))
    ids = [f"ISIC_{number:07d}" for number in rng.choice(images * 3, images + odd, replace=False) + 52_000]
    names, absent = iter(ids[:images]), ids[images:]
    files: list[list[Path]] = []
    rows: list[dict[str, str]] = []
    for lesion, owner in zip(lesions, owners([lesion.shown for lesion in lesions], rng), strict=True):
        shown = [next(names) for _ in range(lesion.shown)]
        files.append([Path("images") / f"{name}.jpg" for name in shown])
        person = int(owner[1][3:] or lesion.number)
        streams = (np.random.default_rng([seed, key, _NAMES]) for key in (lesion.number, person))
        shared = isic_row(lesion.kind, schema, owner, size, *streams)
        rows += [{"isic_id": name, **shared} for name in shown]
    order = rng.permutation(images)
    ghosts = [
        {**rows[k], "isic_id": name, "lesion_id": "", "patient_id": ""} for k, name in zip(order, absent, strict=False)
    ]
    kept = sorted([rows[k] for k in order[odd:]] + ghosts, key=lambda row: row["isic_id"])
    _write(root / "isic_archive", lesions, files, {"metadata.csv": _csv(kept)}, size, seed, on_image)


def _check(images: int, fewest: int, size: int, seed: int) -> None:
    if images < fewest or size < _SMALLEST_SIZE or seed < 0:
        raise ValueError(
            f"this phantom needs images >= {fewest}, size >= {_SMALLEST_SIZE} and seed >= 0, "
            f"got images={images}, size={size}, seed={seed}: change the value that is out of range"
        )


def _quotas(images: int, shares: Mapping[str, float], least: int) -> dict[str, int]:
    """Images a class, in proportion to the shares but at least `least`; what rounding leaves goes to the largest classes."""
    total = sum(shares.values())
    quotas = {name: max(least, int(images * share / total)) for name, share in shares.items()}
    largest = sorted(quotas, key=lambda name: -shares[name])
    step = 1 if sum(quotas.values()) < images else -1
    for k in range(abs(images - sum(quotas.values()))):
        open_to = [name for name in largest if step > 0 or quotas[name] > 2 * least] or largest[:1]
        quotas[open_to[k % len(open_to)]] += step
    return quotas


def _plan(quotas: Mapping[str, int], seed: int, first: int) -> Iterator[_Lesion]:
    """Lesions of one to six images that fill each label's quota exactly, at least 15 a label where it has 15 images."""
    for place, (label, quota) in enumerate(quotas.items()):
        left, done = quota, 0
        while left > 0:
            number = first + 100_000 * place + done
            rng = np.random.default_rng([seed, number, _COUNT])
            drawn = _DRAWN[label]
            kind = list(drawn)[int(rng.choice(len(drawn), p=list(drawn.values())))]
            most = left - max(0, min(quota, _FEWEST_LESIONS) - done - 1)
            shown = min(most, 1 + int(rng.choice(6, p=_IMAGES_PER_LESION)))
            yield _Lesion(label, kind, number, shown)
            left, done = left - shown, done + 1


def _csv(rows: Sequence[Mapping[str, str]]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write(
    target: Path,
    lesions: Sequence[_Lesion],
    files: Sequence[Sequence[Path]],
    tables: Mapping[str, str],
    size: int,
    seed: int,
    on_image: Progress,
) -> None:
    """Draws beside the target and renames, so that it is there completely or not at all."""
    with all_or_nothing(target) as folder:
        for path in {path.parent for paths in files for path in paths}:
            (folder / path).mkdir(parents=True, exist_ok=True)
        pairs = zip(lesions, files, strict=True)
        draw_all(_draw, [(folder, lesion, paths, size, seed) for lesion, paths in pairs], on_image)
        for name, text in tables.items():
            (folder / name).write_text(text, encoding="utf-8", newline="")


def _draw(folder: Path, lesion: _Lesion, files: Sequence[Path], size: int, seed: int) -> int:
    pictures = draw_dermoscopy(lesion.kind, lesion.number, lesion.shown, size=size, seed=seed)
    for path, picture in zip(files, pictures, strict=True):
        write_jpeg(folder / path, picture)
    return lesion.shown
