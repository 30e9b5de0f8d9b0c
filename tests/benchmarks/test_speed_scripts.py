"""The scripts that are compared: the same network, the same images, the same augmentation."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.speed import ceiling_script, lightning_script, timm_script
from benchmarks.speed.cases import choose_cases, overrides_of
from benchmarks.speed.data import HELD, case_data, random_weights
from benchmarks.speed.peer import PlainNetwork, optimiser
from benchmarks.speed.processes import Asked, ContenderFailed, run_process, task_of
from models.build import build_network
from tests.benchmarks.speed_samples import images, script_task


def answer_of(
    script: ModuleType, task: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    (folder / "task.json").write_text(json.dumps(task))
    monkeypatch.setattr(sys, "argv", ["script", str(folder / "task.json"), str(folder / "result.json")])
    script.main()
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


@pytest.mark.parametrize("script", [lightning_script, timm_script])
def test_peers_train_on_every_image_and_score_the_test_images(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = answer_of(script, script_task(images(tmp_path / "images")), tmp_path, monkeypatch)
    assert [count for count, _ in found["epochs"]] == [8, 8]
    assert all(seconds > 0 for _, seconds in found["epochs"])
    assert found["targets"] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert all(0 <= score <= 1 for score in found["scores"])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_plain_small_network_is_that_of_firstread(channels: int) -> None:
    plain = PlainNetwork(script_task(Path("unused"), channels=channels)).eval()
    settings = {"image_size": 32, "channels": channels, "filters": [32, 64], "hidden": [64], "dropout": 0.5}
    ours = build_network({"name": "simple_cnn", **settings}, outputs=1).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), plain.state_dict().values(), strict=True)))
    pixels = torch.rand(3, channels, 32, 32)
    torch.testing.assert_close(ours(pixels).squeeze(1), plain(pixels))


def test_the_plain_transfer_network_is_that_of_firstread() -> None:
    plain = PlainNetwork(script_task(Path("unused"), network="test_resnet", channels=3)).eval()
    settings = {"name": "test_resnet", "image_size": 32, "channels": 3, "dropout": 0.2}
    ours = build_network(settings, outputs=1).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), plain.state_dict().values(), strict=True)))
    pixels = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours(pixels).squeeze(1), plain(pixels))


def test_a_frozen_peer_trains_its_head_only() -> None:
    asked = script_task(Path("unused"), network="test_resnet", channels=3, frozen=True)
    network = PlainNetwork(asked).train()
    assert not network.trunk.training
    trained = [value for group in optimiser(network, asked).param_groups for value in group["params"]]
    assert {id(value) for value in trained} == {id(value) for value in network.head.parameters()}


@pytest.mark.parametrize(("network", "frozen"), [("simple_cnn", False), ("mobilenet_frozen", True)])
def test_the_ceiling_trains_what_the_run_would_train(network: str, frozen: bool, tmp_path: Path) -> None:
    case = choose_cases([f"xray224/{network}"], gpu=False, size=32, images=8)[0]
    weights = random_weights(tmp_path) if frozen else None
    options = {
        "root": tmp_path,
        "prepared": tmp_path,
        "weights": weights,
        "epochs": 2,
        "batch": 4,
        "accelerator": "cpu",
    }
    step = ceiling_script.Steps(script_task(tmp_path, overrides=overrides_of(case, options), choice={}))
    before = {name: value.clone() for name, value in step.module.network.state_dict().items()}
    step()
    step()
    after = step.module.network.state_dict()
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == ({"head"} if frozen else {"trunk", "head"})


def test_all_contenders_get_the_same_images_of_phantom_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRSTREAD_DATA", raising=False)
    case = choose_cases(["xray224/simple_cnn"], gpu=False, size=32, images=20)[0]
    options = {"weights": None, "epochs": 2, "batch": 4, "accelerator": "cpu", "phantom_images": 120}
    data = case_data(case, tmp_path, options)
    assert data.phantom
    assert data.training == 20
    assert data.test <= HELD
    links = {part: [link.resolve() for link in (data.folder / part).glob("*/*")] for part in ("train", "test")}
    assert {part: len(found) for part, found in links.items()} == {"train": 20, "test": data.test}
    split = np.loadtxt(tmp_path / "cases" / "xray224-simple_cnn" / "split.csv", dtype=str, delimiter=",", skiprows=1)
    for part in ("train", "test"):
        listed = {Path(name).stem for name, its in split if its == part}
        assert {path.stem for path in links[part]} == listed
    assert sorted(path.name for path in (data.folder / "train").iterdir()) == ["0_NORMAL", "1_PNEUMONIA"]
    asked = Asked(tmp_path, 2, 4, False, None, None, "cpu", 60.0)
    task = task_of(case, data, asked, {"workers": 0})
    assert task["augmentation"] == {
        "rotate": 8.0,
        "translate": 0.04,
        "scale": 0.08,
        "brightness": 0.15,
        "contrast": 0.15,
    }
    assert (task["learning_rate"], task["images"], task["mean"]) == (1e-3, 20, [0.0])


def test_a_data_set_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTREAD_DATA", str(tmp_path))
    case = choose_cases(["ham10000/simple_cnn"], gpu=False, size=32, images=20)[0]
    with pytest.raises(ValueError, match=r"ham10000: no such folder\. Get the data set"):
        case_data(case, tmp_path, {"phantom_images": 60})


def test_what_a_failed_process_said_is_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('before'); sys.exit('no such network')"]
    with pytest.raises(ContenderFailed, match="no such network"):
        run_process(command, 60.0, tmp_path)
    assert "before" in (tmp_path / "output.txt").read_text()
    with pytest.raises(ContenderFailed, match="stopped after 0 s"):
        run_process([sys.executable, "-c", "import time; time.sleep(60)"], 0.2, tmp_path)
    with pytest.raises(ContenderFailed, match="nowhere"):
        run_process([str(tmp_path / "nowhere")], 60.0, tmp_path)
