"""What is meant by images=: names, places, order, groups, and what is said where nothing is meant."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from datamodules.errors import DataError
from tests.conftest import write_image
from workflow.prediction_inputs import Inputs, find_inputs


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images and other files; commands are typed above it."""
    for number, name in enumerate(["b/2.png", "b/10.png", "a/1.jpeg", "top.png", ".hidden/3.png", "b/.4.png"]):
        write_image(tmp_path / "scans" / name, number)
    (tmp_path / "scans" / "notes.txt").write_text("nothing", encoding="utf-8")
    (tmp_path / "scans" / "1.2.840").write_bytes(bytes(128) + b"DICM")  # a name without suffix, as archives give them
    monkeypatch.chdir(tmp_path)
    return tmp_path / "scans"


def table(place: Path, text: str) -> str:
    (place / "list.csv").write_text(text, encoding="utf-8")
    return str(place / "list.csv")


def test_a_folder_is_read_with_all_below_it_in_order(scans: Path) -> None:
    inputs = find_inputs(["scans"])
    assert inputs.ids == ["1.2.840", "top.png", "a/1.jpeg", "b/10.png", "b/2.png"]
    assert inputs.paths == [f"scans/{name}" for name in inputs.ids]
    assert (inputs.left_out, inputs.groups, len(inputs)) == (1, None, 5)


def test_a_file_is_taken_whatever_its_name(scans: Path) -> None:
    inputs = find_inputs([str(scans / "notes.txt")])
    assert (inputs.ids, inputs.paths) == (["notes.txt"], [str(scans / "notes.txt")])


def test_several_are_named_below_what_they_share_and_each_counts_once(scans: Path) -> None:
    inputs = find_inputs(["scans/b", "scans/a", "scans/b/2.png"])
    assert inputs.ids == ["b/10.png", "b/2.png", "a/1.jpeg"]


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ("scans/*.png", ["top.png"]),
        ("scans/*/*.png", ["b/10.png", "b/2.png"]),
        ("scans/**", ["1.2.840", "top.png", "a/1.jpeg", "b/10.png", "b/2.png"]),
        ("scans/[ab]", ["a/1.jpeg", "b/10.png", "b/2.png"]),
    ],
)
def test_a_pattern(scans: Path, pattern: str, ids: list[str]) -> None:
    found = find_inputs([pattern])
    assert sorted(found.ids) == sorted(ids) and all(Path(path).is_file() for path in found.paths)


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(scans: Path) -> None:
    write_image(scans / "[1].png", 7)
    assert find_inputs([str(scans / "[1].png")]).ids == ["[1].png"]


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("scans/*.tif", r"images=scans/\*.tif: nothing matches. Write patterns in quotes"),
        ("scans/*.txt", "1 files match, but none is named like an image"),
        ("empty", "there is no image in this folder .the folder is empty"),
    ],
)
def test_nothing_found_is_said(scans: Path, named: str, words: str) -> None:
    (scans.parent / "empty").mkdir()
    with pytest.raises(DataError, match=words):
        find_inputs([named])


def test_standard_input_lists_a_path_a_line(scans: Path) -> None:
    listed = io.StringIO("scans/top.png\n\nscans/gone.png\r\nscans/a/1.jpeg\n")
    inputs = find_inputs(["-"], stdin=listed)
    assert inputs.ids == inputs.paths == ["scans/top.png", "scans/gone.png", "scans/a/1.jpeg"]
    below = find_inputs(["-"], root=scans, stdin=io.StringIO("top.png\n"))
    assert (below.ids, below.paths) == (["top.png"], [str(scans / "top.png")])


def test_absolute_paths_are_named_below_their_common_folder(scans: Path) -> None:
    inputs = find_inputs(["-"], stdin=io.StringIO(f"{scans}/b/2.png\n{scans}/a/1.jpeg\n"))
    assert inputs.ids == ["b/2.png", "a/1.jpeg"] and inputs.paths[0] == str(scans / "b" / "2.png")


@pytest.mark.parametrize(
    ("text", "words"), [("", "holds no path"), ("a.png\nb.png\na.png\n", "line 1 .* and line 3 .* both name a.png")]
)
def test_standard_input_that_cannot_be_used(scans: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        find_inputs(["-"], stdin=io.StringIO(text))


def test_a_table_gives_paths_groups_and_metadata(scans: Path) -> None:
    named = table(scans, "Patient ID,File,age\np1,top.png,40\n,b/2.png,\np1,gone.png,41\n")
    inputs = find_inputs([named])
    assert inputs.ids == ["top.png", "b/2.png", "gone.png"] and inputs.groups == ["p1", None, "p1"]
    assert inputs.paths == [str(scans / name) for name in inputs.ids]
    assert inputs.metadata is not None and inputs.metadata["age"].tolist() == ["40", "", "41"]


def test_an_empty_cell_is_a_row_with_a_problem(scans: Path) -> None:
    inputs = find_inputs([table(scans, "path,site\ntop.png,x\n,y\n")])
    assert inputs.ids == ["top.png", "line 3"]
    assert inputs.problems == {1: "line 3 of list.csv: path is empty, so no image is named"}


def test_columns_by_name(scans: Path) -> None:
    named = table(scans, "which,who,exam\ntop.png,a,e1\ntop.png,b,e2\n")
    inputs = find_inputs([named], {"path": "which", "group": "who", "id": "exam"})
    assert (inputs.ids, inputs.groups) == (["e1", "e2"], ["a", "b"])
    assert find_inputs([table(scans, "path,patient\ntop.png,a\n")], {"group": None}).groups is None


def test_a_table_of_names_without_suffix_finds_its_files(scans: Path) -> None:
    inputs = find_inputs([table(scans.parent, "image_id\ntop\nb/2\nb/3\n")], root=scans)
    assert inputs.paths == [str(scans / name) for name in ("top.png", "b/2.png", "b/3")]
    assert inputs.ids == ["top", "b/2", "b/3"]


def test_a_linked_folder_is_counted_and_not_followed(scans: Path) -> None:
    (scans / "linked").symlink_to(scans / "b", target_is_directory=True)
    (scans / "b" / "up").symlink_to(scans, target_is_directory=True)
    inputs = find_inputs(["scans"])
    assert (len(inputs), inputs.left_out) == (5, 3)


def test_paths_that_start_where_the_command_is_typed_need_a_word(scans: Path) -> None:
    (scans.parent / "out").mkdir()
    named = table(scans.parent / "out", "image_id,path\ntop,scans/top.png\ngone,scans/gone.png\n")
    with pytest.raises(DataError, match=r"relative to its folder, .* scans/top\.png is there .* add root=\."):
        find_inputs([named])
    assert find_inputs([named], root=Path()).paths == ["scans/top.png", "scans/gone.png"]


def test_a_predictions_file_can_be_the_next_table(scans: Path) -> None:
    inputs = find_inputs([table(scans, f"image_id,path,group_id,score\nx/top,{scans}/top.png,p,0.5\n")])
    assert (inputs.ids, inputs.paths, inputs.groups) == (["x/top"], [str(scans / "top.png")], ["p"])


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("path\n", {}, "a header and no rows"),
        ("a,b\n1,2\n", {}, "no column is called path, .* it has a, b. Say which .* columns.path=NAME"),
        ("path,patient\na, b.png,p1\n", {}, "rows have more cells than the header. Put names with a comma in double"),
        ("path\na.png\n", {"path": "pfad"}, "there is no column 'pfad' .columns.path.; it has path"),
        ("path\na.png\n", {"group": "who"}, "there is no column 'who' .columns.group."),
        ("path\na.png\nb.png\na.png\n", {}, "line 2 of list.csv and line 4 of list.csv both name a.png"),
    ],
)
def test_a_table_that_cannot_be_used(scans: Path, text: str, columns: dict[str, str | None], words: str) -> None:
    with pytest.raises(DataError, match=words):
        find_inputs([table(scans, text)], columns)


def test_the_hash_tells_lists_apart(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Inputs("x", ["a", "b"], ["p/a", "p/b"])
    others = [
        Inputs("x", ["b", "a"], ["p/b", "p/a"]),
        Inputs("x", ["a", "b"], ["q/a", "p/b"]),
        Inputs("x", ["a", "b"], ["p/a", "p/b"], ["g", None]),
        Inputs("x", ["a"], ["p/a"]),
    ]
    assert len({inputs.sha256() for inputs in [first, *others]}) == 5
    assert first.sha256() == Inputs("other words", ["a", "b"], ["p/a", "p/b"]).sha256()
    before = first.sha256()
    monkeypatch.chdir(scans)
    assert first.sha256() != before  # the same words mean other files there
