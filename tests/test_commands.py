"""A warm command is what a command in a new Python is: arguments, folder, environment, output, exit code, signals."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.commands import WarmCommand, environment_of, run_file

SAYS = """
import atexit, os, sys
import conf.schema
from pathlib import Path
atexit.register(lambda: print("at the end"))
print(__name__, sys.argv, Path.cwd(), os.environ["FIRSTREAD_HOME"], sorted(os.environ) == sys.argv[2:], sys.stdout.isatty())
print("a remark", file=sys.stderr)
os.write(1, b"from below\\n")
sys.exit(int(sys.argv[1]))
"""
FAILS = "raise RuntimeError('of itself')"
WAITS = "import time; open('started', 'w').close(); time.sleep(600)"


def written(folder: Path, program: str) -> str:
    path = folder / "program.py"
    path.write_text(program, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("code", [0, 3])
def test_warm_and_new_say_the_same(code: int, tmp_path: Path) -> None:
    file, environment = written(tmp_path, SAYS), environment_of(tmp_path)
    new, warm = (
        run_file(file, str(code), *sorted(environment), cwd=tmp_path, environment=environment, timeout=200, warm=warm)
        for warm in (False, True)
    )
    assert new.returncode == warm.returncode == code
    assert sorted(new.stdout.splitlines()) == sorted(warm.stdout.splitlines())
    assert new.stderr == warm.stderr == "a remark\n"
    assert "at the end" in warm.stdout and "from below" in warm.stdout and "__main__" in warm.stdout


def test_an_error_ends_in_a_traceback(tmp_path: Path) -> None:
    file = written(tmp_path, FAILS)
    done = run_file(file, cwd=tmp_path, environment=environment_of(tmp_path), timeout=200, warm=True)
    assert done.returncode == 1 and done.stdout == ""
    assert "Traceback" in done.stderr and "RuntimeError: of itself" in done.stderr


def test_signals_reach_it_and_time_runs_out(tmp_path: Path) -> None:
    file = written(tmp_path, WAITS)
    command = WarmCommand(file, (), tmp_path, environment_of(tmp_path))
    deadline = time.monotonic() + 200
    while not (tmp_path / "started").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert command.poll() is None
    command.send_signal(signal.SIGKILL)
    command.communicate(timeout=100)
    assert command.returncode == -signal.SIGKILL
    with pytest.raises(subprocess.TimeoutExpired):
        run_file(file, cwd=tmp_path, environment=environment_of(tmp_path), timeout=0.1, warm=True)
