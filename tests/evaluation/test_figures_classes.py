"""Figures of several classes: counts, names of any length, and nothing outside the page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from evaluation.figures import class_dots, confusion_matrix, mark_leaky, svg

SHORT = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
LONG = (
    "actinic keratosis", "basal cell carcinoma", "dermatofibroma", "melanoma", "nevus", "pigmented benign keratosis",
    "seborrheic keratosis", "squamous cell carcinoma", "vascular lesion",
)  # fmt: skip


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


def interval(value: float | None) -> dict[str, Any]:
    return {
        "value": value,
        "low": None if value is None else value - 0.1,
        "high": None if value is None else value + 0.05,
    }


def outside(figure: Figure) -> list[str]:
    """Texts that leave the figure."""
    renderer = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else None
    assert renderer is not None
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.findobj(Text) if text.get_text()]  # type: ignore[attr-defined]
    return [name for name, box in boxes if box.x0 < -1 or box.x1 > width + 1 or box.y0 < -1 or box.y1 > height + 1]


@pytest.mark.parametrize("names", [("a", "b"), ("normal", "bacteria", "virus"), SHORT, LONG, tuple("abcdefghijklmnop")])
def test_every_count_and_name_is_there_and_inside(names: tuple[str, ...]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    k = len(names)
    counts = np.arange(k * k).reshape(k, k) * 17
    figure = confusion_matrix(counts, names, title="Test")
    FigureCanvasAgg(figure).draw()
    text = words(figure)
    for value in counts.ravel():
        assert f"{value:,}" in text
    assert all(name in " ".join(word.replace("\n", " ") for word in text) for name in names)
    assert not outside(figure)


def test_short_names_stand_over_the_columns_and_long_ones_are_numbered() -> None:
    short, long = (confusion_matrix(np.eye(len(names)), names).axes[0] for names in (SHORT, LONG))
    assert [tick.get_text() for tick in short.get_xticklabels()] == list(SHORT)
    assert [tick.get_text() for tick in long.get_xticklabels()] == list("123456789")
    assert [tick.get_text() for tick in long.get_yticklabels()] == list("123456789")
    assert "basal cell\ncarcinoma" in [text.get_text() for text in long.texts]


def test_a_class_without_images_is_no_division_by_zero() -> None:
    text = words(confusion_matrix([[0, 0, 0], [1, 2, 1], [0, 0, 4]], ("x", "y", "z")))
    assert "100 %" in text and "50 %" in text and "nan %" not in text


def test_a_matrix_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit 3 classes"):
        confusion_matrix([[1, 2], [3, 4]], ("a", "b", "c"))


def test_hostile_and_endless_names() -> None:
    names = ("$x^2$", "<b>&", "a name " * 20, "unbroken" * 12)
    drawing = svg(confusion_matrix(np.ones((4, 4)), names))
    assert "$x^2$" in drawing and "&lt;b&gt;&amp;" in drawing and "<b>" not in drawing


@pytest.mark.parametrize("names", [SHORT, LONG])
def test_dots_of_every_class_and_what_is_not_defined(names: tuple[str, ...]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    rows = [{"class": name, "recall": interval(0.4), "auroc": interval(0.9)} for name in names]
    rows[0]["recall"] = interval(None)
    figure = class_dots(rows, names[:2], phantom=True)
    FigureCanvasAgg(figure).draw()
    text = words(figure)
    assert "not defined" in text and any(word.startswith("Phantom data - ") for word in text)
    assert figure.axes[0].get_xlim()[0] < 0 < 0.4 < figure.axes[1].get_xlim()[0]
    assert not outside(figure)
    nothing = [{"class": name, "recall": interval(None), "auroc": interval(None)} for name in names]
    assert words(class_dots(nothing, names[:1])).count("not defined") == 2 * len(names)


def test_a_leaky_figure_says_so_in_its_title_and_to_screen_readers() -> None:
    figure = confusion_matrix(np.eye(2), ("a", "b"), title="Test", phantom=True)
    mark_leaky(figure)
    assert "LEAKY - Phantom data - Test" in words(figure)
    assert 'aria-label="LEAKY - Phantom data - Test.' in svg(figure)
