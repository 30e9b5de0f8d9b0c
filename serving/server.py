"""The server process: load, listen, answer until Ctrl-C or SIGTERM, finish what was begun, end."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.metadata
import logging
import socket
import sys
import warnings
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

import cv2
import uvicorn

import datamodules.images
from serving.app import make_app
from serving.connections import PatientProtocol
from serving.counts import Counts
from serving.facts import facts_of
from serving.guards import Guard, is_loopback
from serving.service import Service
from serving.sockets import listening
from serving.uploads import Limits
from workflow.heat_maps import require_maps
from workflow.predictor import Predictor, load_predictor

_KEEP_ALIVE: Final = 20  # seconds that an idle connection stays open
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # of mallopt, malloc.h
_FAREWELL: Final = 20  # seconds for requests that were complete when the server was told to end


@dataclass(frozen=True)
class Settings:
    """What ``serve.py`` was told.

    Attributes:
        run: what :func:`workflow.predictor.load_predictor` takes. ``trust``: for a checkpoint.
        host, port: where is listened. ``open``: open the page in the browser of this machine.
        abstain: whether the input check may turn images away.
        workers: threads that decode.
        heat_maps: given of ``method``, ``layer``, ``target`` of :func:`workflow.heat_maps.maps_of`.
    """

    run: Path
    host: str = "127.0.0.1"
    port: int = 7860
    open: bool = False
    abstain: bool = True
    trust: bool = False
    workers: int = 2
    limits: Limits = field(default_factory=Limits)
    heat_maps: dict[str, Any] = field(default_factory=dict)


def serve(settings: Settings, bound: socket.socket) -> None:
    """Serve until told to end.

    Args:
        bound: of :func:`serving.sockets.bound`.

    Raises:
        ValueError: the run cannot be used, its heat maps' settings do not fit it, or the port was taken meanwhile.
    """
    predictor = load_predictor(settings.run, trust=settings.trust)
    require_maps(predictor, **settings.heat_maps)
    # A header is checked against this before its pixels are decoded; the limit holds for the process.
    datamodules.images.MAX_PIXELS = settings.limits.max_pixels
    cv2.setNumThreads(1)  # images are decoded side by side already
    _give_memory_back()
    counts = Counts()
    service = Service(
        predictor,
        settings.limits,
        heat_maps=settings.heat_maps,
        abstain=settings.abstain,
        workers=settings.workers,
        counts=counts,
    )
    try:
        app = Guard(_app(service, settings), host=settings.host, counts=counts)
        address = listening(bound, settings.host, settings.port)
        _say_nothing_else()
        server = Server(app, service, on_start=lambda: _announce(predictor, settings, address))
        asyncio.run(server.serve(sockets=[bound]))
    finally:
        service.close()
        counts.tick(last=True)


def _app(service: Service, settings: Settings) -> Any:
    facts = facts_of(
        service.predictor,
        settings.limits,
        abstain=settings.abstain,
        heat_maps=settings.heat_maps,
        no_maps=service.no_maps,
    )
    return make_app(service, facts, importlib.metadata.version("firstread"))


def _give_memory_back() -> None:
    """Where the C library is glibc: large blocks go back to the system when they are freed, and few pools hold small ones.

    Left alone, glibc raises the size from which it does so up to 32 MB, and makes eight pools a core: a server of images of all
    sizes then keeps the most that it ever needed.
    """
    with suppress(OSError, AttributeError):
        change = ctypes.CDLL(None).mallopt
        change(_MMAP_THRESHOLD, 1 << 20)
        change(_ARENA_MAX, 2)


def _say_nothing_else() -> None:
    """Libraries remark on the files that they read, in logs and warnings; from now on only counts are printed."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def _announce(predictor: Predictor, settings: Settings, address: str) -> None:
    about = predictor.about
    print(
        f"{about.title}{' (phantom data)' if about.phantom else ''}\nserving at {address}  (Ctrl-C ends it)\n{about.notice}",
        flush=True,
    )
    if not is_loopback(settings.host):
        print(
            f"warning: host={settings.host} lets other machines of the network send images here. There is no password and no "
            "encryption; use it only where everybody may see the answers, and never with images of real patients.",
            file=sys.stderr,
            flush=True,
        )
    if settings.open:
        webbrowser.open(address)


class Server(uvicorn.Server):
    """uvicorn, which ends with 0 when it is told to, does not wait for uploads that are not complete, and logs nothing.

    Args:
        app: the guarded application. ``service``: whose uploads are given up at the end.
        on_start: called when requests are answered.
    """

    def __init__(self, app: Any, service: Service, on_start: Callable[[], None] = lambda: None) -> None:
        config = uvicorn.Config(
            app,
            http=PatientProtocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_FAREWELL,
        )
        super().__init__(config)
        self._service, self._on_start = service, on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._on_start()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        self._service.counts.tick()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what was received."""
        self._service.patience.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A first signal ends the server when all is answered, a second one at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
