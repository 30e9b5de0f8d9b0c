"""The command line of serve.py, and the port that it takes first."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conf.serve_options import KEYS, UsageError, help_text, parsed
from datamodules.images import MAX_PIXELS
from serving.sockets import PortError, bound, listening
from tests.conftest import ROOT


def test_what_is_not_given_is_safe(tmp_path: Path) -> None:
    options = parsed([f"run={tmp_path}"])
    assert (options.run, options.host, options.port) == (tmp_path, "127.0.0.1", 7860)
    assert (options.open, options.abstain, options.trust, options.limits, options.heat_maps) == (
        False,
        True,
        False,
        {},
        {},
    )
    assert options.workers >= 1


def test_everything_can_be_given(tmp_path: Path) -> None:
    given = [
        "host=[::1]",
        "port=0",
        "open=true",
        "abstain=false",
        "trust=true",
        "workers=3",
        "max_bytes=5_000_000",
        "max_files=2",
    ]
    options = parsed(
        [f"run={tmp_path}", *given, "max_pixels=1000", "heat_maps.method=hires_cam", "heat_maps.target=PNEUMONIA"]
    )
    assert (options.host, options.port, options.workers) == ("::1", 0, 3)
    assert (options.open, options.abstain, options.trust) == (True, False, True)
    assert options.limits == {"max_bytes": 5_000_000, "max_files": 2, "max_pixels": 1000}
    assert options.heat_maps == {"method": "hires_cam", "target": "PNEUMONIA"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "run is missing"),
        (["run"], "is not of the form key=value"),
        (["run="], "run has no value"),
        (["run=nowhere"], "there is no such folder"),
        (["run=[a,b]"], "ensemble.py"),
        (["run=.", "run=."], "given twice"),
        (["run=.", "prot=80"], "Did you mean 'port'"),
        (["run=.", "port=many"], "'many' is not a whole number"),
        (["run=.", "port=65536"], "must be from 0 to 65535"),
        (["run=.", "max_files=0"], "must be from 1"),
        (["run=.", "max_pixels=100000000"], "to 80000000"),
        (["run=.", "open=maybe"], "true or false"),
        (["run=.", "heat_maps.method=gradcam"], "Did you mean 'grad_cam'"),
    ],
)
def test_mistakes_are_named(given: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=r".*".join(said.split())):
        parsed(given)


def test_no_more_pixels_can_be_asked_for_than_are_decoded() -> None:
    with pytest.raises(UsageError):
        parsed(["run=.", f"max_pixels={MAX_PIXELS + 1}"])
    assert parsed(["run=.", f"max_pixels={MAX_PIXELS}"]).limits == {"max_pixels": MAX_PIXELS}


def test_help_names_every_key() -> None:
    text = help_text("intro", "notice")
    assert all(f"  {key} " in text for key in KEYS)
    assert text.startswith("intro")
    assert text.endswith("notice")


@pytest.mark.parametrize("arguments", [["--help"], ["run=nowhere"]])
def test_nothing_heavy_is_imported_before_the_command_line_is_right(arguments: list[str]) -> None:
    look = "print(sorted({'torch', 'numpy', 'fastapi'} & set(sys.modules)))"
    program = f"import sys, serve\ntry:\n    serve.main({arguments!r})\nfinally:\n    {look}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("[]\n")
    assert done.returncode == (0 if arguments == ["--help"] else 2)


def test_a_taken_port_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = [sys.executable, str(ROOT / "serve.py"), f"run={tmp_path}", f"port={port}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"error: port={port}: another program uses it already. Give another one, or port=0 for any that is free.\n"
    )


def test_a_free_port_is_taken_and_the_address_can_be_opened() -> None:
    with bound("127.0.0.1", 0) as made:
        address = listening(made, "127.0.0.1", 0)
        port = made.getsockname()[1]
        assert address == f"http://127.0.0.1:{port}/"
        socket.create_connection(("127.0.0.1", port)).close()
        with pytest.raises(PortError, match=f"port={port}: another program"):
            bound("127.0.0.1", port)


def test_of_two_servers_that_load_at_the_same_time_the_second_is_refused() -> None:
    with bound("127.0.0.1", 0) as first, bound("127.0.0.1", first.getsockname()[1]) as second:
        port = first.getsockname()[1]
        listening(first, "127.0.0.1", port)
        with pytest.raises(PortError, match=f"port={port}: another program"):
            listening(second, "127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such name"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(PortError, match=f"host={host}: this is no address of this machine"):
        bound(host, 0)


def test_what_listens_everywhere_is_opened_here() -> None:
    with bound("0.0.0.0", 0) as made:
        assert listening(made, "0.0.0.0", 0).startswith("http://127.0.0.1:")
