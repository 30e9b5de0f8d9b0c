"""The panel in a real browser: the filter works by keyboard and without a script, nothing overflows, nothing is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from evaluation.panel import KINDS, GroupLine
from tests.evaluation.panel_samples import FRAME, one_of_each, page_of
from tests.serving.served_page import LOW_CONTRAST, Watched, running_browser

pytestmark = pytest.mark.slow

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("panel")
    long = "a_folder/" + "x" * 200 + ".png"
    images = [replace(image, name=long, group=f"p{image.number}" + "y" * 90) for image in one_of_each()]
    groups = {image.group: GroupLine(image.group, image.kind, image.score, 3, 2) for image in images}
    page_of(folder, images, replace(FRAME, groups=groups, phantom=True))
    return (folder / "panel.html").as_uri()


def shown(page: Any) -> list[str]:
    """Kinds of the cards that can be seen."""
    seen: list[str] = page.eval_on_selector_all(
        ".shot", "all => all.filter(one => one.checkVisibility()).map(one => one.className.split('is-')[1])"
    )
    return seen


@pytest.mark.parametrize("script", [True, False])
def test_filter_shows_one_kind_by_keyboard(browser: Any, address: str, script: bool) -> None:
    with browser.new_context(viewport=DESKTOP, java_script_enabled=script) as context:
        page = context.new_page()
        page.goto(address)
        if not script:  # then nothing can be asked of the page, but it can be seen
            assert page.locator(".shot:visible").count() == len(KINDS)
            page.get_by_role("radio", name="NORMAL, borderline").check()
            assert page.locator(".shot:visible").count() == 1
            return
        assert shown(page) == list(KINDS)
        page.get_by_role("radio", name="all 5").focus()
        for kind in KINDS:
            page.keyboard.press("ArrowDown")
            assert shown(page) == [kind]
        page.keyboard.press("ArrowDown")
        assert shown(page) == list(KINDS)


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_can_be_read_and_asks_nobody(browser: Any, address: str, size: dict[str, int], scheme: str) -> None:
    with browser.new_context(viewport=size, color_scheme=scheme) as context:
        page = context.new_page()
        watched = Watched(address)
        watched.watch(page)
        page.goto(address)
        page.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert page.evaluate(LOW_CONTRAST) == []
        assert watched.complaints == [] and watched.elsewhere == []


def test_pictures_appear_and_have_names(browser: Any, address: str) -> None:
    with browser.new_context(viewport={"width": 1280, "height": 4000}) as context:
        page = context.new_page()
        page.goto(address)
        page.wait_for_function("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
        assert page.get_by_role("img", name="No. 4: its heat map alone").is_visible()
        assert page.get_by_role("group", name="Show").get_by_role("radio").count() == 1 + len(KINDS)
