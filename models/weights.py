"""Files of weights: found, read without running code, and fitted into a trunk, every tensor or none."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

TORCH_SUFFIXES = (".pth", ".pt", ".bin")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
_CONTAINERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "network",
)  # what checkpoints of common trainers call the weights
_HUB_TIMEOUT = 10.0  # seconds for the hub to answer


@dataclass(frozen=True)
class Fitted:
    """What :func:`fit_trunk` did.

    Attributes:
        loaded: number of tensors that are now in the trunk.
        left: names of the file's tensors that were not used.
        stem: how the colours of the first layer met the images: ``same``, ``summed`` or ``repeated``.
    """

    loaded: int
    left: tuple[str, ...]
    stem: str


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name; nothing in it is run.

    Raises:
        ValueError: if it cannot be read, or holds more than tensors and plain values.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: it holds more than weights, and reading the rest could run code, which is never done. "
            "Save the state_dict alone, or convert it to .safetensors."
        ) from error
    except (
        OSError,
        EOFError,
        RuntimeError,
        SafetensorError,
        ValueError,
        LookupError,
    ) as error:  # KeyError: not a pickle
        raise ValueError(
            f"{path}: cannot be read as weights ({_first_line(error)}). Fetch or copy it again."
        ) from error
    while isinstance(content, dict) and (inner := next((key for key in _CONTAINERS if key in content), None)):
        content = content[inner]
    tensors = (
        {key: value for key, value in content.items() if isinstance(value, Tensor)} if hasattr(content, "items") else {}
    )
    if not tensors:
        raise ValueError(f"{path}: there are no tensors in it. Give the file of a state_dict.")
    return tensors


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The free text that a .safetensors file carries; empty for other files.

    Raises:
        ValueError: if the file cannot be read.
    """
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{path}: cannot be read as weights ({_first_line(error)}). Fetch or copy it again."
        ) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hub_file(name: str, cfg: dict[str, Any]) -> tuple[Path, str]:
    """The file of an architecture's weights from timm's hub, fetched unless it is in the hub's cache; and its place in words.

    Args:
        name: of the architecture.
        cfg: what timm knows of its weights.

    Raises:
        ValueError: if there are no weights, or the hub cannot be reached; names what to fetch by hand.
    """
    repository, _, revision = str(cfg.get("hf_hub_id") or "").partition("@")
    if not repository:
        by_hand = f"Fetch {cfg['url']} by hand and set" if cfg.get("url") else "Set model.weights=none, or"
        raise ValueError(f"model.weights=imagenet: timm's hub has no weights for {name}. {by_hand} model.weights=FILE.")
    named = cfg.get("hf_hub_filename")
    names = (named,) if named else ("model.safetensors", "pytorch_model.bin")
    from huggingface_hub.errors import EntryNotFoundError

    error: Exception | None = None
    for filename in names:
        try:
            return _fetched(repository, filename, revision or None), f"{repository}/{filename}"
        except EntryNotFoundError as caught:
            error = error or caught
        except Exception as caught:  # the client passes on many kinds of its transport
            error = caught
            break
    raise ValueError(
        f"model.weights=imagenet: {names[0]} of {repository} cannot be fetched from timm's hub ({_first_line(error)}). "
        f"Fetch that file by hand and set model.weights=FILE, or model.weights=none finetune=none to start from random weights."
    ) from error


def _fetched(repository: str, filename: str, revision: str | None) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, filename, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    # Asked once: the download itself would try an unreachable hub six times before it gives up.
    get_hf_file_metadata(hf_hub_url(repository, filename, revision=revision), timeout=_HUB_TIMEOUT)
    return Path(hf_hub_download(repository, filename, revision=revision, etag_timeout=_HUB_TIMEOUT))


def fit_trunk(
    trunk: nn.Module, tensors: dict[str, Tensor], first_conv: str | tuple[str, ...] | None, name: str
) -> Fitted:
    """Put a file's tensors into a trunk: every tensor that the trunk has, or none at all.

    Names may have a prefix (``module.``, ``model.``, ``trunk.`` ...), and may be those of the format that timm converts from. A
    first layer for colour is summed over the colours for a trunk that takes grey, which gives what the grey image in all three
    channels would give; one for grey is repeated and divided by 3.

    Args:
        trunk: is changed.
        tensors: of the file.
        first_conv: names of the layers that see the image; None for the first convolution.
        name: of the file, for messages.

    Raises:
        ValueError: if a tensor is missing or has another shape; the trunk is then as it was.
    """
    expected = dict(trunk.state_dict())
    stems = _stem_names(trunk, first_conv)
    chosen, prefix = _without_prefix(tensors, expected)
    chosen = _last_norm_renamed(chosen, expected)
    ready, stem, problem = _matched(expected, chosen, stems)
    if problem and (converted := _converted(trunk, chosen)) is not None:
        again = _matched(expected, converted, stems)
        if not again[2]:
            chosen, (ready, stem, problem) = converted, again
    if problem:
        raise ValueError(
            f"{name}: {problem}. Choose the architecture that the file was made for (model.name), or other weights; "
            "a part of the trunk is never left random in silence."
        )
    trunk.load_state_dict(ready)
    left = sorted(prefix + key for key in set(chosen) - set(ready))
    left += sorted(key for key in tensors if prefix and not key.startswith(prefix))
    return Fitted(len(ready), tuple(left), stem)


def _matched(
    expected: dict[str, Tensor], tensors: dict[str, Tensor], stems: set[str]
) -> tuple[dict[str, Tensor], str, str]:
    """The tensors for each expected name, how the stem was adapted, and what does not fit ('' for nothing)."""
    ready: dict[str, Tensor] = {}
    stem, missing = "same", []
    for key, own in expected.items():
        found = tensors.get(key)
        if found is None:
            if key.endswith("num_batches_tracked"):  # files older than this counter; it matters for momentum=None only
                ready[key] = own
            else:
                missing.append(key)
            continue
        if key in stems and found.shape != own.shape:
            found, stem = _adapted(found, own, stem)
        if found.shape != own.shape:
            return {}, stem, f"tensor {key} has shape {tuple(found.shape)}, the network needs {tuple(own.shape)}"
        ready[key] = found
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return {}, stem, f"tensor {missing[0]}{more} of the trunk ({len(expected)} tensors) is not in the file"
    return ready, stem, ""


def _adapted(found: Tensor, own: Tensor, stem: str) -> tuple[Tensor, str]:
    """A first layer's weights for another number of colours."""
    if found.ndim == 4 and own.ndim == 4:
        if own.shape[1] == 1:
            return found.float().sum(dim=1, keepdim=True), "summed"
        if found.shape[1] == 1:
            return found.float().repeat(1, own.shape[1], 1, 1) / own.shape[1], "repeated"
    return found, stem


def _stem_names(trunk: nn.Module, first_conv: str | tuple[str, ...] | None) -> set[str]:
    if first_conv is None:
        first = next((name for name, module in trunk.named_modules() if isinstance(module, nn.Conv2d)), "")
        first_conv = (first,)
    return {f"{name}.weight" for name in ((first_conv,) if isinstance(first_conv, str) else first_conv)}


def _without_prefix(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The tensors under the prefix that gives most of the expected names, and that prefix."""
    first = next(iter(expected))
    prefixes = {key.removesuffix(first) for key in tensors if key.endswith(first)}
    # Of equal ones the first counts; our own trunk before anything that is shaped like it.
    allowed = ["", *sorted((prefix for prefix in prefixes if prefix.endswith(".")), key=lambda p: (p != "trunk.", p))]
    best = max(allowed, key=lambda prefix: sum(prefix + key in tensors for key in expected))
    return {key.removeprefix(best): value for key, value in tensors.items() if key.startswith(best)}, best


def _last_norm_renamed(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Under timm's name for it: a transformer's last norm is ``norm`` before the pooling and ``fc_norm`` after it."""
    for theirs, ours in (("norm.", "fc_norm."), ("fc_norm.", "norm.")):
        if f"{ours}weight" in expected and f"{ours}weight" not in tensors and f"{theirs}weight" not in expected:
            return {
                ours + key.removeprefix(theirs) if key.startswith(theirs) else key: value
                for key, value in tensors.items()
            }
    return tensors


def _converted(trunk: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """By timm's own conversion of an architecture's other formats and sizes (positions of a ViT); None where it has none."""
    convert = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return None
    try:
        return dict(convert(dict(tensors), trunk))
    except Exception:  # made for the formats that it knows; the problem reported is then that of the file as it is
        return None


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def json_values(text: str, what: str) -> list[float]:
    """Numbers that a file carries as JSON: one, or a list.

    Raises:
        ValueError: if it is something else.
    """
    try:
        value = json.loads(text)
        return [float(item) for item in (value if isinstance(value, list) else [value])]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}={text!r} in the file's metadata: not a number or a list of numbers") from error
