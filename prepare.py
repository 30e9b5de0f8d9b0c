"""Prepare a data set: download, check, index, audit, split and decode it, and show what is there.

python prepare.py task=ham10000 data.root=PATH
python prepare.py task=pneumonia data.download=publisher
python prepare.py task=isic9 audit=true
python prepare.py cache=list
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from conf.cache_options import help_text, parsed
from conf.cli import checked_config, composed, stop
from conf.evaluate_keys import UsageError
from conf.output import short, write_json
from conf.run_settings import in_words, plain_settings
from conf.schema import RESEARCH_NOTICE

if TYPE_CHECKING:
    from datamodules.prepared import PreparedData

INTERRUPTED = 130


def prepare_data(settings: dict[str, Any], console: Console) -> PreparedData:
    """Everything that ``train.py`` needs of a data set; what is already there is not done again.

    Args:
        settings: the whole configuration as plain values.
        console: where tables are printed.

    Raises:
        DataError: with a message for the user.
    """
    from datamodules.audit import describe_audit
    from datamodules.audit_page import write_audit_page
    from datamodules.card import cautions, data_card, write_copies, write_metadata
    from datamodules.download import download_dataset
    from datamodules.download_plan import plan_from
    from datamodules.errors import DataError
    from datamodules.prepared import prepare
    from datamodules.progress import progress_bar, silent

    task, data = settings["task"], settings["data"]
    progress = progress_bar if settings["trainer"]["progress_bar"] else silent
    if data["download"] != "never":
        if not task["download"]:
            raise DataError(f"data.download={data['download']}: task {task['name']} names no place to download from.")
        plan = plan_from(task["download"])
        for line in download_dataset(plan, Path(data["root"]), via=data["download"], progress=progress):
            console.print(line, markup=False)
    prepared = prepare(settings, progress)
    _ = prepared.training_pixels  # with data.margin above 1 another array; decoded here, not by the first run
    card = data_card(prepared, task, in_words(settings["imbalance"]))
    console.print(f"\n[bold]{escape(card['title'])}[/bold]", highlight=False)
    console.print(f"in {short(prepared.root)}\n", markup=False, highlight=False)
    console.print(parts_table(card))
    console.print(f"split: {card['split']['method']}", markup=False, highlight=False)
    for line in [*_about(card), *cautions(card, left_out=False), "", "Audit", *describe_audit(prepared.audit)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    write_json(card, prepared.task_folder / "data_card.json")
    write_metadata(prepared)
    write_copies(prepared)
    console.print(f"\nprepared: {short(prepared.task_folder)}", markup=False, highlight=False)
    if settings["audit"]:
        page = prepared.task_folder / "audit" / "audit.html"
        write_audit_page(prepared.audit, prepared.root, page, title=card["title"])
        console.print(f"audit page: {short(page)}", markup=False, highlight=False)
    return prepared


def parts_table(card: dict[str, Any]) -> Table:
    """Images and groups of every class in every part, with sums.

    Args:
        card: of :func:`datamodules.card.data_card`.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("")
    parts = ("train", "val", "test")
    for part in (*parts, "all"):
        table.add_column(part, justify="right")
    counts = {(row["split"], row["class"]): row["images"] for row in card["counts"]}
    for name in dict.fromkeys(row["class"] for row in card["counts"]):
        images = [counts[part, name] for part in parts]
        table.add_row(escape(name), *(f"{count:,}" for count in [*images, sum(images)]))
    for title, key in (("[bold]images[/bold]", "images"), (f"{card['group_name']}s", "groups")):
        table.add_row(title, *(f"{card['parts'][part][key]:,}" for part in (*parts, "all")))
    return table


def _about(card: dict[str, Any]) -> list[str]:
    from datamodules.card import policy_lines

    lines = [f"groups: {card['group_rule']}", *policy_lines(card)]
    lines += [f"left out: {number:,}, {reason}" for reason, number in card["left_out_reasons"].items()]
    if card["unused"]:
        lines.append(f"{card['unused']:,} images are in no part")
    if card["licence"]:
        lines.append(f"licence: {card['licence']}")
    return [*lines, *(f"note: {note}" for note in card["notes"])]


def _cache(argv: list[str]) -> None:
    """``cache=list``, ``verify`` and ``clean``; exits with 1 where something is damaged, with 2 where nothing could be done."""
    if {"--help", "-h"} & set(argv):
        print(help_text())
        return
    try:
        options = parsed(argv)
        prepared = options.prepared or Path(composed([]).data.prepared)
        from workflow.cache_command import run

        sys.exit(run(options, prepared))
    except (UsageError, OSError) as error:
        stop(error)
    except KeyboardInterrupt:
        print("\nstopped; what was removed can be made again")
        sys.exit(INTERRUPTED)


def main(argv: list[str]) -> None:
    """The command line; exits with 2 and one message where something is wrong."""
    if any(text.startswith("cache=") for text in argv):
        _cache(argv)
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    settings = plain_settings(checked_config(argv, "prepare.py"))
    from datamodules.errors import DataError  # numpy and pandas are loaded from here on, torch never

    try:
        prepare_data(settings, Console())
        print(RESEARCH_NOTICE)
    except (DataError, OSError) as error:
        stop(error)
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, and the same command goes on from there")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main(sys.argv[1:])
