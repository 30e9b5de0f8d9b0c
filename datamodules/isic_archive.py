"""Reader of ISIC archive exports: images beside ``metadata.csv``, in the old schema or the new one.

The label comes from the diagnosis. ``benign_malignant`` is never used: it is empty for many carcinomas, and newer exports have
no such column.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from datamodules.errors import DataError
from datamodules.grouping import united_groups
from datamodules.listing import About, Listing, age_band, files_below, known, present, read_table, with_images
from datamodules.manifest import LeftOut
from datamodules.missing import MissingDataError, contents_of

# Diagnoses of the old schema by what the new schema's diagnosis_1 says of them (ISIC taxonomy).
OLD_DIAGNOSES = {
    "malignant": (
        *("melanoma", "melanoma metastasis", "basal cell carcinoma", "squamous cell carcinoma"),
        *("merkel cell carcinoma", "kaposi sarcoma", "cutaneous t-cell lymphoma", "adnexal carcinoma"),
    ),
    "indeterminate": ("actinic keratosis", "atypical melanocytic proliferation", "aimp", "atypical spitz tumor"),
    "benign": (
        *("nevus", "nevus spilus", "seborrheic keratosis", "pigmented benign keratosis", "dermatofibroma"),
        *("vascular lesion", "angioma", "solar lentigo", "lentigo simplex", "lentigo nos", "lichenoid keratosis"),
        *("cafe-au-lait macule", "angiofibroma or fibrous papule", "scar", "verruca", "acrochordon", "neurofibroma"),
        *("clear cell acanthoma", "sebaceous hyperplasia", "pyogenic granuloma", "mucosal melanosis"),
    ),
}
_OLD = {name: kind for kind, names in OLD_DIAGNOSES.items() for name in names}
_KINDS = ("benign", "indeterminate", "malignant")


def list_isic_archive(given: Path) -> Listing:
    """All images that have a row and a diagnosis, with patient and lesion united, age, sex and site.

    Args:
        given: folder with ``metadata.csv`` and the images, at any depth below it.

    Raises:
        MissingDataError: if there is no such table. DataError: if the table has no diagnosis or an image twice.
    """
    table, rows = _metadata(given)
    left_out: list[LeftOut] = []
    known_ids, rows = set(rows["isic_id"]), _used(rows.rename(columns={"isic_id": "image_id"}), table, left_out)
    frame = with_images(rows, given, left_out, known_ids)
    if frame.empty:
        raise MissingDataError(given, f"{table.name} has {len(rows):,} usable rows, but none of their images is there")
    lesion, patient = _text(frame, "lesion_id"), _text(frame, "patient_id")
    named = lesion.where(lesion != "", patient).where((lesion != "") | (patient != ""), frame["image_id"])
    diagnosis = next(
        (_text(frame, name) for name in ("diagnosis_3", "diagnosis_2", "diagnosis") if name in frame), None
    )
    listed = pd.DataFrame(
        {
            **{"image_id": frame["image_id"], "path": frame["path"], "label": frame["kind"]},
            **{"group_id": united_groups(named.tolist(), lesion.tolist(), patient.tolist()), "split": ""},
            **{"age": _text(frame, "age_approx"), "age_band": age_band(_text(frame, "age_approx"))},
            **{"sex": known(_text(frame, "sex")), "site": known(_site(frame))},
            **({} if diagnosis is None else {"subtype": known(diagnosis)}),
        }
    ).sort_values("image_id", ignore_index=True)
    return Listing(given, listed, _about(frame, lesion, patient), left_out)


def _metadata(given: Path) -> tuple[Path, pd.DataFrame]:
    if not given.is_dir():
        raise MissingDataError(given, contents_of(given))
    tables = [file for file in files_below(given) if file.suffix.lower() in (".csv", ".tsv", ".tab")]
    for file in sorted(tables, key=lambda path: ("metadata" not in path.name.lower(), len(path.parts), str(path))):
        rows = read_table(file)
        if "isic_id" in rows.columns:
            rows["isic_id"] = rows["isic_id"].str.strip()
            if not {"diagnosis_1", "diagnosis"} & set(rows.columns):
                raise DataError(
                    f"{file}: no column diagnosis_1 (new schema) or diagnosis (old schema); the label is derived from the "
                    "diagnosis, never from benign_malignant alone. Export the metadata again with the diagnosis."
                )
            return file, rows
    raise MissingDataError(given, f"no metadata.csv with a column isic_id ({contents_of(given)})")


def is_isic_export(given: Path) -> bool:
    """Whether a folder looks like an export of the archive: a CSV at its top that has the column ``isic_id``."""
    for file in sorted(given.glob("*.csv")) if given.is_dir() else []:
        with file.open(encoding="utf-8-sig", errors="replace") as opened:
            if "isic_id" in opened.readline():
                return True
    return False


def _used(rows: pd.DataFrame, table: Path, left_out: list[LeftOut]) -> pd.DataFrame:
    """Rows with a diagnosis of a known kind, each image once, none of them altered or synthetic."""
    rows = rows.drop_duplicates(ignore_index=True)
    twice = rows["image_id"][rows["image_id"].duplicated()]
    if len(twice):
        raise DataError(f"{table}: isic_id {twice.iloc[0]} has several different rows; keep the right one.")
    first, old = _text(rows, "diagnosis_1").str.lower(), _text(rows, "diagnosis").str.lower()
    kind = first.where(first.isin(_KINDS), old.map(_OLD).fillna(""))
    word = first.where(first != "", old)
    manipulation = _text(rows, "image_manipulation").str.lower()
    for image_id, found, diagnosis, altered in zip(rows["image_id"], kind, word, manipulation, strict=True):
        if altered in ("altered", "synthetic"):
            left_out.append(LeftOut(str(image_id), f"the metadata says that this image is {altered}"))
        elif not found:
            known_as = f"'{diagnosis}' is not known to be benign or malignant" if diagnosis else "it has no diagnosis"
            left_out.append(LeftOut(str(image_id), f"{known_as} (benign_malignant alone is not used)"))
    return rows.assign(kind=kind)[(kind != "") & ~manipulation.isin(["altered", "synthetic"])].reset_index(drop=True)


def _text(rows: pd.DataFrame, name: str) -> pd.Series:
    return present(rows[name]) if name in rows.columns else pd.Series("", index=rows.index, dtype=object)


def _site(rows: pd.DataFrame) -> pd.Series:
    """The general site of the old schema, or the first level of the new one."""
    old, new = _text(rows, "anatom_site_general"), _text(rows, "anatom_site_1")
    return new.where(new != "", old)


def _about(frame: pd.DataFrame, lesion: pd.Series, patient: pd.Series) -> About:
    notes = []
    licences = _text(frame, "copyright_license")
    counts = licences[licences != ""].value_counts()
    if len(counts):
        notes.append(
            "Licences of the images: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()) + "."
        )
    owners = pd.DataFrame({"lesion": lesion, "patient": patient})[(lesion != "") & (patient != "")]
    shared = int((owners.groupby("lesion")["patient"].nunique() > 1).sum()) if len(owners) else 0
    if shared:
        notes.append(f"{shared:,} lesion ids belong to several patients; these patients were joined.")
    alone = int(((lesion == "") & (patient == "")).sum())
    if alone:
        notes.append(f"{alone:,} images have neither lesion nor patient; each counts as a group of its own.")
    return About(
        title="Images of the ISIC archive",
        licence=", ".join(counts.index) if len(counts) else "per image, ISIC archive",
        citation="The International Skin Imaging Collaboration (ISIC) archive, api.isic-archive.com",
        group_rule="patient_id and lesion_id united where given, else the image; duplicates are joined",
        notes=tuple(notes),
    )
