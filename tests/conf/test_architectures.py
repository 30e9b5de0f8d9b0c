"""Names and weights that do not exist are refused without loading torch; the names are exactly those of timm."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm

from conf.architectures import absent_weights, architectures, unknown_name


def test_the_names_read_from_the_source_are_those_of_timm() -> None:
    assert architectures() == set(timm.list_models())


@pytest.mark.parametrize("name", ["simple_cnn", "resnet50", "resnet50.a1_in1k", "mobilenetv2_100"])
def test_known_names_pass(name: str) -> None:
    assert unknown_name(name) is None


def test_an_unknown_name_comes_with_the_nearest() -> None:
    said = unknown_name("ResNet_50")
    assert said is not None
    assert "resnet50" in said


def test_where_timm_cannot_be_read_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conf.architectures.architectures", frozenset)
    assert unknown_name("nope") is None


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    said = absent_weights(str(file))
    assert said is not None
    assert "no such file or folder" in said
    file.touch()
    assert [absent_weights(name) for name in (str(file), str(tmp_path), "none", "imagenet")] == [None] * 4
