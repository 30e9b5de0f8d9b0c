"""Input check of a run: fitted on what its network makes of training and validation images, before the test is scored."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.appearance import chroma_of, contrast_of, described, file_facts
from datamodules.errors import UnreadableImageError
from datamodules.images import decoded
from datamodules.prepared import PreparedData
from evaluation.input_check import FEATURES, InputCheck
from evaluation.input_check_fit import FEWEST, fit_input_check, one_a_group
from evaluation.input_check_limits import Limit, limits_of
from models.blocks import BlockNetwork
from models.bundle import Normalise

INPUT_CHECK: Final = "input_check.safetensors"
TRAINING: Final = 800  # images, drawn at random: more hardly change a distance and cost time
CALIBRATION: Final = 2000  # validation images: p-values down to 1 in 2,001, also where validation is huge
FILES: Final = 200  # of training and validation together whose size and colours are looked at
_AT_ONCE: Final = 16  # images in the network: what it makes of them then stays in a CPU's cache, which halves the time
log = logging.getLogger("firstread")


def fitted(
    network: BlockNetwork, described_as: Mapping[str, Any], prepared: PreparedData, alpha: float, seed: int
) -> InputCheck | None:
    """The input check of a trained network; None, with a warning, where there are too few images.

    Args:
        network: trained; it is left as it is.
        described_as: ``mean``, ``std``, ``image_size``, ``channels``, ``interpolation``.
        alpha: share of images like those of validation that are turned away, in (0, 1).
        seed: of the draws.
    """
    rng = np.random.default_rng([seed, 7])
    train = rng.permutation(prepared.splits.rows("train"))[:TRAINING]
    held = prepared.splits.rows("val")
    groups = prepared.manifest.frame["group_id"].iloc[held].astype(str).tolist()
    val = rng.permutation(held[one_a_group(groups, rng)])[:CALIBRATION]
    if len(train) < FEWEST or len(val) == 0:
        log.warning(
            "no input check: %d training and %d validation images are too few to tell what is usual",
            len(train),
            len(val),
        )
        return None
    seen = {name: _seen(network, described_as, prepared, rows) for name, rows in (("train", train), ("val", val))}
    facts = {
        name: np.concatenate([part[name] for part in seen.values()]).astype(np.float64)
        for name in ("contrast", "chroma")[: 2 if described_as["channels"] == 3 else 1]
    }
    limits = _limits(prepared, facts, np.concatenate([train, val]), described_as, rng)
    check = fit_input_check(seen["train"], seen["val"], alpha, limits)
    if not check.can_abstain:
        log.warning(
            "input check: %d validation images, one a group, cannot tell one image in %.0f from the rest, so that "
            "no image will be turned away for its distance; raise evaluation.abstain to at least %.2g, or enlarge validation",
            check.n,
            1.0 / alpha,
            1.0 / (check.n + 1),
        )
    return check


def embeddings_of(
    network: BlockNetwork, described_as: Mapping[str, Any], pixels: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """What the output layer sees of images, float32 ``(n, e)``, as :meth:`workflow.scoring.ScoredBy.scored` gives it.

    Args:
        pixels: uint8, shape ``(n, size, size, channels)``. The other arguments as in :func:`fitted`.
    """
    device = next(network.parameters()).device
    normalise = Normalise(described_as["mean"], described_as["std"]).to(device)
    trained = network.training
    network.eval()
    found = []
    try:
        with torch.inference_mode():
            for start in range(0, len(pixels), _AT_ONCE):
                images = torch.from_numpy(np.array(pixels[start : start + _AT_ONCE])).permute(0, 3, 1, 2)
                placed = normalise(images.to(device)).contiguous(memory_format=torch.channels_last)
                found.append(network.embed(network.features(placed)).float().cpu().numpy())
    finally:
        network.train(trained)
    return np.concatenate(found)


def _seen(
    network: BlockNetwork, described_as: Mapping[str, Any], prepared: PreparedData, rows: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """All that a check compares, of some rows of the manifest, and what their pixels say for its limits."""
    found: dict[str, list[NDArray[Any]]] = {}
    for start in range(0, len(rows), _AT_ONCE):
        pixels = np.asarray(prepared.pixels[rows[start : start + _AT_ONCE]])
        layout, texture = described(pixels)
        seen: dict[str, NDArray[Any]] = {FEATURES: embeddings_of(network, described_as, pixels)}
        seen |= {"layout": layout, "texture": texture, "contrast": contrast_of(pixels)}
        if pixels.shape[3] == 3:
            seen["chroma"] = chroma_of(pixels)
        for name, values in seen.items():
            found.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in found.items()}


def _limits(
    prepared: PreparedData,
    facts: dict[str, NDArray[np.float64]],
    rows: NDArray[np.int64],
    described_as: Mapping[str, Any],
    rng: np.random.Generator,
) -> tuple[Limit, ...]:
    """Limits from facts of the pixels of all these images, and from the files of some; without the files where these are gone."""
    size, channels = described_as["image_size"], described_as["channels"]
    some = rng.permutation(rows)[:FILES]
    try:
        paths = [prepared.root / path for path in prepared.manifest.frame["path"].iloc[some]]
        files = [file_facts(decoded(path, size, channels, colours=True)) for path in paths]
    except UnreadableImageError as error:
        log.warning(
            "input check: size, shape and colours of the files are not checked, because one cannot be read (%s)", error
        )
        return limits_of(facts)
    for name in ("side", "aspect", "chroma"):
        facts.setdefault(name, np.array([held[name] for held in files]))
    return limits_of(facts)
