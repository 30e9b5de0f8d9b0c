"""Whether a network's name and weights exist, known before torch and timm are loaded, which takes seconds."""

from __future__ import annotations

import difflib
import importlib.util
import re
from functools import cache
from pathlib import Path

OURS, IMAGENET = "simple_cnn", "imagenet"
_REGISTERED = re.compile(r"^@register_model\s+def (\w+)\(", re.MULTILINE)


@cache
def architectures() -> frozenset[str]:
    """Names of timm's architectures, read from its source files; empty where they cannot be found."""
    found = importlib.util.find_spec("timm")
    folders = [] if found is None else [Path(place) / "models" for place in found.submodule_search_locations or ()]
    sources = (path.read_text(encoding="utf-8") for folder in folders for path in folder.glob("*.py"))
    return frozenset(name for source in sources for name in _REGISTERED.findall(source))


def unknown_name(name: str) -> str | None:
    """What ``model.name`` may be, with the nearest names, if timm has no such architecture; None if it has.

    A tag of weights behind the name (``resnet50.a1_in1k``) is not looked at: timm itself knows them.
    """
    architecture, known = name.partition(".")[0], architectures()
    if architecture == OURS or architecture in known or not known:
        return None
    near = difflib.get_close_matches(architecture.lower(), [OURS, *sorted(known)], n=5, cutoff=0.5)
    return (
        f"{OURS} or an architecture of timm; nearest: {', '.join(near or [OURS, 'resnet50'])}. "
        'All names: python -c "import timm; print(*timm.list_models())"'
    )


def absent_weights(weights: str) -> str | None:
    """What ``model.weights`` may be, if it names a file or folder that is not there; None if it is there or no path."""
    if weights in ("none", IMAGENET) or Path(weights).expanduser().exists():
        return None
    return (
        "none, imagenet, a .safetensors or .pth file, or the folder of a finished run; there is no such file or folder"
    )
