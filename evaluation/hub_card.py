"""The README.md of a hand-over folder: a model card for people, with the metadata that model hubs read before it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation.hub_card_facts import HubFacts
from evaluation.hub_card_metadata import hub_metadata, licence_id
from evaluation.hub_card_tables import Table, preparation_steps, result_tables
from evaluation.model_card import CardRow, model_card
from evaluation.pages import NOTICE
from evaluation.report_parts import NON_COMMERCIAL

# Absolute paths of the machine that trained; what is published keeps the name of the file alone.
_PATH = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?[/\\~](?:[^\s'\"\],;=]*[/\\])+(?=[^\s'\"\],;=/\\])")
_SPECIAL = re.compile(r"([\\`*_<>\[\]|#~$])")
_OWN_SECTIONS: Final = ("Use", "Operating point", "Performance", "Limits")
# The tables of the card have these figures already.
_TABLED: Final = ("Ranking", "At the threshold", "All classes", "Subgroups")
_SAID: Final = ("Input", "Weights")  # above, in words of its own


def hub_card(facts: HubFacts) -> str:
    """README.md as text: YAML between two lines of dashes, then Markdown."""
    front = yaml.safe_dump(hub_metadata(facts), sort_keys=False, allow_unicode=True, width=120)
    sections = [] if facts.run is None else model_card(facts.run.without_pictures())
    filled = [(heading, [row for row in rows if not row.by_hand]) for heading, rows in sections]
    body = (
        _environment()
        .get_template("hub_card.md.j2")
        .render(
            facts=facts,
            notice=NOTICE,
            steps=preparation_steps(facts.network, facts.views),
            tables=result_tables(facts.run) if facts.run is not None else [],
            own={heading: _rows(heading, rows) for heading, rows in filled if heading in _OWN_SECTIONS},
            sections=[(heading, rows) for heading, rows in filled if heading not in _OWN_SECTIONS and rows],
            asked=[row for _, rows in sections for row in rows if row.by_hand and row.name not in _SAID],
            non_commercial=bool(NON_COMMERCIAL.search(facts.licence)),
            licence_id=licence_id(facts.licence),
            n_views={"none": 1, "flip": 2, "dihedral": 8}.get(facts.views, 1),
        )
    )
    return f"---\n{front}---\n\n{body}"


def _rows(heading: str, rows: list[CardRow]) -> list[CardRow]:
    return [row for row in rows if heading != "Performance" or row.name not in _TABLED]


def plain_text(text: object) -> str:
    """Text as Markdown shows it literally, on one line, without the folders of the machine that trained."""
    held = _PATH.sub(".../", " ".join(str(text).split()))
    return _SPECIAL.sub(r"\\\1", held)


def _cell(table: Table) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(plain_text(name) for name in table.columns) + " |"]
    lines.append("|" + "|".join(" --- " for _ in table.columns) + "|")
    lines += ["| " + " | ".join(plain_text(value) for value in row) + " |" for row in table.rows]
    return "\n".join(lines)


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown, where `md` escapes every text that comes from data
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update({"md": plain_text, "table": _cell, "line": lambda text: " ".join(str(text).split())})
    return made
