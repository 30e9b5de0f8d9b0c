"""Reader of HAM10000 (Tschandl, Rosendahl, Kittler 2018): images in one or several folders beside their metadata table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from datamodules.errors import DataError
from datamodules.listing import About, Listing, age_band, files_below, known, read_table, with_images
from datamodules.manifest import LeftOut
from datamodules.missing import MissingDataError, contents_of

DIAGNOSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
PUBLISHED = 10_015
ABOUT = About(
    title="HAM10000, Tschandl et al. 2018",
    licence="CC BY-NC 4.0",
    citation="Tschandl, Rosendahl, Kittler (2018): The HAM10000 dataset, a large collection of multi-source dermatoscopic images "
    "of common pigmented skin lesions. Scientific Data 5:180161. Harvard Dataverse, doi:10.7910/DVN/DBW86T",
    group_rule="lesion_id; lesions with identical or nearly identical images are joined",
    notes=(
        "No patient is recorded, so two lesions of one patient may lie in different parts.",
        "dx_type says how a diagnosis was confirmed; all malignant ones by histology, so it gives the label away. It is reported "
        "as a subgroup and can never become an input.",
    ),
)


def list_ham10000(given: Path) -> Listing:
    """All images that have a row, with diagnosis, lesion, age, sex and site.

    Args:
        given: folder with the metadata (``HAM10000_metadata.csv`` or ``.tab``) and the images, at any depth below it.

    Raises:
        MissingDataError: if there is no metadata table. DataError: if the table contradicts itself.
    """
    table, rows = _metadata(given)
    left_out: list[LeftOut] = []
    known_ids, rows = set(rows["image_id"].str.strip()), _valid_rows(table, rows, left_out)
    count = len(rows)
    frame = with_images(rows, given, left_out, known_ids)
    if frame.empty:
        raise MissingDataError(given, f"{table.name} has {count:,} rows, but none of their images is there")
    sites = {"source_site": frame["dataset"]} if "dataset" in frame else {}
    listed = pd.DataFrame(
        {
            **{"image_id": frame["image_id"], "path": frame["path"], "label": frame["dx"]},
            **{"group_id": frame["lesion_id"], "split": "", "age": frame["age"], "age_band": age_band(frame["age"])},
            **{"sex": known(frame["sex"]), "site": known(frame["localization"]), "dx_type": known(frame["dx_type"])},
            **sites,
        }
    ).sort_values("image_id", ignore_index=True)
    notes = list(ABOUT.notes)
    if len(listed) != PUBLISHED:
        notes.insert(0, f"{len(listed):,} images; {PUBLISHED:,} were published.")
    return Listing(
        given, listed, About(ABOUT.title, ABOUT.licence, ABOUT.citation, ABOUT.group_rule, tuple(notes)), left_out
    )


def _metadata(given: Path) -> tuple[Path, pd.DataFrame]:
    """The richest of the tables that have HAM10000's columns: some copies add the source site."""
    if not given.is_dir():
        raise MissingDataError(given, contents_of(given))
    best: tuple[Path, pd.DataFrame] | None = None
    for file in files_below(given):
        if file.suffix.lower() not in (".csv", ".tab", ".tsv", ".txt", "") or "metadata" not in file.name.lower():
            continue
        rows = read_table(file)
        if set(COLUMNS) <= set(rows.columns) and (best is None or len(rows.columns) > len(best[1].columns)):
            best = file, rows
    if best is None:
        raise MissingDataError(given, f"no metadata table with the columns {', '.join(COLUMNS)} ({contents_of(given)})")
    return best


def _valid_rows(table: Path, rows: pd.DataFrame, left_out: list[LeftOut]) -> pd.DataFrame:
    rows = rows.assign(**{name: rows[name].str.strip() for name in COLUMNS})
    rows["dx"] = rows["dx"].str.lower()
    foreign = ~rows["lesion_id"].str.fullmatch(r"HAM_\d{7}") | ~rows["image_id"].str.fullmatch(r"ISIC_\d{7}")
    foreign |= ~rows["dx"].isin(DIAGNOSES)
    reason = f"{table.name}: not a row of HAM10000 (HAM_nnnnnnn, ISIC_nnnnnnn, dx one of {', '.join(DIAGNOSES)})"
    left_out.extend(LeftOut(str(name), reason) for name in rows["image_id"][foreign])
    rows = rows[~foreign].drop_duplicates(ignore_index=True)
    twice = rows["image_id"][rows["image_id"].duplicated()]
    if len(twice):
        raise DataError(f"{table}: image_id {twice.iloc[0]} has several different rows; keep the right one.")
    diagnoses = rows.groupby("lesion_id")["dx"].nunique()
    if (diagnoses > 1).any():
        raise DataError(
            f"{table}: lesion {diagnoses.idxmax()} has several diagnoses (dx); a lesion has one. Mend the table."
        )
    return rows
