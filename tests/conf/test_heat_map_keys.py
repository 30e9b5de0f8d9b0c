"""The keys of heat maps, which several commands have."""

from __future__ import annotations

import pytest

from conf.heat_map_keys import METHODS, UsageError, heat_maps_of
from explain import grad_cam


def test_the_methods_are_those_that_there_are() -> None:
    assert sorted(grad_cam.METHODS) == sorted(METHODS)
    assert METHODS[0] == "hires_cam"  # the default


def test_only_what_was_given_is_passed_on() -> None:
    given = {"run": "x", "heat_maps.layer": "features", "heat_maps.target": "positive"}
    assert heat_maps_of(given) == {"layer": "features", "target": "positive"}
    assert heat_maps_of({}) == {}


def test_a_method_that_there_is_not() -> None:
    with pytest.raises(UsageError, match=r"must be one of hires_cam, .*Did you mean \'hires_cam\'"):
        heat_maps_of({"heat_maps.method": "hirescam"})
