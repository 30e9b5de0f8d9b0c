"""The command line of predict.py: what it takes, and one message for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.predict_options import KEYS, Options, UsageError, help_text, parsed


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run, another, a folder of images, a table; commands are typed beside them."""
    for folder in ("run", "second", "scans"):
        (tmp_path / folder).mkdir()
    for file in ("run/run.json", "scans/a.png", "scans/[b].png", "list.csv"):
        (tmp_path / file).write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_short_form_has_the_usual_values(place: Path) -> None:
    assert parsed(["run=run", "images=scans"]) == Options((Path("run"),), ("scans",))


def test_everything_given(place: Path) -> None:
    options = parsed(
        [
            *("run=[run,second]", "images=list.csv", "output=out", "format=[csv,json]", "panel=true", "batch_size=8"),
            *("heat_maps.method=hires_cam", "heat_maps.target=PNEUMONIA", "columns.path=file", "columns.group=none"),
            *("root=scans", "abstain=false", "workers=3", "trust=true"),
        ]
    )
    assert options == Options(
        (Path("run"), Path("second")),
        ("list.csv",),
        several=True,
        columns={"path": "file", "group": None},
        root=Path("scans"),
        output=Path("out"),
        formats=("csv", "json"),
        panel=True,
        heat_maps={"method": "hires_cam", "target": "PNEUMONIA"},
        batch_size=8,
        workers=3,
        abstain=False,
        trust=True,
    )


@pytest.mark.parametrize(
    "images", ["scans/*.png", "scans/[b].png", "[scans,scans/a.png]", "-", "nothing/here*.png", "[scans,other/*.png]"]
)
def test_images_are_named_in_several_ways(place: Path, images: str) -> None:
    listed = images.startswith("[") and images.endswith("]")
    assert parsed(["run=run", f"images={images}"]).images == (tuple(images[1:-1].split(",")) if listed else (images,))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "run is missing: run=RUN"),
        ("run=run", "images is missing"),
        ("run", "'run' is not of the form key=value"),
        ("run=run images=scans imagse=x", "there is no key 'imagse'. Did you mean 'images'?"),
        ("run=run images=scans target=a", "there is no key 'target'. Did you mean 'heat_maps.target'?"),
        ("run=run run=second images=scans", "run is given twice. Several are listed in brackets: run=[A,B]"),
        ("run= images=scans", "run has no value: a finished run"),
        ("run=nowhere images=scans", "run=nowhere: there is no such folder or file"),
        ("run=[run,run] images=scans", "an entry is given twice"),
        ("run=[run images=scans", "the list has only one bracket"),
        ("run=run images=nowhere", "images=nowhere: there is no such file or folder"),
        ("run=run images=[scans,nowhere]", "images=nowhere: there is no such"),
        ("run=run images=[scans,list.csv]", "list.csv lists images of its own; give it alone"),
        ("run=run images=[scans,-]", "there is no such file"),
        ("run=run images=scans root=scans", "root=scans: this belongs to a table or standard input"),
        ("run=run images=scans columns.path=x", "columns.path=x: this belongs to a table"),
        ("run=run images=- columns.group=x", "columns.group=x: this belongs to a table"),
        ("run=run images=list.csv columns.path=none", "nobody knows which images are meant"),
        ("run=run images=list.csv root=nowhere", "root=nowhere: there is no such folder"),
        ("run=run images=scans format=exel", "must be one of csv, json, parquet"),
        ("run=run images=scans format=jsn", "Did you mean 'json'?"),
        ("run=run images=scans panel=yes", "panel=yes: must be true or false"),
        ("run=run images=scans heat_maps.layer=a", "heat_maps.layer=a: heat maps are drawn on the pages of panel=true"),
        ("run=run images=scans panel=true heat_maps.method=gradcam", "Did you mean 'grad_cam'?"),
        ("run=run images=scans batch_size=0", "batch_size=0: must be a whole number of at least 1"),
        ("run=run images=scans workers=-1", "workers=-1: must be a whole number"),
        ("run=run images=scans output=run/predictions", "this is inside run, a run, which is not changed"),
    ],
)
def test_a_mistake_is_named(place: Path, given: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(given.split())
    assert words in str(caught.value)


def test_the_usual_place_is_not_inside_a_run_either(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place / "run")
    with pytest.raises(UsageError, match=r"is inside .*, a run, which is not changed\. Choose another folder"):
        parsed(["run=.", "images=../scans"])
    assert parsed(["run=.", "images=../scans", "output=../out"]).output == Path("../out")


def test_parquet_without_its_package(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs the package pyarrow, which is not installed"):
        parsed(["run=run", "images=scans", "format=parquet"])


def test_help_names_every_key_and_ends_with_the_notice() -> None:
    text = help_text("What it does.", "The notice.")
    assert all(f"\n  {key} " in text for key in KEYS)
    assert text.startswith("What it does.") and text.endswith("The notice.") and max(map(len, text.splitlines())) <= 130
