"""python prepare.py as a user types it: what it says, what it leaves, and that a second time does nothing."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.conftest import make_chest_xray, run_prepare, write_image
from tests.datamodules.serving import Answer, serving

SMALL = ["model.image_size=16", "split.val_fraction=0.2"]


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_the_table_the_audit_page_and_nothing_the_second_time(chest_xray: Path, tmp_path: Path) -> None:
    (chest_xray / "train" / "NORMAL" / "IM-0002-0001.jpeg").write_bytes(b"")
    shutil.copy(chest_xray / "train/NORMAL/IM-0004-0001.jpeg", chest_xray / "train/PNEUMONIA/person4_virus_999.jpeg")
    arguments = [f"data.root={chest_xray}", "data.max_bad=0.05", *SMALL]
    done = run_prepare(*arguments, "audit=true", home=tmp_path, warm=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "NORMAL",
        "patients",
        "left out: 1, unreadable",
        "left out: 2, the identical file",
        "under two labels",
    ):
        assert words in done.stdout
    folder = next((tmp_path / "prepared").glob("chest_xray-*"))
    view = next((folder / "tasks").glob("pneumonia-*"))
    assert "<img" in (view / "audit" / "audit.html").read_text(encoding="utf-8")
    before = contents(folder)
    again = run_prepare(*arguments, home=tmp_path)
    assert again.returncode == 0
    assert contents(folder) == before
    card = json.loads((view / "data_card.json").read_text(encoding="utf-8"))
    assert card["left_out_total"] == 3
    assert not (tmp_path / "runs").exists()


def test_too_many_bad_files_stop_by_default(chest_xray: Path, tmp_path: Path) -> None:
    for number in range(1, 6):
        (chest_xray / "train" / "NORMAL" / f"IM-{number:04d}-0001.jpeg").write_bytes(b"no image")
    done = run_prepare(f"data.root={chest_xray}", *SMALL, home=tmp_path)
    assert done.returncode == 2
    assert "5 of 128 images are unreadable, more than data.max_bad=0.01" in done.stderr
    assert "Traceback" not in done.stderr


def test_mistakes_end_in_one_message(tmp_path: Path) -> None:
    cases = [
        (["task=ham1000"], "Did you mean 'ham10000'"),
        (["-m", "seed=1,2"], "one configuration at a time"),
        (["task=folder", "data.download=publisher", f"data.root={tmp_path}"], "names no place to download from"),
        (["task=ham10000", f"data.root={tmp_path}"], "no metadata table"),
    ]
    for arguments, words in cases:
        done = run_prepare(*arguments, home=tmp_path)
        assert done.returncode == 2, arguments
        assert words in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


def test_download_verify_unpack_and_prepare_in_one_command(tmp_path: Path) -> None:
    source = make_chest_xray(tmp_path / "made" / "chest_xray")
    archive = tmp_path / "www" / "ChestXRay2017.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as packed:
        for file in source.rglob("*.jpeg"):
            packed.write(file, file.relative_to(source.parent))
    with serving() as server:
        server.pages["/ChestXRay2017.zip"] = Answer(archive.read_bytes())
        file = f"{{url:'{server.url}/ChestXRay2017.zip',name:ChestXRay2017.zip,unpack:true,bytes:{archive.stat().st_size}}}"
        root = tmp_path / "data"
        arguments = [f"task.download.files=[{file}]", "data.download=publisher", f"data.root={root}", *SMALL]
        done = run_prepare(*arguments, home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "patients" in done.stdout
    assert len(list(root.rglob("*.jpeg"))) == len(list(source.rglob("*.jpeg")))


@pytest.mark.parametrize("task", ["folder", "table"])
def test_a_set_of_ones_own_asks_for_its_classes_and_then_works(task: str, tmp_path: Path) -> None:
    root, seed = tmp_path / "mine", 0
    rows = ["path,label,patient"]
    for name in ("covid", "healthy", "flu"):
        for number in range(30):
            seed += 1
            write_image(root / name / f"p{number // 2}_{number}.png", seed)
            rows.append(f"{name}/p{number // 2}_{number}.png,{name},{name}-{number // 2}")
    if task == "table":
        (root / "list.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    more = ["table.group=patient"] if task == "table" else ["task.group_pattern=(?P<group>[a-z]+/p\\d+)_"]
    arguments = [f"task={task}", f"data.root={root}", *SMALL, *more]
    asked = run_prepare(*arguments, home=tmp_path)
    assert asked.returncode == 2
    assert "covid 30, flu 30, healthy 30" in asked.stderr
    typed = "task.classes=[covid,flu,healthy]"
    assert f"'{typed}' 'task.positive=[WHAT_MUST_NOT_BE_MISSED]'" in asked.stderr
    done = run_prepare(*arguments, typed, "task.positive=[covid,flu]", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "45" in done.stdout.split("groups")[1].splitlines()[0]
