from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from datamodules import shortcuts
from datamodules.audit import COLUMNS, audit_dataset
from datamodules.audit_page import write_audit_page
from datamodules.near_duplicates import near_duplicates


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "_TREES", 4)  # the figures are tested in test_shortcuts.py


def make_audit(root: Path, *, hostile: str = "", count: int = 40) -> dict[str, Any]:
    """Two files of one content under two labels, a mirrored copy, an unreadable file."""
    random = np.random.default_rng(0)
    small = np.stack(
        [cv2.resize(random.integers(0, 256, (9, 9), np.uint8), (32, 32)) for _ in range(count)],
    )
    small[3] = small[4][:, ::-1]
    (root / "a").mkdir(parents=True)
    for row in range(count):
        cv2.imwrite(str(root / "a" / f"{row}.png"), cv2.resize(small[row], (240, 180)))
    number = np.arange(count + 2)
    listed = pd.DataFrame(
        {
            "image_id": [f"{i}{hostile}" for i in number],
            "path": [f"a/{i}.png" for i in number],
            "label": np.where(number % 2, "ill", "well"),
            "group_id": [f"p{i}{hostile}" for i in number],
            "joined_group": [f"p{i}" for i in number],
            "official": np.where(number % 4 == 0, "test", "train"),
            "part": np.where(number % 4 == 0, "test", "train"),
            "reason": "",
            "sha256": [f"{i:064x}" for i in range(count)] + [f"{5:064x}", ""],
            "bytes": 5_000 + number,
            "width": 240,
            "height": 180,
            "mode": "L",
            "error": [""] * (count + 1) + [f"truncated {hostile}"],
            "sex": np.where(number % 3 == 0, "f", "m"),
        }
    )
    listed.loc[count:, ["part", "reason"]] = ["left out", "two labels"]
    return audit_dataset(
        listed,
        small,
        near_duplicates(small),
        classes=["ill", "well"],
        group_name="patient",
        subgroup_columns=["sex"],
    )


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def page(tmp_path: Path) -> str:
    path = tmp_path / "out" / "audit.html"
    write_audit_page(make_audit(tmp_path / "data"), tmp_path / "data", path, title="Audit of a set")
    assert [file.name for file in path.parent.iterdir()] == ["audit.html"]
    return path.read_text(encoding="utf-8")


def test_the_page_needs_nothing_else(page: str) -> None:
    for tag, attributes in Page(page).tags:
        assert tag not in ("script", "link", "iframe")
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert "http" not in page and "url(" not in page and "@import" not in page
    assert len(page) < 3_000_000


def test_findings_come_first_then_pictures_then_tables(page: str) -> None:
    order = re.findall(r'<section id="([a-z]+)"', page)
    assert order == ["findings", "pictures", "counts", "copies", "shortcuts", "subgroups"]
    headings = [tag for tag, _ in Page(page).tags if tag in ("h1", "h2", "h3")]
    assert headings[0] == "h1" and headings.count("h1") == 1


def test_every_finding_is_on_the_page(tmp_path: Path) -> None:
    audit = make_audit(tmp_path / "data")
    write_audit_page(audit, tmp_path / "data", tmp_path / "audit.html", title="Audit")
    words = Page((tmp_path / "audit.html").read_text(encoding="utf-8")).words
    assert len(audit["findings"]) > 5
    for finding in audit["findings"]:
        assert finding["title"] in words and finding["text"] in words


def test_pictures_are_small_jpegs_with_their_aspect_and_names(page: str) -> None:
    images = [attributes for tag, attributes in Page(page).tags if tag == "img"]
    assert len(images) == 2 * 2 - 1  # the second file of the contradiction does not exist
    for attributes in images:
        assert (attributes["src"] or "").startswith("data:image/jpeg;base64,")
        assert attributes["alt"]
    assert "picture cannot be read" in page
    assert "second mirrored" in page and "identical files" in page


def test_names_are_escaped(tmp_path: Path) -> None:
    audit = make_audit(tmp_path / "data", hostile="<script>alert(1)</script>\"'&")
    write_audit_page(audit, tmp_path / "data", tmp_path / "audit.html", title="<b>set</b> & more")
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "<script" not in text and "<b>set" not in text
    assert "alert(1)</script>" in Page(text).words


def test_a_tiny_set_has_a_page(tmp_path: Path) -> None:
    listed = pd.DataFrame(columns=COLUMNS)
    none = np.empty((0, 32, 32), np.uint8)
    audit = audit_dataset(
        listed, none, near_duplicates(none), classes=["ill"], group_name="patient", subgroup_columns=[]
    )
    write_audit_page(audit, tmp_path, tmp_path / "audit.html", title="Nothing")
    assert "0 files listed" in (tmp_path / "audit.html").read_text(encoding="utf-8")


def test_a_failed_page_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.html"
    path.write_text("old")
    audit = make_audit(tmp_path / "data")
    del audit["shift"]
    with pytest.raises(Exception, match="shift"):
        write_audit_page(audit, tmp_path / "data", path, title="Audit")
    assert path.read_text() == "old" and [file.name for file in tmp_path.glob("*audit*")] == ["audit.html"]
