"""How well an input check tells foreign images from those that the model knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.input_check import Verdict
from evaluation.metrics import auroc
from evaluation.wording import listed, percent

QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
PASSING: Final = 0.95  # share of known images that pass where FPR95 is read off
WEAK: Final = 0.9  # AUROC below which a sentence warns

Doubles = NDArray[np.float64]


def of_known(verdicts: Sequence[Verdict], alpha: float) -> dict[str, Any]:
    """Shares of images of the model's own kind that are turned away."""
    return {
        "n": len(verdicts),
        "strangeness": _quantiles(_all(verdicts, "strangeness")),
        **_turned_away(verdicts, alpha),
    }


def of_validation(calibration: Doubles, threshold: float | None) -> dict[str, Any]:
    """The validation images themselves, of which the given share lies above the threshold by construction."""
    above = 0.0 if threshold is None else float((calibration >= threshold).mean())
    return {"n": len(calibration), "abstain": above, "strangeness": _quantiles(calibration)}


def of_foreign(verdicts: Sequence[Verdict], known: Sequence[Verdict], alpha: float) -> dict[str, Any]:
    """Figures of one set of foreign images against images of the model's own kind.

    Args:
        verdicts: on the foreign images. ``known``: on the others. Both not empty.
        alpha: of the check.

    Returns:
        ``n``; for ``features`` (of the network alone), ``distance`` (what the p-value is of) and ``checks`` (the file's limits as
        well) ``auroc`` (0.5: cannot tell them apart; below: takes them for more usual than its own) and ``fpr95``, the share of
        foreign images that pass where 95 % of the known ones pass; shares that are turned away.
    """
    found: dict[str, Any] = {"n": len(verdicts), "strangeness": _quantiles(_all(verdicts, "strangeness"))}
    for name in ("features", "distance", "checks"):
        foreign, own = _scores(verdicts, name), _scores(known, name)
        labels = np.concatenate([np.zeros(len(own), np.uint8), np.ones(len(foreign), np.uint8)])
        passing = np.sort(own)[int(np.ceil(PASSING * len(own))) - 1]
        found[name] = {
            "auroc": float(auroc(labels, np.concatenate([own, foreign]))),
            "fpr95": float((foreign <= passing).mean()),
        }
    return {**found, **_turned_away(verdicts, alpha)}


def sentences(sets: Sequence[dict[str, Any]], test: dict[str, Any], alpha: float, smallest: float) -> list[str]:
    """What the figures say, good or bad.

    Args:
        sets: as :func:`of_foreign` gives them, each with its ``name``. ``test``: as :func:`of_known` gives it.
        alpha: of the check. ``smallest``: p-value that an image can have; above alpha no distance turns an image away.
    """
    able = smallest <= alpha
    said = [
        f"{percent(test['abstain'], 1)} of the {test['n']:,} test images looked at are turned away "
        f"({percent(alpha, 1)} was asked for, on images like those of validation)."
    ]
    if not able:
        said.append(
            f"Validation is too small for this share (no p-value is below {percent(smallest, 1)}): no image is turned away for "
            "its distance, only for what its file shows. Raise evaluation.abstain, or enlarge validation."
        )
    weak = [entry["name"] for entry in sets if entry["features"]["auroc"] < WEAK]
    if weak:
        said.append(
            f"The network's features alone do not tell {listed(weak)} from test images (AUROC below {WEAK}); what protects "
            f"there is the look of {'the picture and of ' if able else ''}the file."
        )
    missed = [f"{entry['name']} ({percent(entry['abstain'], 1)})" for entry in sets if entry["abstain"] < 0.5]
    if missed:
        said.append(
            f"Fewer than half are turned away of: {listed(missed)}. The model answers on the others as if it knew them."
        )
    return said


def threshold_of(calibration: Doubles, alpha: float) -> float | None:
    """The strangeness from which images are turned away; None where none can be."""
    ordered = np.sort(calibration)[::-1]
    allowed = int(np.floor(alpha * (len(ordered) + 1) + 1e-9)) - 1  # of validation, at least as strange
    if allowed < 0:
        return None
    return float(ordered[min(allowed, len(ordered) - 1)])


def _turned_away(verdicts: Sequence[Verdict], alpha: float) -> dict[str, float]:
    by_file = _all(verdicts, "outside") > 0
    by_distance = _all(verdicts, "p_value") <= alpha
    return {
        "abstain": float((by_file | by_distance).mean()),
        "by_file": float(by_file.mean()),
        "by_distance": float(by_distance.mean()),
        "by_features": float((_all(verdicts, "features_p_value") <= alpha).mean()),
    }


def _scores(verdicts: Sequence[Verdict], name: str) -> Doubles:
    if name == "features":
        return _all(verdicts, "features")
    found = _all(verdicts, "strangeness")
    # What breaks a limit of the file is turned away whatever its distance.
    return np.where(_all(verdicts, "outside") > 0, 1e9, found) if name == "checks" else found


def _all(verdicts: Sequence[Verdict], name: str) -> Doubles:
    return np.array([getattr(verdict, name) for verdict in verdicts], dtype=np.float64)


def _quantiles(values: Doubles) -> list[float]:
    return [round(float(value), 4) for value in np.quantile(values, QUANTILES)]
