"""Hand a trained model to other software, checked against the run: ONNX, a PyTorch program, or a folder of weights.

python export.py run=RUN format=onnx                    image to probabilities and decision in one ONNX file
python export.py run=RUN format=onnx quantise=true      ... and a second one with weights of 8 bits, judged
python export.py run=RUN format=torch output=model.pt2  a program that PyTorch runs without this code
python export.py run=RUN format=safetensors             weights, description and model card in a hub folder
"""

from __future__ import annotations

import shlex
import signal
import sys

from conf.arguments import INTERRUPTED, as_ctrl_c, stop
from conf.export_options import UsageError, help_text, parsed
from conf.output import short
from conf.schema import RESEARCH_NOTICE


def main(argv: list[str]) -> None:
    """The command line; exits with 2 and one message where something is wrong."""
    if {"--help", "-h"} & set(argv):
        print(help_text(str(__doc__), RESEARCH_NOTICE))
        return
    try:
        options = parsed(argv)
    except (UsageError, OSError, RuntimeError) as error:  # a name that is too long, a user that is not there
        stop(error)
    signal.signal(signal.SIGTERM, as_ctrl_c)  # as Ctrl-C, so that no half file stays behind
    from datamodules.errors import DataError

    try:
        from workflow.export_table import print_export
        from workflow.exporting import export

        content, path = export(options, "python export.py " + " ".join(shlex.quote(item) for item in argv))
    except (DataError, ValueError, OSError) as error:
        stop(error)
    except KeyboardInterrupt:
        print("stopped; nothing was written")
        sys.exit(INTERRUPTED)
    print_export(content)
    print(f"\nwritten: {short(path)}\n{RESEARCH_NOTICE}")


if __name__ == "__main__":
    main(sys.argv[1:])
