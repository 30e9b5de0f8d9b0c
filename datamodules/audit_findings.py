"""The findings of an audit in sentences, with the figures in them, the worst first."""

from __future__ import annotations

from typing import Any

from datamodules.shortcuts import FEWEST_GROUPS, FILE_FACTS

# An AUC is told as a caution from the first value on, as an alarm from the second on, if chance is 3 standard errors off.
SHORTCUT = (0.65, 0.80)
SHIFT = (0.70, 0.85)
ASSOCIATION = 0.3  # Cramer's V that is commonly called moderate to strong

_ERRORS = 3.0
_SHOWN = 4
_LEVELS = ("alarm", "caution", "note", "fine")

Finding = dict[str, Any]


def findings_of(audit: dict[str, Any]) -> list[Finding]:
    """All findings of an audit (see :func:`datamodules.audit.audit_dataset`), alarms first, what is fine last."""
    found = [
        _parts(audit),
        _contradictions(audit),
        _across_official(audit),
        _official_groups(audit),
        *_near(audit),
        _shift(audit),
        *_shortcuts(audit),
        *_subgroups(audit),
        _unreadable(audit),
        _exact(audit),
    ]
    return sorted((item for item in found if item), key=lambda item: _LEVELS.index(item["level"]))


def _finding(name: str, level: str, title: str, text: str, count: int = 0) -> Finding:
    return {"id": name, "level": level, "title": title, "text": text, "count": count}


def _parts(audit: dict[str, Any]) -> Finding | None:
    group, overlap = audit["group_name"], audit["group_overlap"]["parts"]
    if len(audit["counts"]["parts"]) < 2:
        return None
    if overlap["n"]:
        some = _some(overlap["list"], total=overlap["n"])
        text = f"{_count(overlap['n'], group)} in several of training, validation and test: {some}."
        return _finding("parts", "alarm", f"A {group} is in two parts of the split", text, overlap["n"])
    text = f"None of the {audit['counts']['joined_groups']:,} {group}s, united over copies, is in two parts."
    return _finding("parts", "fine", f"No {group} is in two parts of the split", text)


def _contradictions(audit: dict[str, Any]) -> Finding:
    found = audit["contradictions"]
    if not found["n_images"]:
        return _finding("contradictions", "fine", "No image has two labels", "No identical files lie under two labels.")
    pairs = []
    for number, entry in enumerate(found["by_classes"]):
        lead = "identical images are labelled " if number == 0 else ""
        where = (
            f" ({entry['within']:,} of them inside one official part)" if 0 < entry["within"] < entry["images"] else ""
        )
        pairs.append(f"{entry['images']:,} {lead}both {entry['first']} and {entry['second']}{where}")
    text = f"{_sentence(pairs)}. At least one label of each is wrong. {_use(found['in_use'], found['n_files'])}"
    title = f"{_count(found['n_images'], 'image')} under two labels"
    return _finding("contradictions", "alarm", title, text, found["n_images"])


def _across_official(audit: dict[str, Any]) -> Finding | None:
    found = audit["across_official"]
    if not _has_official_test(audit):
        return None
    if not found["n_test"]:
        text = "No image of the official test part is identical to one outside it."
        return _finding("across_official", "fine", "No identical image on both sides of the official split", text)
    number = found["n_test"]
    text = f"{_count(number, 'image')} of the official test part {_verb(number, 'are')} identical to a training image"
    text += (
        f", {_of_them(found['other_label'], found['n_test'])} under another label. " if found["other_label"] else ". "
    )
    title = "Test images are also in the training part"
    return _finding("across_official", "alarm", title, text + _use(found["in_use"], found["n_test"]), found["n_test"])


def _official_groups(audit: dict[str, Any]) -> Finding | None:
    found, group = audit["group_overlap"]["official"], audit["group_name"]
    if not _has_official_test(audit):
        return None
    if not found["n"]:
        text = f"No {group} of the official test part occurs outside it, by the data set's own keys."
        return _finding("official_groups", "fine", f"The official split keeps {group}s apart", text)
    which = f"{_count(found['n'], group)} of the official test part ({_count(found['test_files'], 'image')})"
    text = f"{which} also {_verb(found['n'], 'have')} images outside it: {_some(found['list'], total=found['n'])}."
    return _finding("official_groups", "alarm", f"The official split divides {group}s", text, found["n"])


_TREATED = {
    "different_labels": " They stay in use, each pair in one group; at least one label of each pair is wrong.",
    "different_groups": " They were joined.",
}


def _near(audit: dict[str, Any]) -> list[Finding]:
    found, group = audit["near_duplicates"], audit["group_name"]
    if not found["n"]:
        text = "No re-encoded, resized, mirrored or turned copies found."
        return [_finding("near_duplicates", "fine", "No near-duplicates", text)]
    kinds = (
        ("across_parts", "alarm", "Copies cross the split", "lie in two of training, validation and test"),
        ("across_official", "alarm", "Copies cross the official split", "connect its test part with another part"),
        ("different_labels", "alarm", "Copies under two labels", "have different labels"),
        ("different_groups", "caution", f"The same picture under two {group}s", f"have different {group} keys"),
        ("same_group", "note", f"Near-duplicates within a {group}", f"lie within one {group}"),
    )
    findings = []
    for name, level, title, what in kinds:
        if number := found[name]:
            text = f"{_count(number, 'pair')} of near-identical pictures {_verb(number, what)}"
            example = next((entry for entry in found["list"] if entry[name]), None)
            text += f", for example {_named(example)}." if example else "."
            text += _TREATED.get(name, "")
            findings.append(_finding(f"near_{name}", level, title, text, number))
    return findings


def _shift(audit: dict[str, Any]) -> Finding | None:
    found = {name: entry for name, entry in audit["shift"]["by_class"].items() if entry["auc"] is not None}
    if not found:
        return None
    whose = "official test part" if audit["shift"]["split"] == "official" else "test part"
    told = [(name, entry) for name, entry in found.items() if _level(entry, SHIFT)]
    highest = sorted(found.items(), key=lambda item: -item[1]["auc"])
    figures = _sentence([f"{entry['auc']:.3f} for {name}" for name, entry in highest])
    if not told:
        text = f"16 x 16 pixels hardly tell the {whose} from training images: AUC {figures} (0.5 is chance)."
        return _finding("shift", "fine", f"The {whose} is like the training part", text)
    level = "alarm" if any(_level(entry, SHIFT) == "alarm" for _, entry in told) else "caution"
    text = (
        f"16 x 16 pixels tell images of the {whose} from training images of the same class: AUC {figures} (0.5 is "
        f"chance). Figures and thresholds from training and validation images need not hold on it."
    )
    return _finding("shift", level, f"The {whose} is of another kind", text, len(told))


def _shortcuts(audit: dict[str, Any]) -> list[Finding]:
    facts = audit["shortcuts"]["facts"]
    known = {name: entry for name, entry in facts.items() if entry["auc"] is not None}
    if not known:
        if len(audit["shortcuts"]["classes"]) >= 2:
            return []
        text = f"Fewer than two classes have {FEWEST_GROUPS} {audit['group_name']}s, too few to look for shortcuts."
        return [_finding("shortcuts", "note", "Shortcuts could not be looked for", text)]
    findings: list[Finding] = []
    for name, entry in known.items():
        level = _level(entry, SHORTCUT)
        if not level or (name == "all" and findings):
            continue
        # A network sees size, shape and mode in the pixels; the size of a file follows what the image shows, too.
        level = "caution" if name == "bytes" else level
        best = max(entry["by_class"], key=lambda key: entry["by_class"][key])
        text = (
            f"The {FILE_FACTS[name]} alone {_tell(name)} the classes apart with AUC {entry['auc']:.3f} (0.5 is chance)"
        )
        if len(entry["by_class"]) > 2:
            text += f", {best} best ({entry['by_class'][best]:.3f})"
        text += f", on {_count(audit['shortcuts']['n'], 'image')}, no {audit['group_name']} in two folds. "
        text += "A network can use what goes with it instead of the disease; compare with other sources."
        verdict = f"{_tell(name)} the class" if entry["auc"] >= SHORTCUT[1] else "and the class go together"
        title = f"The {FILE_FACTS[name]} {verdict}"
        findings.append(_finding(f"shortcut_{name}", level, title, text))
    for mode, held in audit["shortcuts"]["modes_of_one_class"].items():
        text = (
            f"All {_count(held['images'], 'image')} of colour mode {mode} are {held['class']}. A network can see that."
        )
        findings.append(
            _finding(f"mode_{mode}", "caution", f"Only {held['class']} has {mode} images", text, held["images"])
        )
    if not findings:
        best_name = max(known, key=lambda name: known[name]["auc"])
        text = f"The best of file size, image size and colour mode reaches AUC {known[best_name]['auc']:.3f} (0.5 is chance)."
        findings.append(_finding("shortcuts", "fine", "File facts hardly tell the class", text))
    return findings


def _subgroups(audit: dict[str, Any]) -> list[Finding]:
    findings: list[Finding] = []
    for column, entry in audit["subgroups"].items():
        value = entry["cramers_v"]
        if value is None:
            continue
        strength = f"Cramer's V {value:.2f}"
        if entry["refines"]:
            text = f"Every value of {column} belongs to one class ({strength}). It may describe results, never be an input."
            findings.append(_finding(f"subgroup_{column}", "note", f"{column} is a finer label", text))
        elif value >= ASSOCIATION or entry["always"] or entry["decides"]:
            text = f"How closely: {strength} (0 is not at all, 1 entirely). {_rules(column, entry)}"
            text += "It may describe results, never be an input; a figure over all images partly measures it."
            # Only a value that a whole class shares gives a label away; the rest is association.
            verdict = "gives the label away" if entry["always"] else "goes with the label"
            level = "caution" if entry["always"] or value >= ASSOCIATION else "note"
            findings.append(_finding(f"subgroup_{column}", level, f"{column} {verdict}", text))
    return findings


def _rules(column: str, entry: dict[str, Any]) -> str:
    rules = []
    by_value: dict[str, list[str]] = {}
    for name, value in entry["always"].items():
        by_value.setdefault(value, []).append(name)
    rules += [
        f"{_sentence(names)} always {'has' if len(names) == 1 else 'have'} {value}" for value, names in by_value.items()
    ]
    rules += [f"{value} is always {name}" for value, name in entry["decides"].items()]
    return f"In this data set {_sentence(rules[:_SHOWN])}. " if rules else ""


def _unreadable(audit: dict[str, Any]) -> Finding:
    found, listed = audit["unreadable"], audit["counts"]["listed"]
    if not found["n"]:
        text = f"All {listed:,} listed files were read and decoded completely."
        return _finding("unreadable", "fine", "Every file can be read", text)
    some = _some([f"{entry['path']}: {entry['error']}" for entry in found["list"][:2]], 2, found["n"])
    level = "caution" if found["n"] > 0.01 * listed else "note"
    text = f"{found['n']:,} of {listed:,} files cannot be read and are not used: {some}."
    return _finding("unreadable", level, f"{_count(found['n'], 'unreadable file')}", text, found["n"])


def _exact(audit: dict[str, Any]) -> Finding:
    found = audit["exact_duplicates"]
    if not found["n_groups"]:
        return _finding("exact_duplicates", "fine", "No identical files", "Every file has a content of its own.")
    crossing = sum(entry["images"] for entry in found["by_official"] if entry["first"] != entry["second"])
    text = f"{found['n_files']:,} files are copies of each other, in {_count(found['n_groups'], 'group')}"
    if _has_official_test(audit):
        text += f"; {crossing:,} of these cross the official split" if crossing else "; none crosses the official split"
    text += f". Copies count as one {audit['group_name']}."
    return _finding("exact_duplicates", "note", "Identical files", text, found["n_groups"])


def _level(entry: dict[str, Any], limits: tuple[float, float]) -> str:
    """``caution`` or ``alarm`` for an AUC beyond its limits and beyond chance, else nothing."""
    if entry["auc"] < limits[0] or entry["auc"] - 0.5 < _ERRORS * entry["standard_error"]:
        return ""
    return "alarm" if entry["auc"] >= limits[1] else "caution"


def _has_official_test(audit: dict[str, Any]) -> bool:
    return bool(audit["counts"]["official_test"])


def _tell(fact: str) -> str:
    return "tell" if fact == "all" else "tells"


def _use(in_use: int, files: int) -> str:
    if not in_use:
        return "None of these files is used."
    return f"{in_use:,} of these {files:,} files are still used."


def _of_them(part: int, whole: int) -> str:
    return ("all of them" if whole > 1 else "there") if part == whole else f"{part:,} of them"


def _named(entry: dict[str, Any]) -> str:
    named = f"{entry['first']['image_id']} and {entry['second']['image_id']}"
    labels = entry["first"]["label"], entry["second"]["label"]
    return f"{named} ({labels[0]} and {labels[1]})" if entry["different_labels"] else named


def _some(names: list[str], shown: int = _SHOWN, total: int | None = None) -> str:
    more = (len(names) if total is None else total) - len(names[:shown])
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")


def _sentence(parts: list[str]) -> str:
    more = [f"{len(parts) - _SHOWN} more"] if len(parts) > _SHOWN + 1 else []
    shown = parts[:_SHOWN] + more if more else parts
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _verb(number: int, predicate: str) -> str:
    """The predicate, its first word in the singular for one."""
    verb, space, rest = predicate.partition(" ")
    return {"are": "is", "have": "has"}.get(verb, f"{verb}s") + space + rest if number == 1 else predicate
