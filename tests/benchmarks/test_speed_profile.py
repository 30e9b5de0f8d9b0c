"""The sampling profiler, its categories and its figure."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.speed.profile_tables import as_markdown, draw, tree_of
from benchmarks.speed.sampling import OTHER, Sampler, category_of, shares, short_stack
from tests.benchmarks.speed_samples import MACHINE

LOOP = ("/x/pytorch_lightning/loops/fit_loop.py:run", "/x/torch/optim/adam.py:step")
STEP = (
    *LOOP,
    "/x/pytorch_lightning/core/module.py:optimizer_step",
    "/y/lightning_modules/image_classifier.py:training_step",
)


def busy_here(stop: threading.Event) -> None:
    while not stop.is_set():
        time.sleep(0.001)


def test_samples_of_the_main_thread_and_of_others_are_kept_apart() -> None:
    stop, sampler = threading.Event(), Sampler(interval=0.001)
    thread = threading.Thread(target=busy_here, args=(stop,))
    thread.start()
    sampler.start()
    while sum(sampler.main.values()) < 5:
        time.sleep(0.002)
    sampler.stop()
    sampler.stop()
    stop.set()
    thread.join()
    assert any("test_samples_of_the_main_thread" in place for stack in sampler.main for place in stack)
    assert not any("busy_here" in place for stack in sampler.main for place in stack)
    assert any("busy_here" in place for stack in sampler.others for place in stack)
    assert not any("sampling.py:_run" in place for stack in sampler.others for place in stack)
    assert sampler.seconds > 0


@pytest.mark.parametrize(
    ("stack", "name"),
    [
        (LOOP, "optimiser"),
        ((*STEP, "/x/torch/nn/modules/conv.py:forward"), "forward: convolution"),
        ((*STEP, "/y/models/simple_cnn.py:features", "/x/torch/nn/functional.py:max"), "forward: other"),
        ((*LOOP, "/x/torch/autograd/graph.py:_engine_run_backward"), "backward"),
        ((*STEP, "/x/torchmetrics/metric.py:wrapped"), "metrics"),
        (("/y/datamodules/augmentation.py:__call__", "/x/albumentations/core.py:apply"), "augmentation"),
        (("/y/somewhere.py:run",), OTHER),
    ],
)
def test_the_innermost_known_frame_decides(stack: tuple[str, ...], name: str) -> None:
    assert category_of(stack) == name


def test_shares_add_up_to_one() -> None:
    found = shares(Counter({LOOP: 3, STEP: 1}))
    assert found == {"optimiser": 0.75, "module": 0.25}
    assert shares(Counter()) == {}


def test_stacks_are_shortened_for_people() -> None:
    stack = (*STEP, "/x/torch/nn/modules/module.py:_call_impl", "/x/torch/nn/modules/conv.py:forward")
    assert short_stack(stack) == ("Lightning", "optimiser", "Lightning", "image_classifier.training_step", "conv")


def profile() -> dict[str, object]:
    stacks = {"Lightning;optimiser": 30, "Lightning;optimiser;backward": 50, "Lightning;conv": 20, "": 3}
    return {
        **{"kind": "profile", "machine": MACHINE, "seconds": 2.0, "samples": 103, "stacks": stacks},
        "case": {"title": "simple_cnn", "images": 100, "phantom": False},
        **{"main": {"backward": 0.5, "optimiser": 0.3, "forward: convolution": 0.2}, "others": {"augmentation": 0.4}},
        "operators": [{"name": "aten::mm", "calls": 10, "milliseconds": 30.0}],
    }


def test_the_flame_graph_counts_callers_and_called() -> None:
    root = tree_of({"a;b": 3, "a": 1, "c": 2})
    assert (root.count, root.inside["a"].count, root.inside["a"].inside["b"].count) == (6, 4, 3)
    assert root.depth(1) == 3
    assert root.depth(5) == 1, "what is too small for a row is left out"


def test_profile_as_table_and_figure(tmp_path: Path) -> None:
    told = as_markdown(profile())
    assert "| backward | 50.0 % |" in told
    assert "| beside it, in another thread: augmentation | 40.0 % |" in told
    assert "| `aten::mm` | 10 | 30 | 100.0 % |" in told
    draw(profile(), tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes()[1:4] == b"PNG"
