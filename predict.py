"""Use a trained run: a probability, a decision at the locked threshold and a heat map for new images. Nothing is trained.

python predict.py run=RUN images=FOLDER                      all images below a folder
python predict.py run=RUN images=scan.dcm panel=true         one image, with a page that shows it and its heat map
python predict.py run=RUN 'images=scans/*/chest_*.png'       a pattern, in quotes
python predict.py run=RUN images=list.csv                    a table: column path; column patient gives one answer a patient
find scans -name '*.png' | python predict.py run=RUN images=-
python predict.py 'run=[RUN,RUN]' images=FOLDER              the mean of several runs, with a threshold of its own
python predict.py run=RUN images=FOLDER output=OUT           interrupted: the same command again goes on in OUT
"""

from __future__ import annotations

import io
import shlex
import signal
import sys
from typing import TYPE_CHECKING

from conf.arguments import INTERRUPTED, as_ctrl_c, stop
from conf.output import short
from conf.predict_options import Options, UsageError, help_text, parsed
from conf.schema import RESEARCH_NOTICE

if TYPE_CHECKING:
    from workflow.predicting import Stopped

UNREADABLE = 1


def main(argv: list[str]) -> None:
    """The command line; exits with 0, with 1 where files were unreadable, or with 2 and one message where something is wrong."""
    if {"--help", "-h"} & set(argv):
        print(help_text(str(__doc__), RESEARCH_NOTICE))
        return
    signal.signal(signal.SIGTERM, as_ctrl_c)  # as Ctrl-C
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may be no text
    try:
        options = parsed(argv)
        sys.exit(_predicted(options, "python predict.py " + " ".join(shlex.quote(item) for item in argv)))
    except UsageError as error:
        stop(error)
    except KeyboardInterrupt as stopped:
        print(_how_to_go_on(stopped, argv))
        sys.exit(INTERRUPTED)


def _predicted(options: Options, command: str) -> int:
    """Answer the images; the exit code."""
    from datamodules.errors import DataError

    try:
        from workflow.prediction_inputs import find_inputs
        from workflow.prediction_journal import require_open

        if options.output is not None:
            require_open(options.output)
        inputs = find_inputs(options.images, options.columns, options.root)
        # torch is loaded from here on
        from workflow.predict_several import predictor_of
        from workflow.predicting import predict

        predictor = predictor_of(options.runs, trust=options.trust)
        prediction = predict(predictor, inputs, options, command)
    except (DataError, ValueError, OSError) as error:
        stop(error)
    from workflow.prediction_table import print_prediction

    print_prediction(prediction, predictor)
    return UNREADABLE if prediction.counts.unreadable else 0


def _how_to_go_on(stopped: KeyboardInterrupt | Stopped, argv: list[str]) -> str:
    """What is printed after an interruption."""
    output = getattr(stopped, "output", None)
    if output is None:
        return "stopped; nothing was written"
    command = [item for item in argv if not item.startswith("output=")] + [f"output={short(output)}"]
    return f"{stopped}. To go on:\n  python predict.py {' '.join(shlex.quote(item) for item in command)}"


if __name__ == "__main__":
    main(sys.argv[1:])
