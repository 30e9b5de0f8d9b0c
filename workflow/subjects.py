"""What the images of a task show, as far as code has to know it."""

from __future__ import annotations

from typing import Any

_XRAY, _SKIN = ("chest_xray",), ("ham10000", "isic9", "skin_cancer", "isic_archive")


def subject_of(task: dict[str, Any]) -> str:
    """``xray``, ``skin``, or ``any`` for images of one's own; decides which corruptions suit and what counts as foreign."""
    dataset = str(task.get("dataset"))
    return "xray" if dataset in _XRAY else "skin" if dataset in _SKIN else "any"
