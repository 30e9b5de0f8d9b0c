"""Pages: one frame, one style sheet and one set of filters for every report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from evaluation.figures import standalone_svg, svg
from evaluation.report_text import FILTERS

NOTICE: Final = "Research and education only; not a medical device."
_HERE: Final = Path(__file__).parent
_PNG_DPI: Final = 200


def render(
    template: str,
    *,
    title: str,
    figures: Mapping[str, Figure],
    eyebrow: Sequence[str] = (),
    sections: Sequence[tuple[str, str]] = (),
    phantom: bool = False,
    leaky: str = "",
    version: str | None = None,
    **values: Any,
) -> str:
    """A whole page as HTML: self-contained, no request to anywhere.

    Args:
        template: file in this folder that extends ``page.html.j2``; it may import ``macros.html.j2``.
        title: heading and window title. ``eyebrow``: words in the line above it.
        figures: by name; the template gets them as inline SVG in ``figures``.
        sections: id and name of each part, for the contents.
        phantom: generated data. ``leaky``: what to say where the split leaks, else empty.
        version: of the software. ``values``: everything else that the template reads.

    Raises:
        jinja2.UndefinedError: the template reads a value that is not there.
    """
    return (
        environment()
        .get_template(template)
        .render(
            css=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
            notice=NOTICE,
            title=title,
            eyebrow=list(eyebrow),
            sections=list(sections),
            phantom=phantom,
            leaky=leaky,
            version=version,
            figures={name: Markup(svg(figure)) for name, figure in figures.items()},
            **values,
        )
    )


def environment() -> Environment:
    """Where the templates are, with the filters of :mod:`evaluation.report_text`; an unknown value is an error."""
    made = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update({name: _named(function) for name, function in FILTERS.items()})
    return made


def _named(function: Callable[..., str]) -> Callable[..., str]:
    """The same filter; a field that does not exist is named instead of failing as a wrong type."""

    def checked(value: Any, *options: Any) -> str:
        return function(str(value) if isinstance(value, StrictUndefined) else value, *options)

    return checked


def save_figures(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write each figure as SVG and PNG; files appear whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        write_whole(folder / f"{name}.svg", standalone_svg(figure).encode())
        temporary = folder / f".{name}.{os.getpid()}.png"
        figure.savefig(temporary, dpi=_PNG_DPI, bbox_inches="tight", pad_inches=0.12, metadata={"Software": None})
        os.replace(temporary, folder / f"{name}.png")


def write_whole(path: Path, content: bytes) -> Path:
    """Write beside the place and rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
    return path
