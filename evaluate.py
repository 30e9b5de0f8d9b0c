"""Judge predictions on disk: of a finished run, or of any other tool; compare and aggregate runs. Nothing is trained.

python evaluate.py run=RUN                                   judge a run again, with this version and these intervals
python evaluate.py run=RUN threshold=youden                  ... at another threshold, chosen on its validation predictions
python evaluate.py predictions=FILE.csv positive=malignant   judge the predictions of another tool
python evaluate.py predictions=FILE.csv validation=VAL.csv   ... with a threshold that is chosen on a second file
python evaluate.py predictions=FILE.csv calibration_share=0.5
python evaluate.py 'compare=[RUN,RUN]'                       which is better on the same test images, and how sure
python evaluate.py aggregate=multirun/TASK/MODEL/DATE_TIME   seeds, folds and settings in one table
python evaluate.py run=RUN robustness=true                   the test images under blur, noise and other corruptions
python evaluate.py run=RUN task=TASK data.root=FOLDER        another data set, at the run's own threshold
python evaluate.py run=RUN foreign=FOLDER                    images that the run should turn away: does it?
"""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from conf.arguments import INTERRUPTED, as_ctrl_c, stop
from conf.evaluate_keys import help_text
from conf.evaluate_options import (
    AGGREGATE,
    COMPARE,
    EXTERNAL,
    FOREIGN,
    PREDICTIONS,
    REJUDGE,
    ROBUSTNESS,
    Options,
    UsageError,
    parsed,
)
from conf.output import short
from conf.schema import RESEARCH_NOTICE

Done = tuple[dict[str, Any], Path, Callable[[dict[str, Any]], None]]
"""Content of the record, its folder, and what prints it."""


def rejudged(options: Options, command: str) -> Done:
    """``run=RUN``: a record of its own, from the run's predictions."""
    from workflow.reevaluation import rejudge

    _one_run(options)
    given: dict[str, Any] = {"threshold": options.threshold, "judging": options.judging}
    content, folder = rejudge(options.paths[0], command=command, output=options.output, **given)
    return content, folder, _printer(folder)


def judged_file(options: Options, command: str) -> Done:
    """``predictions=FILE.csv``: the predictions of another tool."""
    from workflow.given_predictions import judge_given

    given: dict[str, Any] = {"threshold": options.threshold, "judging": options.judging, **options.given}
    content, folder = judge_given(options.paths[0], command=command, output=options.output, **given)
    return content, folder, _printer(folder)


def compared(options: Options, command: str) -> Done:
    """``compare=[RUN,RUN]``: differences on the same images."""
    from workflow.comparing import compare_runs, print_comparison

    return *compare_runs(options.paths, command=command, output=options.output, **options.judging), print_comparison


def aggregated(options: Options, command: str) -> Done:
    """``aggregate=FOLDER``: one table over runs."""
    from workflow.aggregating import aggregate_runs, print_aggregate

    source = list(options.paths) if options.several else options.paths[0]
    return *aggregate_runs(source, command=command, output=options.output, **options.judging), print_aggregate


def stressed(options: Options, command: str) -> Done:
    """``run=RUN robustness=true``: the test images under corruptions."""
    from workflow.robustness import print_robustness, robustness_of

    _one_run(options)
    where: dict[str, Any] = {"output": options.output, "images": options.images, "data_root": options.data_root}
    return *robustness_of(options.paths[0], command=command, **where, **options.judging), print_robustness


def shown_foreign(options: Options, command: str) -> Done:
    """``run=RUN foreign=FOLDER``: what its input check does with images that it should not answer on."""
    from workflow.foreign_folders import foreign_of, print_foreign

    _one_run(options)
    where: dict[str, Any] = {"output": options.output, "images": options.images, "data_root": options.data_root}
    return *foreign_of(options.paths[0], options.foreign, command=command, **where, **options.judging), print_foreign


def tested_elsewhere(options: Options, command: str) -> Done:
    """``run=RUN task=TASK data.root=FOLDER``: another data set at the run's own threshold."""
    from conf.cli import ConfigError, checked_config, path_quoted

    checked_config(options.overrides, "evaluate.py")  # a mistake is named before torch is loaded
    from workflow.external import external_of, print_external

    overrides = [path_quoted(text) for text in options.overrides]
    said: dict[str, Any] = {"mapping": options.mapping, "output": options.output, "part": options.part}
    try:
        return *external_of(options.paths, overrides, command=command, **said, **options.judging), print_external
    except ConfigError as error:
        raise ValueError(str(error)) from error


ACTIONS: dict[str, Callable[[Options, str], Done]] = {
    REJUDGE: rejudged,
    PREDICTIONS: judged_file,
    COMPARE: compared,
    AGGREGATE: aggregated,
    ROBUSTNESS: stressed,
    EXTERNAL: tested_elsewhere,
    FOREIGN: shown_foreign,
}


def _printer(folder: Path) -> Callable[[dict[str, Any]], None]:
    """Prints a judged folder with the worries of its page."""
    from evaluation.report_parts import worries_of_folder
    from evaluation.terminal import print_results

    return partial(print_results, worries=worries_of_folder(folder))


def _one_run(options: Options) -> None:
    if len(options.paths) > 1:
        raise UsageError(
            f"run: {len(options.paths)} runs are listed; this is done one at a time. To put them side by side: compare=[RUN,RUN]."
        )


def main(argv: list[str]) -> None:
    """The command line; exits with 2 and one message where something is wrong."""
    if {"--help", "-h"} & set(argv):
        print(help_text(str(__doc__), RESEARCH_NOTICE))
        return
    try:
        options = parsed(argv)
    except UsageError as error:
        stop(error)
    signal.signal(signal.SIGTERM, as_ctrl_c)  # as Ctrl-C, so that no half record stays behind
    try:
        content, folder, show = _done(options, "python evaluate.py " + " ".join(shlex.quote(item) for item in argv))
    except KeyboardInterrupt:
        print("stopped; nothing was written")
        sys.exit(INTERRUPTED)
    show(content)
    print(f"\nreport: {short(folder / 'report.html')}\n{RESEARCH_NOTICE}")


def _done(options: Options, command: str) -> Done:
    from datamodules.errors import DataError

    try:
        return ACTIONS[options.form](options, command)
    except (DataError, ValueError, OSError) as error:
        stop(error)


if __name__ == "__main__":
    main(sys.argv[1:])
