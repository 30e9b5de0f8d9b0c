"""One small phantom data set and one finished run, shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import run_train

# Small enough for seconds, real enough to go through every stage.
TINY = [
    "data.source=phantom",
    "data.phantom_images=200",
    "model.image_size=32",
    "model.filters=[4,8]",
    "model.hidden=[8]",
    "trainer.max_epochs=3",
    "data.batch_size=8",
    "evaluation.bootstrap=100",
    "trainer.progress_bar=false",
]
# Without the input check, which has tests of its own: a third of the time of so small a run.
PLAIN = [*TINY, "evaluation.abstain=null"]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def finished(home: Path) -> tuple[Path, str]:
    """Folder and terminal output of a finished run, in a Python of its own: also the libraries are to say nothing."""
    done = run_train(*TINY, "hydra.run.dir=runs/finished", home=home, warm=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "runs" / "finished", done.stdout + done.stderr
