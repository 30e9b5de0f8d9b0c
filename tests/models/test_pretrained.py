"""Pretrained weights: all of the trunk or an error, and the preprocessing that they were trained with."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from models.build import build_network
from models.bundle import save_bundle
from models.pretrained import channel_values, description_of, load_pretrained, resolved_model
from tests.conftest import ROOT

SETTINGS: dict[str, Any] = {
    "name": "test_resnet",
    "weights": "none",
    "image_size": None,
    "channels": 3,
    "grey_input": "stem",
    "filters": [4, 8],
    "pooling": "auto",
    "hidden": [],
    "dropout": 0.0,
    "metadata": [],
    "mean": None,
    "std": None,
    "interpolation": "auto",
    "backbone": "",
}


def settings_of(**changes: Any) -> dict[str, Any]:
    return resolved_model({**SETTINGS, **changes})


def whole(name: str = "test_resnet", **options: Any) -> dict[str, Tensor]:
    """The state_dict of an architecture with its classifier, as timm publishes it."""
    torch.manual_seed(3)
    return {key: tensor.contiguous() for key, tensor in timm.create_model(name, **options).state_dict().items()}


def loaded(tensors: dict[str, Tensor], folder: Path, **changes: Any) -> tuple[Any, list[str]]:
    """The network in eval mode after it has loaded a .safetensors file of these tensors, and what was said."""
    save_file(tensors, folder / "w.safetensors")
    settings = settings_of(weights=str(folder / "w.safetensors"), **changes)
    network = build_network(settings, 1)
    said = load_pretrained(network, settings)
    return network.eval(), said


# --- what the images must be


def test_fresh_weights() -> None:
    found = settings_of()
    assert (found["image_size"], found["mean"], found["std"]) == (224, [0.5] * 3, [0.5] * 3)
    assert found["interpolation"] == "bilinear"
    assert settings_of(name="test_vit")["image_size"] == 160, "it has positions for that size only"
    assert settings_of(name="mobilenetv2_100")["interpolation"] == "bicubic"
    cnn = settings_of(name="simple_cnn")
    assert [cnn[key] for key in ("image_size", "mean", "std", "interpolation")] == [128, [0.0], [1.0], "area"]
    assert load_pretrained(build_network(found, 1), found) == [
        "test_resnet starts from random weights (model.weights=none)."
    ]


def test_weights_bring_their_preprocessing() -> None:
    found = settings_of(name="mobilenetv2_100", weights="imagenet")
    assert found["image_size"] == 224
    assert found["mean"] == [0.485, 0.456, 0.406]
    assert found["std"] == [0.229, 0.224, 0.225]
    assert settings_of(weights="imagenet")["image_size"] == 160
    baseline = settings_of(name="baseline_features", backbone="mobilenetv2_100", weights="imagenet")
    assert baseline["mean"] == found["mean"]


def test_explicit_values_win_and_the_rest_is_filled_in() -> None:
    given = {"image_size": 64, "mean": [0.0], "std": [1.0], "interpolation": "area"}
    found = settings_of(name="mobilenetv2_100", weights="imagenet", **given)
    assert {key: found[key] for key in given} == given
    assert resolved_model(found) == found
    assert SETTINGS["mean"] is None


def test_grey_images_have_one_value() -> None:
    found = settings_of(name="mobilenetv2_100", channels=1)
    assert (found["mean"], found["std"]) == ([0.449], [0.226])
    assert channel_values("mean", 0.5, 3) == [0.5], "as version 0.1 wrote it"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": [0.5, 0.5]}, r"model\.mean=\[0\.5, 0\.5\]: give 1 or 3 values.*model\.channels=3"),
        ({"std": [0.2, 0.0, 0.2]}, r"model\.std=.*above 0"),
        ({"mean": [127.5]}, r"model\.mean=\[127\.5\].*divide by 255"),
        ({"weights": "/no/such/file.pth"}, r"model\.weights=/no/such/file\.pth: there is no such file.*finished run"),
        ({"name": "simple_cnn", "weights": "imagenet"}, "simple_cnn has none"),
        ({"name": "baseline_majority", "weights": "imagenet"}, "baseline_majority has no network"),
        ({"name": "baseline_features", "weights": "imagenet"}, r"model\.backbone is empty"),
        ({"name": "resnet_51"}, "nearest"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings_of(**changes)


def test_description_says_what_is_done() -> None:
    assert description_of(settings_of(name="simple_cnn")) == {
        "size": 128,
        "channels": 3,
        "resize": "squash, area averaging",
        "scale": 1 / 255,
        "mean": [0.0],
        "std": [1.0],
    }
    assert description_of(settings_of())["resize"] == "squash, bilinear with antialiasing"


# --- files


def test_a_file_gives_every_tensor_of_the_trunk(tmp_path: Path) -> None:
    tensors = whole()
    network, said = loaded(tensors, tmp_path)
    trunk = network.get_submodule("trunk").state_dict()
    assert all(torch.equal(trunk[key], tensors[key]) for key in trunk)
    assert f"{len(trunk)} tensors, every one of the trunk" in said[0]
    assert "w.safetensors" in said[0]
    assert "fc.bias, fc.weight (2 tensors)" in said[1]
    assert "timm's values for test_resnet, because w.safetensors names none" in said[2]
    assert "model.mean=" in said[2]
    assert str(tmp_path) not in " ".join(said), "a report is passed on"


def test_the_file_itself_may_name_mean_and_std(tmp_path: Path) -> None:
    save_file(whole(), tmp_path / "w.safetensors", metadata={"mean": "[0.1, 0.2, 0.3]", "std": "0.25"})
    found = settings_of(weights=str(tmp_path / "w.safetensors"))
    assert (found["mean"], found["std"]) == ([0.1, 0.2, 0.3], [0.25])
    assert load_pretrained(build_network(found, 1), found)[-1] == (
        "Pixels in [0, 1] are normalised with mean 0.1, 0.2, 0.3 and std 0.25: as w.safetensors says."
    )
    other = settings_of(weights=str(tmp_path / "w.safetensors"), mean=[0.5])
    assert "set by model.mean and model.std" in load_pretrained(build_network(other, 1), other)[-1]
    save_file(whole(), tmp_path / "bad.safetensors", metadata={"mean": "grey", "std": "1"})
    with pytest.raises(ValueError, match=r"bad\.safetensors: mean='grey'"):
        settings_of(weights=str(tmp_path / "bad.safetensors"))


@pytest.mark.parametrize("prefix", ["module.", "model.", "network.trunk.", "trunk."])
def test_prefixes_are_seen_through(prefix: str, tmp_path: Path) -> None:
    tensors = whole()
    network, _ = loaded({prefix + key: tensor for key, tensor in tensors.items()}, tmp_path)
    assert torch.equal(network.get_submodule("trunk").state_dict()["bn1.weight"], tensors["bn1.weight"])
    conv = "layer4.0.conv1.weight"
    assert torch.equal(network.get_submodule("trunk").state_dict()[conv], tensors[conv])


def test_a_missing_tensor_is_never_left_random(tmp_path: Path) -> None:
    tensors = whole()
    del tensors["layer3.0.bn1.running_var"]
    save_file(tensors, tmp_path / "w.safetensors")
    settings = settings_of(weights=str(tmp_path / "w.safetensors"))
    network = build_network(settings, 1)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"w\.safetensors: tensor layer3\.0\.bn1\.running_var of the trunk .*\(model\.name\)"
    ):
        load_pretrained(network, settings)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    tensors = whole() | {"layer2.0.conv1.weight": torch.zeros(3, 3, 1, 1)}
    with pytest.raises(ValueError, match=r"layer2\.0\.conv1\.weight has shape \(3, 3, 1, 1\), the network needs"):
        loaded(tensors, tmp_path)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"of the trunk .* is not in the file"):
        loaded(whole("test_convnext"), tmp_path)


def test_colour_weights_on_grey_images(tmp_path: Path) -> None:
    grey = torch.randn(2, 1, 64, 64)
    colour, _ = loaded(whole(), tmp_path, image_size=64)
    expected = colour.features(grey.repeat(1, 3, 1, 1))
    for kind, words in (("stem", "summed over the colours"), ("repeat", "repeated in all three channels")):
        network, said = loaded(whole(), tmp_path, image_size=64, channels=1, grey_input=kind)
        assert torch.allclose(network.features(grey), expected, atol=1e-4), kind
        assert sum(words in sentence for sentence in said) == 1


def test_grey_weights_on_colour_images(tmp_path: Path) -> None:
    network, said = loaded(whole(in_chans=1), tmp_path, image_size=64)
    assert any("divided by 3" in sentence for sentence in said)
    grey = torch.randn(2, 1, 64, 64)
    tensors = whole(in_chans=1)
    stem = next(iter(network.get_submodule("trunk").parameters()))
    assert torch.allclose(stem.sum(dim=1, keepdim=True), tensors["conv1.0.weight"], atol=1e-6)
    one, _ = loaded(tensors, tmp_path, image_size=64, channels=1)
    assert torch.allclose(network.features(grey.repeat(1, 3, 1, 1)), one.features(grey), atol=1e-4)


def test_a_transformer_of_another_size_and_pooling(tmp_path: Path) -> None:
    tensors = whole("test_vit")
    network, _ = loaded(tensors, tmp_path, name="test_vit", image_size=96, pooling="avg")
    trunk = network.get_submodule("trunk").state_dict()
    assert trunk["pos_embed"].shape == (1, 37, 64)
    assert torch.equal(trunk["pos_embed"][:, 0], tensors["pos_embed"][:, 0])
    assert torch.equal(trunk["fc_norm.weight"], tensors["norm.weight"])
    same, _ = loaded(tensors, tmp_path, name="test_vit", image_size=160)
    assert torch.equal(same.get_submodule("trunk").state_dict()["pos_embed"], tensors["pos_embed"])


def test_torchvisions_resnet50(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    settings = settings_of(name="resnet50", weights=str(tmp_path / "resnet50.pth"), image_size=64)
    network = build_network(settings, 1)
    load_pretrained(network, settings)
    theirs.fc = torch.nn.Identity()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(network.eval().features(images), theirs(images), rtol=1e-4, atol=1e-5)


def test_torchvisions_vgg16(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"]).eval()
    tensors = {f"features.{key}": tensor for key, tensor in theirs.state_dict().items()}
    dense = {"classifier.0.weight": torch.zeros(4, 4), "classifier.0.bias": torch.zeros(4)}
    torch.save({"state_dict": tensors | dense, "epoch": 3}, tmp_path / "vgg16.pth")
    settings = settings_of(name="vgg16", weights=str(tmp_path / "vgg16.pth"), image_size=64)
    network = build_network(settings, 1)
    said = load_pretrained(network, settings)
    assert "26 tensors, every one" in said[0]
    assert "classifier.0.bias, classifier.0.weight" in said[1]
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(network.eval().features(images), theirs(images).mean(dim=(2, 3)), atol=1e-5)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


def test_a_pickle_never_runs_code(tmp_path: Path) -> None:
    torch.save({"state_dict": whole(), "extra": Trap(str(tmp_path / "ran"))}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth: it holds more than weights.*never done"):
        settings_of(weights=str(tmp_path / "w.pth"))
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Trap(str(tmp_path / "ran")), protocol=2))
    with pytest.raises(ValueError, match=r"raw\.pth"):
        settings_of(weights=str(tmp_path / "raw.pth"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_broken_file_is_refused_before_images_are_decoded(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    save_file(whole(), path) if name.endswith("s") else torch.save(whole(), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=rf"{name}: cannot be read as weights"):
        settings_of(weights=str(path))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"ends in \.safetensors or \.pth, not '\.h5'"):
        settings_of(weights=str(tmp_path / "w.h5"))
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="no tensors in it"):
        settings_of(weights=str(tmp_path / "w.pth"))


# --- runs


def saved_run(folder: Path, **changes: Any) -> Any:
    settings = settings_of(**changes)
    network = build_network(settings, 1).eval()
    save_bundle(network, {"network": settings, "classes": ["A", "B"]}, folder / "model")
    return network


def test_a_run_gives_its_trunk_and_its_preprocessing(tmp_path: Path) -> None:
    how = {"image_size": 48, "mean": [0.3], "std": [0.4], "interpolation": "area"}
    before = saved_run(tmp_path / "run", **how)
    settings = settings_of(weights=str(tmp_path / "run"), hidden=[5])
    assert {key: settings[key] for key in how} == how
    network = build_network(settings, 3)
    said = load_pretrained(network, settings)
    images = torch.randn(2, 3, 48, 48)
    assert torch.equal(network.eval().features(images), before.features(images))
    assert "the run run" in said[0]
    assert "head.output.bias, head.output.weight" in said[1]
    assert said[2].endswith("as in that run.")


def test_a_run_of_version_0_1_gives_its_convolutions(tmp_path: Path) -> None:
    before = saved_run(tmp_path, name="simple_cnn", image_size=16, channels=1)
    record = tmp_path / "model" / "model.json"
    description = json.loads(record.read_text())
    description["network"] |= {"mean": 0.0, "std": 1.0, "hidden": 8}
    for late in ("interpolation", "weights", "backbone"):
        del description["network"][late]
    record.write_text(json.dumps(description))
    old = {key.replace("trunk.", "features."): tensor for key, tensor in before.state_dict().items()}
    save_file(old, tmp_path / "model" / "model.safetensors")
    settings = settings_of(name="simple_cnn", channels=1, weights=str(tmp_path), hidden=[8])
    assert [settings[key] for key in ("image_size", "mean", "std", "interpolation")] == [16, [0.0], [1.0], "area"]
    network = build_network(settings, 1)
    load_pretrained(network, settings)
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(network.features(images), before.features(images))


def test_a_run_of_another_architecture_is_refused(tmp_path: Path) -> None:
    saved_run(tmp_path, image_size=48)
    with pytest.raises(ValueError, match="that run trained test_resnet, this one test_vit"):
        settings_of(name="test_vit", weights=str(tmp_path))
    (tmp_path / "model" / "model.json").unlink()
    with pytest.raises(ValueError, match="a run that has finished"):
        settings_of(weights=str(tmp_path))


# --- the hub


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[str]:
    """A hub on the loopback address that holds these files, by ``owner/repository/file``."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            body = files.get(self.path.partition("?")[0].lstrip("/").replace("resolve/main/", ""))
            self.send_response(404 if body is None else 200)
            if body is None:
                self.send_header("X-Error-Code", "EntryNotFound")
                body = b""
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{zlib.crc32(body):08x}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


_SCRIPT = """
import json, sys, time
from models.build import build_network
from models.pretrained import fetch_weights, load_pretrained, resolved_model
for name in sys.argv[2:]:
    settings = resolved_model({**json.loads(sys.argv[1]), "name": name, "weights": "imagenet"})
    network = build_network(settings, 1)
    start = time.monotonic()
    try:
        fetch_weights(settings)
        said = load_pretrained(network, settings)
        moved = float(network.get_submodule("trunk").state_dict()["bn1.weight"].sum())
        print(json.dumps({"said": said, "sum": moved}))
    except ValueError as error:
        print(json.dumps({"error": str(error), "seconds": time.monotonic() - start}))
"""


def from_hub(endpoint: str, home: Path, *names: str) -> list[dict[str, Any]]:
    """What loading ``weights=imagenet`` gives for each architecture, in a process whose hub is at ``endpoint``."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps(SETTINGS), *names],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_weights_from_the_hub_and_from_its_cache(tmp_path: Path) -> None:
    tensors = whole() | {"bn1.weight": torch.full((32,), 0.25)}
    save_file(tensors, tmp_path / "w.safetensors")
    with hub({"timm/test_resnet.r160_in1k/model.safetensors": (tmp_path / "w.safetensors").read_bytes()}) as address:
        served, absent = from_hub(address, tmp_path / "home", "test_resnet", "test_convnext")
    assert "timm/test_resnet.r160_in1k/model.safetensors" in served["said"][0]
    assert served["said"][-1].endswith("timm's values for test_resnet.")
    assert served["sum"] == pytest.approx(32 * 0.25)
    assert "model.safetensors of timm/test_convnext.r160_in1k cannot be fetched" in absent["error"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # taken, and nobody listens
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        cached, unreachable = from_hub(nobody, tmp_path / "home", "test_resnet", "test_vit")
    assert cached["sum"] == served["sum"]
    assert "model.safetensors of timm/test_vit.r160_in1k cannot be fetched" in unreachable["error"]
    assert "model.weights=FILE" in unreachable["error"]
    assert unreachable["seconds"] < 30


# --- real weights


@pytest.mark.realdata
def test_the_real_mobilenet_loads_completely(real_data: Path) -> None:
    path = real_data.parent / "weights" / "mobilenetv2_100_imagenet_keras.safetensors"
    if not path.is_file():
        pytest.skip(f"no real weights: {path} does not exist")
    settings = settings_of(name="mobilenetv2_100", weights=str(path), mean=[0.5], std=[0.5], image_size=96)
    network = build_network(settings, 1).eval()
    said = load_pretrained(network, settings)
    assert "312 tensors, every one of the trunk" in said[0]
    assert len(said) == 2, "nothing was left in the file"
    variances = [t for key, t in network.state_dict().items() if key.endswith("running_var")]
    assert all((tensor != 1).all() for tensor in variances), "every BatchNorm has learnt statistics"
