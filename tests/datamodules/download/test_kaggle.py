"""Downloads through kagglehub, and which way a data set came."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from datamodules.download import download_dataset
from datamodules.errors import DataError
from tests.datamodules.download.steps import ARCHIVE, BODY, fetched, plan_of, published, visible
from tests.datamodules.serving import Answer, Site


@contextmanager
def kagglehub(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], fail: Exception | None = None
) -> Iterator[list[Any]]:
    """A stand-in for the package, with the signature and the manners of version 1.0."""
    calls: list[Any] = []

    def dataset_download(
        handle: str, path: str | None = None, *, force_download: bool = False, output_dir: str | None = None
    ) -> str:
        calls.append((handle, force_download))
        assert output_dir is not None
        for name, body in files.items():
            (Path(output_dir) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(output_dir) / name).write_bytes(body)
            if fail:
                raise fail
        (Path(output_dir) / ".complete").mkdir(exist_ok=True)
        return output_dir

    module = types.ModuleType("kagglehub")
    module.dataset_download = dataset_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    yield calls


def kaggle_plan(site: Site) -> Any:
    return plan_of(site, kaggle="owner/films")


def test_kaggle_is_fetched_once_through_kagglehub(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kagglehub(monkeypatch, {"Train/a b/1.jpg": b"1", "Test/2.jpg": b"22"}) as calls:
        lines = download_dataset(kaggle_plan(site), tmp_path / "films", via="kaggle")
        assert "2 files, 3 bytes" in lines[0]
        assert visible(tmp_path / "films") == ["Test/2.jpg", "Train/a b/1.jpg"]
        assert "already" in download_dataset(kaggle_plan(site), tmp_path / "films", via="kaggle")[0]
        assert calls == [("owner/films", True)]
        assert not (tmp_path / "films" / ".kaggle").exists()


def test_a_failing_kagglehub_leaves_no_data_set(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = {"Train/1.jpg": b"1", "Train/2.jpg": b"2"}
    with (
        kagglehub(monkeypatch, films, RuntimeError("403 consent")),
        pytest.raises(DataError, match="RuntimeError: 403 consent") as caught,
    ):
        download_dataset(kaggle_plan(site), tmp_path, via="kaggle")
    assert "kaggle datasets download -d owner/films" in str(caught.value)
    assert visible(tmp_path) == []
    with kagglehub(monkeypatch, films):
        download_dataset(kaggle_plan(site), tmp_path, via="kaggle")
    assert visible(tmp_path) == ["Train/1.jpg", "Train/2.jpg"]


def test_without_kagglehub_the_way_to_get_it_is_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(DataError, match="pip install kagglehub"):
        download_dataset(kaggle_plan(site), tmp_path, via="kaggle")


def test_one_folder_holds_one_copy_of_a_data_set(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pages["/films.zip"] = Answer(ARCHIVE)
    plan = plan_of(site, {"name": "films.zip", "unpack": True, **published(ARCHIVE)}, kaggle="owner/films")
    fetched(plan, tmp_path)
    with kagglehub(monkeypatch, {"train/1.jpg": b"1"}) as calls:
        with pytest.raises(DataError, match=r"already holds what came from data[.]download=publisher"):
            download_dataset(plan, tmp_path, via="kaggle")
        assert calls == []


def test_ways_that_do_not_exist_are_named(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="publisher and kaggle"):
        download_dataset(kaggle_plan(site), tmp_path, via="ftp")
    with pytest.raises(DataError, match=r"data\.download=kaggle"):
        download_dataset(kaggle_plan(site), tmp_path, via="publisher")
    with pytest.raises(DataError, match=r"data\.download=publisher"):
        download_dataset(plan_of(site), tmp_path, via="kaggle")


def test_a_damaged_record_only_costs_a_check(site: Site, tmp_path: Path) -> None:
    site.pages["/a.bin"] = Answer(BODY)
    plan = plan_of(site, {"name": "a.bin", **published(BODY)})
    fetched(plan, tmp_path)
    for text in ("", "{", "[]", json.dumps({"files": {"a.bin": {"url": 3}}})):
        (tmp_path / ".download.json").write_text(text)
        assert "found in" in fetched(plan, tmp_path)[0]
    assert len(site.requests) == 1
