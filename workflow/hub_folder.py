"""A trained model in the layout of a model hub: card, weights, description, input check; whole or not at all."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
import yaml

from conf.output import short, write_json
from evaluation.hub_card import hub_card
from evaluation.hub_card_facts import HubFacts
from evaluation.report_files import RunFiles, read_run
from models.bundle import DESCRIPTION, OWN_HASH, WEIGHTS, description_sha256, save_bundle
from models.weights import file_sha256
from workflow.about import TASK
from workflow.ensembles import whole_folder
from workflow.hub_config import hub_config, light_results, timm_arguments
from workflow.intact import object_in
from workflow.predictor import ENSEMBLE, INPUT_CHECK, Predictor, load_predictor
from workflow.scoring import ScoredBy

CARD, CONFIG, RESULTS = "README.md", "config.json", "metrics.json"
_ATTRIBUTES: Final = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
_HUB_WEIGHTS = re.compile(r"starts from (\S+/\S+)/(?:model\.safetensors|pytorch_model\.bin):")


def write_hub_folder(predictor: Predictor, folder: Path) -> Path:
    """Write everything that another machine needs to use a model, and that a model hub shows.

    ``README.md`` (card with metadata), ``model.safetensors``, ``model.json``, ``config.json``, ``.gitattributes``; where the run
    has them, ``input_check.safetensors`` and ``metrics.json`` (what was measured, without the data of figures). An ensemble has a
    folder for each network and ``ensemble.json``. The folder is loaded again before it gets its name, and must be the same model.

    Args:
        predictor: of :func:`workflow.predictor.load_predictor`.
        folder: is made.

    Returns:
        The folder, absolute.

    Raises:
        ValueError: the folder is already there, the source is such a folder itself, or what was written is not the same model.
    """
    folder = folder.absolute()
    source = predictor.source
    if (source / CARD).is_file() and (source / CONFIG).is_file():
        raise ValueError(
            f"run={short(source)}: this already is a hand-over folder. Copy it, or give the run that it was made from."
        )
    files = _files_of(source)
    card = (files.data_card if files else None) or {}
    source_of_data = {
        "licence": predictor.about.licence or str(card.get("licence") or ""),
        "citation": str(card.get("citation") or ""),
    }
    with whole_folder(folder) as beside:
        names = _write_networks(predictor, beside, source_of_data)
        if files is not None:
            write_json(light_results(files), beside / RESULTS)
        timm = None if len(predictor.networks) > 1 else timm_arguments(predictor.networks[0])
        write_json(hub_config(predictor, timm), beside / CONFIG)
        (beside / ".gitattributes").write_text(_ATTRIBUTES, encoding="utf-8")
        facts = dataclasses.replace(
            _facts(predictor, source_of_data["licence"], files), files=_listed(beside), folders=tuple(names), timm=timm
        )
        (beside / CARD).write_text(hub_card(facts), encoding="utf-8")
        _require_same(predictor, load_predictor(beside))
    return folder


def _files_of(source: Path) -> RunFiles | None:
    """What a run says of its results, also where its ``model/`` was named; None where nothing was judged at one threshold."""
    for run in (source, *([source.parent] if source.name == "model" else [])):
        if (run / "run.json").is_file() and (run / RESULTS).is_file():
            judged = object_in(run / RESULTS, ". Restore it, or judge the run again.")
            return read_run(run) if "splits" in judged else None
    return None


def _write_networks(predictor: Predictor, folder: Path, source_of_data: Mapping[str, str]) -> list[str]:
    """The networks and their descriptions; names of their folders, none where there is one network."""
    if len(predictor.networks) == 1:
        _write_network(predictor, predictor.networks[0], folder, source_of_data, alone=True)
        return []
    names = [f"network_{number}" for number in range(1, len(predictor.networks) + 1)]
    members = []
    for name, part in zip(names, predictor.networks, strict=True):
        (folder / name).mkdir()
        digest = _write_network(predictor, part, folder / name, source_of_data)
        members.append({"folder": name, "weights_sha256": digest})
    first = predictor.networks[0].description
    content = {
        **_common(predictor, source_of_data),
        "title": predictor.about.title,
        "notice": predictor.about.notice,
        "classes": list(first["classes"]),
        "positive": list(predictor.positive),
        "threshold": predictor.point.to_dict(),
        "calibration": predictor.calibrator.to_dict(),
        "borderline_from": predictor.borderline_from,
        "phantom": predictor.about.phantom,
        "members": members,
    }
    write_json({**content, OWN_HASH: description_sha256(content)}, folder / ENSEMBLE)
    return names


def _write_network(
    predictor: Predictor, part: ScoredBy, folder: Path, source_of_data: Mapping[str, str], *, alone: bool = False
) -> str:
    """One network: its own files byte for byte where it has them, the description with what earlier versions lack.

    Args:
        alone: the threshold of the predictor is that of this network.

    Returns:
        SHA-256 of the weights.
    """
    own = _home_of(part)
    more = {name: value for name, value in _common(predictor, source_of_data).items() if name not in part.description}
    if alone:
        more |= {
            "threshold": predictor.point.to_dict(),
            "calibration": predictor.calibrator.to_dict(),
            "borderline_from": predictor.borderline_from,
        }
    description = {**part.description, **more}
    if own is None:  # a checkpoint, which has no such files
        return save_bundle(part.network, description, folder)
    for name in (WEIGHTS, *_further(part.description, own)):
        shutil.copyfile(own / name, folder / name)
    if description == part.description:
        shutil.copyfile(own / DESCRIPTION, folder / DESCRIPTION)
    else:
        content = {"files": {}, **{name: value for name, value in description.items() if name != OWN_HASH}}
        write_json({**content, OWN_HASH: description_sha256(content)}, folder / DESCRIPTION)
    return str(part.description["weights_sha256"])


def _common(predictor: Predictor, source_of_data: Mapping[str, str]) -> dict[str, Any]:
    """What a description of today says beside the network itself."""
    about = predictor.about
    task = {
        "name": about.task,
        "title": about.title,
        "dataset": about.dataset,
        "group_name": about.group_name,
        "positive_name": about.positive_called if len(predictor.positive) > 1 else "",
        "negative_name": about.negative_called if len(predictor.classes) - len(predictor.positive) > 1 else "",
        "subject": about.subject,
    }
    held = predictor.networks[0].config.get("task") or {}
    return {
        "task": {**task, **{name: held[name] for name in TASK if name in held}},
        **source_of_data,
        "version": about.version,
    }


def _home_of(part: ScoredBy) -> Path | None:
    """The folder with the network's own files."""
    return next((place for place in (part.run, part.run / "model") if (place / DESCRIPTION).is_file()), None)


def _further(description: Mapping[str, Any], folder: Path) -> list[str]:
    names = list(description.get("files") or {})
    if strange := [name for name in names if name != INPUT_CHECK]:
        raise ValueError(
            f"{folder / DESCRIPTION} names the file {strange[0]!r}, which no model of this version has. Do not use this model."
        )
    return names


def _facts(predictor: Predictor, licence: str, files: RunFiles | None) -> HubFacts:
    about, first = predictor.about, predictor.networks[0].description
    check = predictor.checks[0]
    return HubFacts(
        title=about.title,
        models=tuple(str(part.description["network"]["name"]) for part in predictor.networks),
        classes=predictor.classes,
        positive=predictor.positive,
        positive_called=about.positive_called,
        negative_called=about.negative_called,
        group_name=about.group_name,
        subject=about.subject,
        dataset=about.dataset,
        phantom=about.phantom,
        network={"interpolation": "area", **first["network"]},
        views=str(first.get("views", "none")),
        threshold=predictor.point.to_dict(),
        calibration=predictor.calibrator.to_dict(),
        borderline_from=predictor.borderline_from,
        turned_away=None if check is None else check.alpha,
        by_distance=check is not None and check.can_abstain,
        licence=licence,
        version=about.version,
        base_model=_base_model(files),
        run=files,
    )


def _base_model(files: RunFiles | None) -> str:
    """The weights of a hub that training started from; empty where it did not, or from a file."""
    if files is None or not files.config:
        return ""
    settings = yaml.safe_load(files.config)
    if not isinstance(settings, dict) or (settings.get("model") or {}).get("weights") != "imagenet":
        return ""
    found = next(
        (match for note in (files.run or {}).get("model_notes") or [] if (match := _HUB_WEIGHTS.search(note))), None
    )
    return found[1] if found else ""


def _listed(folder: Path) -> tuple[tuple[str, int, str], ...]:
    """Name, bytes and SHA-256 of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".gitattributes")
    return tuple((path.relative_to(folder).as_posix(), path.stat().st_size, file_sha256(path)) for path in files)


def _require_same(ours: Predictor, written: Predictor) -> None:
    """Raise a ValueError if the folder, loaded again, is not the model that it was written from."""
    for name in ("classes", "positive", "point", "calibrator", "borderline_from", "decoding"):
        if getattr(ours, name) != getattr(written, name):
            raise ValueError(
                f"{short(ours.source)}: the folder that was written has another {name} than the model. It was removed; the files "
                "of the run contradict each other."
            )
    for one, other in zip(ours.networks, written.networks, strict=True):
        theirs = other.network.state_dict()
        if any(not torch.equal(tensor, theirs[name]) for name, tensor in one.network.state_dict().items()):
            raise ValueError(
                f"{short(one.run)}: its weights on disk are not those that were loaded. Nothing was written; load the run again."
            )
