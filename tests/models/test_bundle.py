"""A bundle gives back the network that was saved, those of version 0.1 too; pixels are normalised as it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.build import build_network
from models.bundle import (
    Normalise,
    description_sha256,
    extra_arrays,
    load_bundle,
    read_description,
    save_bundle,
    to_input,
)

SETTINGS = {"name": "simple_cnn", "image_size": 16, "channels": 1, "filters": [4, 8], "hidden": [8], "dropout": 0.5}
TIMM: dict[str, Any] = {
    "name": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "channels": 1,
    "grey_input": "repeat",
    "pooling": "concat",
    "hidden": [6],
    "dropout": 0.2,
    "metadata_width": 3,
    "mean": [0.5],
    "std": [0.5],
}


def test_bundle_round_trip_and_tampering(tmp_path: Path) -> None:
    network = build_network(SETTINGS, 1).eval()
    digest = save_bundle(network, {"network": SETTINGS, "classes": ["A", "B"], "notice": "n"}, tmp_path / "model")
    loaded, description = load_bundle(tmp_path / "model")
    images = torch.rand(3, 1, 16, 16)
    assert torch.equal(loaded(images), network(images))
    assert description["weights_sha256"] == digest
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "model.safetensors"]
    assert json.loads((tmp_path / "model" / "model.json").read_text())["classes"] == ["A", "B"]
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="changed after training"):
        load_bundle(tmp_path / "model")


def small_bundle(folder: Path, **description: Any) -> Path:
    """A bundle with further arrays."""
    content = {"network": SETTINGS, "classes": ["A", "B"], "positive": ["B"], "notice": "n", **description}
    arrays = {"check.safetensors": {"far": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([1, 2])}}
    save_bundle(build_network(SETTINGS, 1), content, folder, arrays)
    return folder


def rewritten(folder: Path, **changes: Any) -> None:
    """Change model.json and give it a hash that fits."""
    content = {**json.loads((folder / "model.json").read_text()), **changes}
    (folder / "model.json").write_text(json.dumps({**content, "description_sha256": description_sha256(content)}))


def test_further_arrays_come_back_and_are_checked(tmp_path: Path) -> None:
    folder = small_bundle(tmp_path)
    description = read_description(folder)
    found = extra_arrays(folder, description, "check.safetensors")
    assert found is not None and found["n"].tolist() == [1, 2]
    assert np.array_equal(found["far"], np.arange(6).reshape(2, 3)) and found["far"].dtype == np.float32
    assert extra_arrays(folder, description, "other.safetensors") is None
    whole = (folder / "check.safetensors").read_bytes()
    for damaged in (whole[:-1], whole + b"x", b""):
        (folder / "check.safetensors").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"check\.safetensors: SHA-256"):
            extra_arrays(folder, description, "check.safetensors")
    (folder / "check.safetensors").unlink()
    with pytest.raises(ValueError, match=r"check\.safetensors is missing"):
        extra_arrays(folder, description, "check.safetensors")


def test_the_hash_of_a_description_is_of_its_content(tmp_path: Path) -> None:
    folder = small_bundle(tmp_path)
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(dict(reversed(content.items())), indent=7))
    assert load_bundle(folder)[1]["classes"] == ["A", "B"], "spaces and the order of the keys do not matter"
    for name, value in (("classes", ["B", "A"]), ("notice", "n "), ("extra", None)):
        (folder / "model.json").write_text(json.dumps({**content, name: value}))
        with pytest.raises(ValueError, match=r"SHA-256 \w{64}, but it names \w{64}"):
            load_bundle(folder)
    del content["description_sha256"]
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="description_sha256 was taken away"):
        load_bundle(folder)


@pytest.mark.parametrize("header", [2**62, 2**31, 8])
def test_a_file_that_is_no_safetensors_is_no_model_even_with_its_hash(tmp_path: Path, header: int) -> None:
    folder = small_bundle(tmp_path)
    crafted = header.to_bytes(8, "little") + b"{" * 64
    for name in ("model.safetensors", "check.safetensors"):
        (folder / name).write_bytes(crafted)
    digest = hashlib.sha256(crafted).hexdigest()
    rewritten(folder, weights_sha256=digest, files={"check.safetensors": digest})
    with pytest.raises(ValueError, match=r"model\.safetensors holds no weights"):
        load_bundle(folder)
    with pytest.raises(ValueError, match=r"check\.safetensors holds no arrays"):
        extra_arrays(folder, read_description(folder), "check.safetensors")


def test_a_giant_description_is_not_read(tmp_path: Path) -> None:
    folder = small_bundle(tmp_path)
    with (folder / "model.json").open("r+b") as file:
        file.truncate(10**9)  # sparse: takes no room
    with pytest.raises(ValueError, match=r"model\.json has 1,000,000,000 bytes"):
        load_bundle(folder)


def test_weights_may_be_a_link(tmp_path: Path) -> None:
    folder = small_bundle(tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")  # as the cache of a hub keeps its files
    assert load_bundle(folder)[1]["classes"] == ["A", "B"]
    (tmp_path / "blob").write_bytes(b"other")
    with pytest.raises(ValueError, match="SHA-256"):
        load_bundle(folder)


def test_a_backbone_with_metadata_comes_back_without_hub_or_file(tmp_path: Path) -> None:
    settings = {**TIMM, "weights": "/no/such/file.safetensors"}  # where it once started from no longer matters
    network = build_network(settings, 3)
    images, metadata = torch.rand(4, 1, 32, 32), torch.randn(4, 3)
    network.train()(images, metadata)  # so that the running statistics differ from those of a fresh network
    save_bundle(network.eval(), {"network": settings, "classes": ["A", "B", "C"]}, tmp_path / "model")
    loaded, _ = load_bundle(tmp_path / "model")
    assert not loaded.training
    assert torch.equal(loaded(images, metadata), network(images, metadata))
    assert [block.name for block in loaded.blocks()] == [block.name for block in network.blocks()]


def test_a_bundle_of_version_0_1_loads(tmp_path: Path) -> None:
    network = build_network(SETTINGS, 1).eval()
    old_settings = {**SETTINGS, "hidden": 8, "mean": 0.0, "std": 1.0}
    save_bundle(network, {"network": old_settings, "classes": ["A", "B"]}, tmp_path)
    old = {
        name.replace("trunk", "features").replace("head.output", "output").replace("head.hidden.0", "head.1"): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    assert "features.0.weight" in old
    save_file(old, tmp_path / "model.safetensors")
    description = json.loads((tmp_path / "model.json").read_text())
    del description["description_sha256"], description["files"]  # both are younger
    description["weights_sha256"] = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    (tmp_path / "model.json").write_text(json.dumps(description))
    loaded, read = load_bundle(tmp_path)
    pixels = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8)
    inputs = to_input(pixels, read["network"]["mean"], read["network"]["std"])
    assert torch.equal(loaded(inputs), network(inputs))


def test_input_scaling() -> None:
    pixels = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    for mean, std in ((0.0, 1.0), ([0.0], [1.0])):
        assert torch.allclose(to_input(pixels, mean, std), torch.tensor([[[[0.0, 0.2, 1.0]]]]))
    assert torch.allclose(to_input(pixels, [0.5], [0.5]), torch.tensor([[[[-1.0, -0.6, 1.0]]]]), atol=1e-6)
    assert pixels.flatten().tolist() == [0, 51, 255]


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_each_channel_has_its_own_values(kind: torch.dtype) -> None:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    pixels = torch.randint(0, 256, (2, 3, 5, 4)).to(kind).contiguous(memory_format=torch.channels_last)
    before = pixels.clone()
    found = Normalise(mean, std)(pixels)
    for channel in range(3):
        expected = (pixels[:, channel].double() / 255 - mean[channel]) / std[channel]
        assert torch.allclose(found[:, channel].double(), expected, atol=1e-6)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pixels, before), "the batch is still needed as it was"


def test_normalisation_leaves_no_trace_in_a_checkpoint() -> None:
    assert dict(Normalise([0.5], [0.5]).state_dict()) == {}
