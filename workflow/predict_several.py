"""Several runs named at once: an ensemble in memory, with the threshold that ensemble.py would give it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from conf.output import short
from workflow.predictor import Predictor, load_predictor


def predictor_of(sources: Sequence[Path], *, trust: bool = False) -> Predictor:
    """What was named as ``run=``: one model, or several runs whose scores are averaged.

    Several runs are checked as ``ensemble.py`` checks them, and their threshold is chosen on the mean of their validation
    predictions in the same way, so that the answers are those of the ensemble that it would write.

    Raises:
        ValueError: a model that cannot be used, or runs that do not belong together.
    """
    if len(sources) == 1:
        return load_predictor(sources[0], trust=trust)
    # Loaded only for several runs: reports come with them, and matplotlib with those.
    from evaluation.borderline import borderline_of
    from evaluation.ensembles import mean_predictions
    from evaluation.recalibration import fit_calibrator
    from evaluation.threshold import choose_operating_point
    from workflow.ensembles import title_of
    from workflow.members import kind_of, read_members
    from workflow.threshold_rules import threshold_rule

    for source in sources:
        if not (source / "config.yaml").is_file():
            raise ValueError(
                f"run={source}: several runs are averaged through their validation predictions, and this is no run folder of "
                "train.py. Name run folders, or one ensemble."
            )
    members = read_members(list(sources))
    if kind_of(members) != "seeds":
        command = f"python ensemble.py {shlex.quote('runs=[' + ','.join(short(path) for path in sources) + ']')}"
        raise ValueError(
            "these runs are the folds of a cross-validation, and no image is left on which a threshold of their mean could be "
            f"chosen. Make the ensemble, which says what its threshold is worth, and name its folder:  {command}"
        )
    rule = threshold_rule(members, None, None)
    validation = mean_predictions([member.predictions("val") for member in members])
    point = choose_operating_point(validation, **rule, selection_optimistic=rule["rule"] != "fixed")
    parts = [load_predictor(source, trust=trust) for source in sources]
    networks = tuple(network for part in parts for network in part.networks)
    _require_alike(parts)
    names = " + ".join(dict.fromkeys(part.about.model for part in parts))
    return replace(
        parts[0],
        source=sources[0],
        networks=networks,
        about=replace(parts[0].about, title=title_of(members, "seeds"), model=f"{names} (mean of {len(parts)})"),
        point=point,
        calibrator=fit_calibrator(validation),
        borderline_from=borderline_of(validation, point),
        checks=tuple(check for part in parts for check in part.checks),
    )


def _require_alike(parts: Sequence[Predictor]) -> None:
    """One decoding for all, because the pixels are decoded once."""
    first = parts[0]
    for other in parts[1:]:
        for name, value in first.decoding.items():
            if other.decoding[name] != value:
                raise ValueError(
                    f"these runs take different pixels: model.{name} is {value} in {short(first.source)} and "
                    f"{other.decoding[name]} in {short(other.source)}. Predict with them one by one."
                )
