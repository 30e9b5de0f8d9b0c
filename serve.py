"""A local page for a trained run: drag in images, see the decision and the heat map. The same for programs, as an HTTP API.

python serve.py run=RUN                          the page, at http://127.0.0.1:7860/
python serve.py run=RUN open=true                ... opened in the browser
python serve.py run=RUN port=0                   ... at any free port
curl -F files=@image.png http://127.0.0.1:7860/api/predict
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from conf.arguments import INTERRUPTED, as_ctrl_c, stop
from conf.schema import RESEARCH_NOTICE
from conf.serve_options import Options, UsageError, help_text, parsed

if TYPE_CHECKING:
    import socket


def main(argv: list[str]) -> None:
    """The command line; exits with 2 and one message where something is wrong, with 0 after Ctrl-C."""
    if {"--help", "-h"} & set(argv):
        print(help_text(str(__doc__), RESEARCH_NOTICE))
        return
    from serving.sockets import PortError, bound

    try:
        options = parsed(argv)
        place = bound(options.host, options.port)
    except (UsageError, PortError) as error:
        stop(error)
    signal.signal(signal.SIGTERM, as_ctrl_c)  # as Ctrl-C, while the model is loaded
    try:
        _serve(options, place)
    except KeyboardInterrupt:
        print("stopped before the page was there")
        sys.exit(INTERRUPTED)


def _serve(options: Options, place: socket.socket) -> None:
    from datamodules.errors import DataError
    from serving.server import Settings, serve
    from serving.uploads import Limits

    settings = Settings(
        run=options.run,
        host=options.host,
        port=options.port,
        open=options.open,
        abstain=options.abstain,
        trust=options.trust,
        workers=options.workers,
        limits=Limits(**options.limits),
        heat_maps=options.heat_maps,
    )
    try:
        serve(settings, place)
    except (DataError, ValueError, OSError) as error:
        stop(error)


if __name__ == "__main__":
    main(sys.argv[1:])
