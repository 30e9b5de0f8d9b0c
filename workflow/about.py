"""What people are told about a model, from its description and the configuration of its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from conf.schema import RESEARCH_NOTICE
from workflow.subjects import subject_of

TASK: Final = ("name", "title", "dataset", "group_name", "positive_name", "negative_name")


@dataclass(frozen=True)
class About:
    """What people are told about a model.

    Attributes:
        title: of the run. ``task``: its name. ``dataset``: kind of data set. ``model``: name of the network or networks.
        subject: ``xray``, ``skin`` or ``any``.
        group_name: ``patient``, ``lesion`` or the like.
        positive_called, negative_called: what the two decisions are called.
        phantom: trained on drawn images.
        licence: of the training data; empty if it is not known.
        version: of firstread that trained it; empty for early ones.
    """

    title: str
    task: str
    dataset: str
    model: str
    subject: str
    group_name: str
    positive_called: str
    negative_called: str
    phantom: bool
    licence: str = ""
    version: str = ""
    notice: str = RESEARCH_NOTICE


def config_of(description: Mapping[str, Any]) -> dict[str, Any]:
    """As much of config.yaml as a description holds.

    Raises:
        ValueError: its task is something else than names and values.
    """
    task = description.get("task") or {}
    if not isinstance(task, Mapping):
        raise ValueError(
            f"the description's task is {str(task)[:60]!r}, expected names and values. Do not use this model."
        )
    return {"model": {"name": description["network"]["name"]}, "task": dict(task)}


def about_of(description: Mapping[str, Any], config: Mapping[str, Any], title: str, version: str = "") -> About:
    """What is told about a model.

    Args:
        description: model.json. ``config``: config.yaml, or what :func:`config_of` gives; the description counts first.
        title, version: of the run, where the description does not say them.
    """
    task = {**{name: "" for name in TASK}, **(config.get("task") or {}), **(description.get("task") or {})}
    positive = [name for name in description["classes"] if name in description["positive"]]
    others = [name for name in description["classes"] if name not in description["positive"]]
    called = str(task["positive_name"] or " + ".join(positive))
    return About(
        title=title,
        task=str(task["name"]),
        dataset=str(task["dataset"]),
        model=str(description["network"]["name"]),
        subject=str(task.get("subject") or subject_of(task)),
        group_name=str(task["group_name"] or "group"),
        positive_called=called,
        negative_called=others[0] if len(others) == 1 else str(task["negative_name"] or f"not {called}"),
        phantom=bool(description.get("phantom")),
        licence=str(description.get("licence") or ""),
        version=str(description.get("version") or version),
        notice=str(description.get("notice") or RESEARCH_NOTICE),
    )
