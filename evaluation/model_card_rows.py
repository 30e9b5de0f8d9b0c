"""Rows of the model card about use, data, model and code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from evaluation.report_files import RunFiles
from evaluation.report_parts import card_of
from evaluation.report_text import plural
from evaluation.wording import listed, percent

_SETTINGS: Final = (
    ("optimiser", ("trainer", "optimizer")),
    ("learning rate", ("trainer", "learning_rate")),
    ("weight decay", ("trainer", "weight_decay")),
    ("epochs at most", ("trainer", "max_epochs")),
    ("batch size", ("data", "batch_size")),
    ("loss", ("loss", "name")),
    ("augmentation", ("augmentation", "name")),
    ("fine-tuning", ("finetune", "name")),
    ("views of a test image", ("evaluation", "tta")),
)
_INPUT: Final = ("image_size", "channels", "interpolation", "mean", "std")


@dataclass(frozen=True)
class CardRow:
    """One row of the card.

    Attributes:
        name: what it is about.
        text: what the files say; empty where a person has to fill it in.
        topic: the topic of TRIPOD+AI or CLAIM that it answers, in words.
        ask: what to write, for rows that no file answers.
    """

    name: str
    text: str
    topic: str
    ask: str = ""

    @property
    def by_hand(self) -> bool:
        """Whether a person has to fill the row in."""
        return not self.text


def use_rows(run: RunFiles) -> list[CardRow]:
    """What the model is for, and what not."""
    metrics = run.metrics
    pos, neg = metrics["positive_class"], metrics["negative_class"]
    purpose = (
        f"Research and education: give an image a score for {pos} against {neg}, and flag it where the score is at least "
        f"{run.threshold['threshold']:.4g}."
    )
    if len(metrics["classes"]) > 2:
        purpose += f" It also names the most probable of {listed(list(metrics['classes']))}."
    outside = (
        "Not a medical device; not for decisions about patients. It knows no other finding than "
        f"{listed(list(metrics['classes']))}, and {_unknown_inputs(run)} Other "
        "devices, sites and populations than those tested here are outside what was shown."
    )
    return [
        CardRow("Intended use", purpose, "intended use of the model in its clinical context"),
        CardRow("Outside its use", outside, "limitations; intended use"),
        CardRow(
            "Users and place in care", "", "usability in current care", "Who reads the score, when, and what follows."
        ),
    ]


def _unknown_inputs(run: RunFiles) -> str:
    """What happens with a picture of something else."""
    if run.inputs is None:
        return "it gives a score to any picture, also to one that is none of these."
    by = "too far from the training images, or " if run.inputs["can_abstain"] else ""
    return (
        f"its input check says “abstain” to pictures that are {by}outside what their files usually look like; this notices gross "
        "mistakes only, and a picture that passes may still be none of these."
    )


def data_rows(run: RunFiles) -> list[CardRow]:
    """Source, licence, who is in it, labels, split and unit of analysis."""
    card = card_of(run)
    asked = [
        CardRow("Setting and dates", "", "data sources; settings and dates", "Sites, countries, devices, years."),
        CardRow(
            "Who was eligible",
            "",
            "eligibility criteria of participants",
            "Who was included, who was left out and why.",
        ),
        CardRow("Reference standard", "", "reference standard: how the truth was established", _REFERENCE),
    ]
    if card is None:
        given = CardRow("Training data", "", "data sources", "No data card is in this folder: name the training data.")
        return [given, CardRow("Tested on", _tested(run), "sample size; unit of analysis"), *asked]
    source = f"{card['title']}{' (phantom: generated images)' if card['source'] == 'phantom' else ''}"
    split = card["split"]
    rows = [
        CardRow("Data set", source + (f". {card['citation']}" if card["citation"] else ""), "data sources"),
        CardRow("Licence of the data", str(card["licence"] or ""), "data availability", "State the licence."),
        CardRow("Images and groups", _sizes(card), "sample size; participants; unit of analysis"),
        CardRow("Tested on", _tested(run), "sample size; unit of analysis"),
        CardRow("Split", _split(split), "how data were assigned to partitions"),
        CardRow("Label rule", _labels(card), "outcome definition", "How labels became classes."),
        CardRow("Left out", _left_out(card), "data preparation; handling of missing data"),
        CardRow("Class imbalance", _imbalance(card), "class imbalance"),
    ]
    return rows + asked


def _split(split: dict[str, Any]) -> str:
    """How parts were made; one's own file of parts has no seed."""
    return str(split["method"]) + (f"; seed {split['seed']}" if split.get("seed") is not None else "")


_REFERENCE: Final = "How the truth of an image was established, by whom, and how sure it is."


def model_rows(run: RunFiles) -> list[CardRow]:
    """Architecture, weights, input, and the few settings that matter."""
    settings, snapshot = settings_of(run), run.run or {}
    size = f", {plural(snapshot['parameters'], 'parameter')}" if snapshot.get("parameters") else ""
    network = settings.get("model") or {}
    held = [f"{name.replace('_', ' ')} {_plain(network[name])}" for name in _INPUT if network.get(name) is not None]
    chosen = [(name, _at(settings, path)) for name, path in _SETTINGS]
    monitor = _at(settings, ("trainer", "monitor"))
    kept = f"{'Lowest' if monitor == 'val/loss' else 'Highest'} {monitor} on validation" if monitor else ""
    if monitor and snapshot.get("best_epoch") is not None:
        kept = (
            f"Best {monitor} on validation: epoch {snapshot['best_epoch']} of {snapshot.get('epochs_run', 'unknown')}"
        )
    notes = snapshot.get("model_notes") or []
    weights = str(snapshot.get("weights_sha256") or "")
    return [
        CardRow("Architecture", f"{run.metrics['model']}{size}", "model specification"),
        CardRow(
            "How it was trained",
            " ".join(_sentence(note) for note in notes),
            "model development",
            "Initial weights, stages.",
        ),
        CardRow("Input", "; ".join(held), "data preparation; predictors", "Size, channels and scaling of the pixels."),
        CardRow(
            "Settings",
            "; ".join(f"{n} {_plain(v)}" for n, v in chosen if v is not None),
            "hyperparameters",
            "Main settings.",
        ),
        CardRow("Selection", kept, "how the final model was selected", "What chose the model, on which data."),
        CardRow(
            "Weights",
            f"SHA-256 {weights}" if weights else "",
            "model availability",
            "Where the weights are, and their hash.",
        ),
    ]


def code_rows(run: RunFiles) -> list[CardRow]:
    """Version, command and the hashes of what went in."""
    snapshot = run.run or {}
    version = f"firstread {snapshot['version']}" if snapshot.get("version") else ""
    if version and snapshot.get("git"):
        changed = " with uncommitted changes" if snapshot["git"].get("dirty") else ""
        version += f", commit {snapshot['git']['commit'][:12]}{changed}"
    hashes = [f"{name} {snapshot[key]}" for name, key in _HASHES if snapshot.get(key)]
    seeds = ", ".join(f"{name} {value}" for name, value in (snapshot.get("seeds") or {}).items())
    return [
        CardRow("Code", version, "code availability", "Version and commit of the code."),
        CardRow("Command", str(snapshot.get("command") or ""), "code availability", "The command that was run."),
        CardRow("Seeds", seeds, "reproducibility", "Seeds of the split and of training."),
        CardRow("Hashes", "; ".join(hashes), "reproducibility", "SHA-256 of the data list and of the split."),
    ]


_HASHES: Final = (("data list", "manifest_sha256"), ("split", "split_sha256"))


def study_rows() -> list[CardRow]:
    """What only the people of a study can say."""
    return [
        CardRow("Ethics", "", "ethical approval", "Approval or exemption, and consent."),
        CardRow(
            "Protocol and registration", "", "protocol; registration", "Where the plan is, and whether it changed."
        ),
        CardRow("Funding and interests", "", "funding; conflicts of interest", "Who paid, and what role they had."),
        CardRow(
            "Patients and the public", "", "patient and public involvement", "How they took part, or that they did not."
        ),
    ]


def settings_of(run: RunFiles) -> dict[str, Any]:
    """config.yaml as a dictionary; empty where there is none or where it is no mapping."""
    if run.config is None:
        return {}
    try:
        content = yaml.safe_load(run.config)
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, dict) else {}


def _at(settings: Mapping[str, Any], path: Sequence[str]) -> Any:
    found: Any = settings
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _plain(value: Any) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _sentence(note: str) -> str:
    return note if note.endswith((".", "!", "?")) else f"{note}."


def _tested(run: RunFiles) -> str:
    metrics, test = run.metrics, run.metrics["splits"]["test"]
    group, pos = metrics["group_name"], metrics["positive_class"]
    text = f"{plural(test['n'], 'image')}, {test['n_positive']:,} of them {pos} ({percent(test['prevalence'], 1)}); "
    if group == "image":
        return f"{text}each image stands for itself."
    groups = plural(test["n_groups"], group)
    return f"{text}{groups}, {test['n_positive_groups']:,} with {pos}; intervals resample {group}s."


def _sizes(card: Mapping[str, Any]) -> str:
    parts = card.get("parts") or {}
    named = [
        f"{name}: {plural(held['images'], 'image')} of {plural(held['groups'], card['group_name'])}"
        for name, held in parts.items()
        if isinstance(held, Mapping) and {"images", "groups"} <= set(held)
    ]
    if named:
        return "; ".join(named)
    return "; ".join(f"{row['split']}, {row['class']}: {plural(row['images'], 'image')}" for row in card["counts"])


def _labels(card: Mapping[str, Any]) -> str:
    policy = card.get("label_policy") or {}
    mapping = policy.get("classes") or policy.get("mapping") if isinstance(policy, Mapping) else None
    if not isinstance(mapping, Mapping):
        return ""
    sides = [
        f"{name} from {sources if isinstance(sources, str) else ', '.join(map(str, sources))}"
        for name, sources in mapping.items()
    ]
    return f"{policy.get('name') or 'labels as they are'}: {'; '.join(sides)}"


def _left_out(card: Mapping[str, Any]) -> str:
    reasons = card.get("left_out_reasons") or {}
    text = f"{plural(card['left_out_total'], 'file')} could not be used"
    if reasons:
        text += f" ({'; '.join(f'{name}: {number}' for name, number in reasons.items())})"
    duplicates = card["duplicates"]
    return f"{text}; {plural(duplicates['files'], 'identical file')} kept on one side of the split."


def _imbalance(card: Mapping[str, Any]) -> str:
    held = card.get("imbalance")
    if isinstance(held, Mapping):
        return "; ".join(f"{str(name).replace('_', ' ')} {value}" for name, value in held.items())
    return f"Correction: {held}" if held else "Correction: not stated"
