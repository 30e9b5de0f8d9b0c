"""The port on which is listened, taken before anything slow is loaded. Only the standard library."""

from __future__ import annotations

import errno
import socket


class PortError(ValueError):
    """The address cannot be used; the text is meant for the user."""


def bound(host: str, port: int) -> socket.socket:
    """A socket that is bound and not yet listening.

    Args:
        host: a name or an address. ``port``: 0 takes a free one.

    Raises:
        PortError: naming ``host=`` or ``port=``.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise PortError(
            f"host={host}: this is no address of this machine ({error.strerror}). Leave it away for 127.0.0.1."
        ) from error
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was closed a moment ago is free
    try:
        made.bind(address)
    except OSError as error:
        made.close()
        raise refused(error, host, port) from error
    return made


def listening(made: socket.socket, host: str, port: int) -> str:
    """Start to listen; of two servers that were bound at the same time, the second one is refused here.

    Returns:
        The address to open.

    Raises:
        PortError: as :func:`bound`.
    """
    try:
        made.listen(512)
    except OSError as error:
        raise refused(error, host, port) from error
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # what listens everywhere is opened here
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{made.getsockname()[1]}/"


def refused(error: OSError, host: str, port: int) -> PortError:
    """Why an address could not be taken, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return PortError(
            f"port={port}: another program uses it already. Give another one, or port=0 for any that is free."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return PortError(
            f"port={port}: ports below 1024 need special rights. Give a larger one, for example port=7860."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return PortError(f"host={host}: this is no address of this machine. Leave it away for 127.0.0.1.")
    return PortError(f"host={host} port={port}: {error.strerror}.")
