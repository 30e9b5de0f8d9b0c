"""Metadata of the phantom skin data sets: plausible age, sex, site and diagnosis in the columns of the published tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from datamodules.phantom_lesion import Kind

SCHEMAS = ("new", "old")

_LICENCE, _ATTRIBUTION = "CC-0", "Drawn by firstread"
_HISTO = {"mel", "bcc", "akiec"}
# Mean age and confirmation of the other diagnoses: histo, follow_up, consensus, confocal.
_AGE = {"nv": 46, "mel": 61, "bkl": 64, "bcc": 67, "akiec": 68, "vasc": 51, "df": 52}
_TYPES = ("histo", "follow_up", "consensus", "confocal")
_CONFIRMED = {
    "nv": (0.37, 0.55, 0.07, 0.01),
    "bkl": (0.70, 0.0, 0.24, 0.06),
    "vasc": (0.4, 0.0, 0.6, 0.0),
    "df": (0.48, 0.0, 0.52, 0.0),
}
# Site of HAM10000 with its weight: the archive's old name and its new first two levels.
_SITES: dict[str, tuple[float, str, str, str]] = {
    "back": (22, "posterior torso", "Trunk", "Back"),
    "lower extremity": (21, "lower extremity", "Lower extremity", ""),
    "trunk": (14, "anterior torso", "Trunk", ""),
    "upper extremity": (11, "upper extremity", "Upper extremity", ""),
    "abdomen": (10, "anterior torso", "Trunk", "Abdomen"),
    "face": (8, "head/neck", "Head and neck", "Face"),
    "chest": (4, "anterior torso", "Trunk", "Chest"),
    "foot": (3, "palms/soles", "Lower extremity", "Foot"),
    "unknown": (2.5, "", "", ""),
    "neck": (2, "head/neck", "Head and neck", "Neck"),
    "scalp": (1.3, "head/neck", "Head and neck", "Scalp"),
    "genital": (0.5, "oral/genital", "Anogenital region", ""),
}
# Diagnosis of the old schema, its benign_malignant, the new schema's first three levels, HAM10000's dx.
_DIAGNOSES: dict[Kind, tuple[str, str, tuple[str, str, str], str]] = {
    "nevus": ("nevus", "benign", ("Benign", "Benign melanocytic proliferations", "Nevus"), "nv"),
    "melanoma": (
        "melanoma",
        "malignant",
        ("Malignant", "Malignant melanocytic proliferations (Melanoma)", "Melanoma, NOS"),
        "mel",
    ),
    "pbk": (
        *("pigmented benign keratosis", "benign"),
        *(("Benign", "Benign epidermal proliferations", "Pigmented benign keratosis"), "bkl"),
    ),
    "sk": (
        "seborrheic keratosis",
        "benign",
        ("Benign", "Benign epidermal proliferations", "Seborrheic keratosis"),
        "bkl",
    ),
    "bcc": (
        *("basal cell carcinoma", ""),
        *(("Malignant", "Malignant adnexal epithelial proliferations - Follicular", "Basal cell carcinoma"), "bcc"),
    ),
    "ak": (
        *("actinic keratosis", "indeterminate"),
        *(("Indeterminate", "Indeterminate epidermal proliferations", "Solar or actinic keratosis"), "akiec"),
    ),
    "scc": (
        *("squamous cell carcinoma", "malignant"),
        *(("Malignant", "Malignant epidermal proliferations", "Squamous cell carcinoma, NOS"), "akiec"),
    ),
    "vascular": (
        "vascular lesion",
        "benign",
        ("Benign", "Benign soft tissue proliferations - Vascular", "Hemangioma"),
        "vasc",
    ),
    "df": (
        "dermatofibroma",
        "benign",
        ("Benign", "Benign soft tissue proliferations - Fibro-histiocytic", "Dermatofibroma"),
        "df",
    ),
}


def ham10000_row(dx: str, rng: np.random.Generator) -> dict[str, str]:
    """dx, dx_type, age, sex and localization of one lesion; ages are multiples of 5 from 0 to 85, empty in about 4 %."""
    age, sex = _person(_AGE[dx], rng)
    site = _site(rng)
    kind = "histo" if dx in _HISTO else str(rng.choice(_TYPES, p=_CONFIRMED[dx]))
    return {"dx": dx, "dx_type": kind, "age": age and f"{age}.0", "sex": sex or "unknown", "localization": site}


def _person(mean_age: float, rng: np.random.Generator) -> tuple[str, str]:
    """Age and sex, each empty in about 4 %."""
    age = int(np.clip(5 * np.round(rng.normal(mean_age, 15) / 5), 0, 85))
    sex = str(rng.choice(["male", "female"], p=[0.54, 0.46]))
    missing = rng.random(2) < 0.04
    return "" if missing[0] else str(age), "" if missing[1] else sex


def _site(rng: np.random.Generator) -> str:
    weights = np.array([weight for weight, *_ in _SITES.values()])
    return str(rng.choice(list(_SITES), p=weights / weights.sum()))


def owners(shown: Sequence[int], rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """lesion_id and patient_id of each lesion; a patient has one to three lesions, and some ids are missing.

    A lesion of several images always keeps its lesion_id.

    Args:
        shown: images of each lesion.
        rng: source of the ids.
    """
    order = rng.permutation(len(shown))
    patient = np.empty(len(shown), np.int64)
    patient[order] = np.repeat(np.arange(len(shown)), rng.choice([1, 2, 3], len(shown), p=[0.7, 0.2, 0.1]))[
        : len(shown)
    ]
    numbers = rng.permutation(10 * len(shown)) + 100_000
    without = rng.random((len(shown), 2)) < (0.3, 0.1)
    for k, count in enumerate(shown):
        lesion_id = "" if without[k, 0] and count == 1 else f"IL_{numbers[k]:07d}"
        yield lesion_id, "" if without[k, 1] else f"IP_{numbers[-1 - patient[k]]:07d}"


def isic_row(
    kind: Kind, schema: str, owner: tuple[str, str], size: int, rng: np.random.Generator, patient: np.random.Generator
) -> dict[str, str]:
    """Columns of an ISIC archive export for one lesion, without isic_id.

    Args:
        kind: what the lesion is.
        schema: `new` or `old`.
        owner: lesion_id and patient_id, empty if missing.
        size: pixels of the images' sides.
        rng: source of what belongs to the lesion.
        patient: source of age and sex; the same for all lesions of a patient.
    """
    old, benign_malignant, levels, dx = _DIAGNOSES[kind]
    age, sex = _person(55, patient)
    _, old_site, *new_sites = _SITES[_site(rng)]
    person = {"sex": sex, "lesion_id": owner[0], "patient_id": owner[1]}
    histo = dx in _HISTO or rng.random() < 0.4
    shared = {
        "attribution": _ATTRIBUTION,
        "copyright_license": _LICENCE,
        "age_approx": age,
        "diagnosis_confirm_type": "histopathology" if histo else "",
        "image_type": "dermoscopic",
        "dermoscopic_type": str(rng.choice(["contact polarized", "contact non-polarized", ""])),
        "melanocytic": str(kind in ("nevus", "melanoma")),
        "pixels_x": str(size),
        "pixels_y": str(size),
        **person,
    }
    if schema == "old":
        return {**shared, "diagnosis": old, "benign_malignant": benign_malignant, "anatom_site_general": old_site}
    diagnoses = {f"diagnosis_{k + 1}": name for k, name in enumerate([*levels, "", ""])}
    sites = {f"anatom_site_{k + 1}": name for k, name in enumerate([*new_sites, "", "", ""])}
    manipulation = {"image_manipulation": "instrument only" if rng.random() < 0.1 else ""}
    return {**shared, **diagnoses, **sites, **manipulation, "fitzpatrick_skin_type": ""}
