"""Average finished runs: several seeds on one split, or all folds of a cross-validation.

python ensemble.py runs=multirun/pneumonia/simple_cnn/2026-01-31_12-00-00
python ensemble.py 'runs=[runs/FIRST,runs/SECOND]' rule=empirical recall=0.95
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.arguments import INTERRUPTED, given_by, keys_text, stop
from conf.evaluate_keys import UsageError
from conf.output import short
from conf.schema import RESEARCH_NOTICE

if TYPE_CHECKING:
    from workflow.ensembles import Request

KEYS = {
    "runs": "folder of a multirun, or a list of run folders: runs=[RUN,RUN]",
    "output": "folder that is made (default: ensembles/<task>/<date_time>)",
    "rule": "rule of the threshold: certified, crc, empirical, youden, fbeta, cost or fixed (default: as the runs)",
    "recall": "recall to keep, between 0 and 1 (default: as the runs)",
}
RULES = ("certified", "crc", "empirical", "youden", "fbeta", "cost", "fixed")


def parsed(argv: list[str]) -> dict[str, Any]:
    """The options of a command line: ``runs`` (a list of paths), ``output`` (a path), ``rule``, ``recall``; absent if not given.

    Args:
        argv: the arguments without the program's name.

    Raises:
        UsageError: naming the argument and what to do.
    """
    given = given_by(argv, KEYS, "ensemble.py", lists=("runs",))
    if "runs" not in given:
        raise UsageError("runs is missing: runs=FOLDER_OF_A_MULTIRUN or runs=[RUN,RUN]. See: python ensemble.py --help")
    options: dict[str, Any] = {**given, "runs": _listed(given["runs"])}
    if "output" in options:
        options["output"] = Path(options["output"]).expanduser()
    if "rule" in options and options["rule"] not in RULES:
        raise UsageError(f"rule={options['rule']}: must be one of {', '.join(RULES)}.")
    if "recall" in options:
        options["recall"] = _share(given["recall"])
    return options


def _listed(value: str) -> list[Path] | Path:
    if not (value.startswith("[") or value.endswith("]")):
        return Path(value).expanduser()
    if not (value.startswith("[") and value.endswith("]")):
        raise UsageError(f"runs={value}: the list has only one bracket. Write it in quotes:  'runs=[RUN,RUN]'")
    return [Path(item.strip().strip("'\"")).expanduser() for item in value[1:-1].split(",") if item.strip()]


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"recall={text}: '{text}' is not a number.") from None
    if not 0.0 < value < 1.0:
        raise UsageError(f"recall={text}: must be above 0 and below 1.")
    return value


def find_runs(folder: Path) -> list[Path]:
    """The runs of a multirun, in the order in which they were started.

    Raises:
        ValueError: if the folder is a run itself, or holds none.
    """
    if not folder.is_dir():
        raise ValueError(f"runs={folder}: there is no such folder.")
    if (folder / "run.json").is_file():
        raise ValueError(
            f"runs={folder}: this is a single run. Give the folder of a multirun, or several runs: runs=[RUN,RUN]."
        )
    found = [path for path in folder.iterdir() if (path / "run.json").is_file()]
    if not found:
        raise ValueError(f"runs={folder}: no folder in it holds a run (run.json). Give the folder of a multirun.")
    return sorted(found, key=lambda path: (not path.name.isdigit(), int(path.name) if path.name.isdigit() else 0, path))


def request_of(argv: list[str]) -> Request:
    """The checked request of a command line.

    Raises:
        ValueError: with a message for the user.
    """
    options = parsed(argv)
    named = options.pop("runs")
    runs = find_runs(named) if isinstance(named, Path) else named
    missing = next((folder for folder in runs if not folder.is_dir()), None)
    if missing is not None:
        raise ValueError(f"runs: {missing}: there is no such folder.")
    from workflow.ensembles import Request  # which loads all that a report needs

    return Request(runs, "python ensemble.py " + " ".join(shlex.quote(item) for item in argv), **options)


def help_text() -> str:
    """What ``--help`` prints."""
    return "\n".join([str(__doc__).strip(), "", *keys_text(KEYS), "", RESEARCH_NOTICE])


def main(argv: list[str]) -> None:
    """The command line; exits with 2 and one message where something is wrong."""
    if {"--help", "-h"} & set(argv):
        print(help_text())
        return
    from datamodules.errors import DataError

    try:
        request = request_of(argv)
        from workflow.ensembles import build_ensemble

        metrics, folder = build_ensemble(request)
    except (DataError, ValueError, OSError) as error:
        stop(error)
    except KeyboardInterrupt:
        print("stopped; nothing was written")
        sys.exit(INTERRUPTED)
    from evaluation.report_parts import worries_of_folder
    from workflow.ensemble_table import print_ensemble

    print_ensemble(metrics, worries=worries_of_folder(folder) if "splits" in metrics else None)
    print(f"\nreport: {short(folder / 'report.html')}\n{RESEARCH_NOTICE}")


if __name__ == "__main__":
    main(sys.argv[1:])
