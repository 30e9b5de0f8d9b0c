"""Decision curves: whether acting on the model's probabilities does more good than harm, against acting on all or on none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import Resampling, group_draws
from evaluation.calibration_words import faults_of, recalibration_hurts
from evaluation.intervals import percentile_interval, with_width
from evaluation.logistic import grouped
from evaluation.predictions import Predictions
from evaluation.rate_intervals import groups_of
from evaluation.recalibration import Calibrator, prior_shift
from evaluation.wording import figure, listed, percent, plural, short

# Threshold probabilities: every half per cent up to 20 %, where most decisions are, then every per cent.
THRESHOLDS: Final = tuple(round(k / 200, 3) for k in range(2, 40)) + tuple(round(k / 100, 2) for k in range(20, 100))
SHOWN: Final = (0.05, 0.1, 0.2, 0.5)

Floats = NDArray[np.float64]


def net_benefit(sensitivity: Floats, false_alarms: Floats, prevalence: Floats | float, thresholds: Floats) -> Floats:
    """``prevalence * TPR - (1 - prevalence) * FPR * pt / (1 - pt)`` (Vickers and Elkin 2006), elementwise.

    Args:
        sensitivity, false_alarms: true and false positive rate, 0 to 1. ``thresholds``: pt, in [0, 1).

    Returns:
        True positives an image, less what the false ones cost: at most ``prevalence``, without a lower limit.
    """
    odds = thresholds / (1.0 - thresholds)
    return np.asarray(prevalence * sensitivity - (1.0 - prevalence) * false_alarms * odds)


def decision_curve_of(
    test: Predictions,
    how: Resampling,
    *,
    calibrator: Calibrator | None,
    threshold: float,
    prevalence: float | None = None,
    calibration: Mapping[str, Any] | None = None,
    locked: bool = True,
) -> dict[str, Any] | None:
    """The ``decision_curve`` part of metrics.json.

    An image is acted on if its probability is at least the threshold probability pt, at which missing a positive costs as
    much as (1 - pt) / pt false alarms.

    Args:
        test: predictions.
        how: resamples of groups, confidence, seed.
        calibrator: fitted on validation, so that scores are probabilities; None takes them as they are.
        threshold: the operating point, of the scores as they are. ``locked``: whether it was fixed on other images.
        prevalence: also the curve at this share of positives, in (0, 1), to which the probabilities are moved.
        calibration: the ``calibration`` part of metrics.json with this calibrator. Where recalibration makes the scores
            worse on test they are taken as they are; where that or a caution says that the scores are no risks, nothing is
            read into the threshold.

    Returns:
        None unless both classes are there. Else:

        - ``recalibrated`` (whether the scores were), ``hurts`` (whether that was left out because it makes them worse),
          ``mean_score``, ``prevalence``, ``thresholds``.
        - for each threshold ``model``, ``low``, ``high`` (net benefit), ``all`` (acting on everyone; acting on none is 0) and
          ``avoided`` (false alarms avoided in 100 images against acting on all, at equal sensitivity).
        - ``useful`` and ``certain``: ranges ``[from, to]`` of thresholds where the model is better than both, by the
          estimate and by the whole interval of the paired difference.
        - ``points``: at 0.05, 0.1, 0.2 and 0.5 ``threshold``, ``model``, ``gain`` (over the better of both) and ``avoided``
          as intervals, ``certain`` (whether the gain is above 0 beyond chance), ``all``, ``flagged`` and ``sensitivity``.
        - ``locked``: such a point at the probability that the threshold stands for, with its ``score`` and ``name``
          (``locked`` or ``threshold``); None where that is 0 or 1, and where the scores are no risks.
        - ``target``: None, or ``prevalence``, ``thresholds``, ``model``, ``low``, ``high``, ``all``, ``useful``, ``certain``.
        - ``sentence``.

    Raises:
        ValueError: a prevalence is not between 0 and 1.
    """
    if prevalence is not None and not 0.0 < prevalence < 1.0:
        raise ValueError(f"the target prevalence is {prevalence!r}; expected a share between 0 and 1.")
    if test.labels.min() == test.labels.max():
        return None
    hurts = calibration is not None and recalibration_hurts(calibration)
    acting = calibrator if calibrator is not None and calibrator.method != "none" and not hurts else None
    scores = test.scores if acting is None else acting.scores(test.scores)
    # Decided on the score itself: after recalibration a neighbour of the threshold may have become equal to it.
    at = float((np.array([threshold]) if acting is None else acting.scores([threshold]))[0])
    curve = _Curve(test, scores, test.scores >= threshold, at, how)
    rate = float(test.labels.mean())
    name = "locked" if locked else "threshold"
    stands = 0.0 < at < 1.0 and not _no_risks(calibration)
    found: dict[str, Any] = {
        "recalibrated": acting is not None,
        "hurts": hurts,
        "prevalence": rate,
        "mean_score": float(scores.mean()),
        **curve.lines(),
        "points": [curve.point(THRESHOLDS.index(shown)) for shown in SHOWN],
        "locked": {**curve.point(len(THRESHOLDS)), "score": float(threshold), "name": name} if stands else None,
        "target": None,
    }
    if prevalence is not None:
        origin = None if acting is None else acting.prevalence
        moved = prior_shift(scores, origin if origin is not None and 0.0 < origin < 1.0 else rate, prevalence)
        lines = _Curve(test, moved, test.scores >= threshold, at, how, prevalence).lines()
        found["target"] = {"prevalence": float(prevalence), **{k: v for k, v in lines.items() if k != "avoided"}}
    text = _sentence(found) + _care(found, calibration, test.positive_class)
    return {**found, "sentence": text + _locked_sentence(found["locked"], test.positive_class)}


def _no_risks(calibration: Mapping[str, Any] | None) -> bool:
    """Whether the scores are so far from risks, or recalibration so much worse, that a threshold names no exchange rate."""
    if calibration is None:
        return False
    return recalibration_hurts(calibration) or (calibration["worry"] or {}).get("level") == "caution"


class _Curve:
    """Net benefit at every threshold and, last, at the locked one, on the data and in each resample."""

    def __init__(
        self,
        test: Predictions,
        scores: Floats,
        flagged: NDArray[np.bool_],
        at: float,
        how: Resampling,
        prevalence: float | None = None,
    ) -> None:
        self.thresholds = np.array([*THRESHOLDS, min(max(at, 1e-9), 1.0 - 1e-9)])
        self._prevalence, self._how = prevalence, how
        self._fewest = min(groups_of(test).values())
        labels, groups, size = test.labels.astype(np.int64), test.groups, len(THRESHOLDS) + 1
        # Images by class, by how many thresholds they reach, and by the locked decision.
        reached = np.searchsorted(np.array(THRESHOLDS), scores, side="right")
        cells = (labels * 2 + flagged) * size + reached
        members = grouped(groups, cells, int(groups.max()) + 1, 4 * size)
        whole = np.ones((1, members.shape[0])) @ members
        self.found, self.alarms, self.base = (part[0] for part in self._rates(whole))
        self.model, self.all = (part[0] for part in self._benefits(whole))
        blocks = [
            self._benefits(weights.astype(np.float64) @ members)
            for weights in group_draws(groups, test.labels, how.resamples, how.seed)
        ]
        self._model, self._all = (np.concatenate([block[k] for block in blocks]) for k in (0, 1))

    def _rates(self, cells: Floats) -> tuple[Floats, Floats, Floats]:
        """Sensitivity and false alarm rate, shape (b, thresholds + 1), and the share of positives, shape (b,)."""
        held = cells.reshape(len(cells), 2, 2, -1)
        totals = held.sum(axis=(2, 3))
        counts = held.sum(axis=2)[:, :, ::-1].cumsum(axis=2)[:, :, ::-1][:, :, 1:]
        locked = held[:, :, 1].sum(axis=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.concatenate([counts, locked[:, :, None]], axis=2) / totals[:, :, None]
            return shares[:, 1], shares[:, 0], totals[:, 1] / totals.sum(axis=1)

    def _benefits(self, cells: Floats) -> tuple[Floats, Floats]:
        """Net benefit of the model and of acting on all, each of shape (b, thresholds + 1)."""
        found, alarms, base = self._rates(cells)
        share = base[:, None] if self._prevalence is None else self._prevalence
        one = np.ones((len(cells), 1))
        return net_benefit(found, alarms, share, self.thresholds), net_benefit(one, one, share, self.thresholds)

    def lines(self) -> dict[str, Any]:
        """Everything that is drawn, without the locked threshold."""
        inner = slice(0, len(THRESHOLDS))
        best, bests = np.maximum(self.all, 0.0), np.maximum(self._all, 0.0)
        ends = [self._interval(self.model[k], self._model[:, k]) for k in range(len(THRESHOLDS))]
        gains, drawn = self.model - best, self._model - bests
        odds = self.thresholds / (1.0 - self.thresholds)
        return {
            "thresholds": list(THRESHOLDS),
            "model": self.model[inner].tolist(),
            "low": [end["low"] for end in ends],
            "high": [end["high"] for end in ends],
            "all": self.all[inner].tolist(),
            "avoided": (100.0 * (self.model - self.all) / odds)[inner].tolist(),
            "useful": _ranges((gains[inner] > 0.0).tolist()),
            "certain": _ranges([self._above_zero(drawn[:, k]) for k in range(len(THRESHOLDS))]),
        }

    def point(self, place: int) -> dict[str, Any]:
        """One threshold in full."""
        pt, model, every = float(self.thresholds[place]), self._model[:, place], self._all[:, place]
        gain, per = self.model[place] - max(self.all[place], 0.0), 100.0 * (1.0 - pt) / pt
        flagged = self.base * self.found[place] + (1.0 - self.base) * self.alarms[place]
        return {
            "threshold": pt,
            "model": self._interval(self.model[place], model),
            "all": float(self.all[place]),
            "gain": self._interval(gain, model - np.maximum(every, 0.0)),
            "certain": self._above_zero(model - np.maximum(every, 0.0)),
            "avoided": self._interval(per * (self.model[place] - self.all[place]), per * (model - every)),
            "flagged": float(flagged),
            "sensitivity": float(self.found[place]),
        }

    def _above_zero(self, draws: Floats) -> bool:
        """Whether the whole interval lies above 0; also where no resample differs, as for a model without errors."""
        low = percentile_interval(0.0, draws, self._how.confidence).low
        return self._fewest > 1 and low is not None and low > 0.0

    def _interval(self, value: float, draws: Floats) -> dict[str, Any]:
        return with_width(percentile_interval(float(value), draws, self._how.confidence), self._fewest).to_dict()


def _ranges(good: list[bool]) -> list[list[float]]:
    """Stretches of neighbouring thresholds, as pairs of their ends."""
    found: list[list[float]] = []
    for place, holds in enumerate(good):
        if holds and place and good[place - 1]:
            found[-1][1] = THRESHOLDS[place]
        elif holds:
            found.append([THRESHOLDS[place], THRESHOLDS[place]])
    return found


def _sentence(curve: dict[str, Any]) -> str:
    """Where acting on the model beats acting on all and on none."""
    kind = "recalibrated probability" if curve["recalibrated"] else "score"
    ranges = curve["certain"] or curve["useful"]
    if not ranges:
        return f"At no threshold of the {kind} is the model more useful than acting on every image or on none."
    low, high = max(ranges, key=lambda ends: ends[1] - ends[0])
    where = f"At a {kind} of {percent(low)}"
    if low != high:
        where = f"For thresholds on the {kind} from {percent(low)} to {percent(high)}"
    sure = "" if curve["certain"] else ", though not beyond chance"
    return f"{where}, acting on the model is better than acting on every image or on none{sure}."


def _care(curve: dict[str, Any], calibration: Mapping[str, Any] | None, positive: str) -> str:
    """What keeps these scores from being risks; empty where nothing is known to."""
    if calibration is None:
        return ""
    text = ""
    if curve["hurts"]:
        text = " The scores are taken as they leave the model, because recalibration on validation makes them worse on test."
    cal = calibration["splits"]["test"]["recalibrated" if curve["recalibrated"] else "raw"]
    faults = faults_of(cal)
    if faults:
        text += (
            f" Read it with care: on test these scores are {listed(faults)} (mean {figure(cal['mean_score'])} where "
            f"{percent(cal['rate'], 1)} of the images are {positive})."
        )
    if _no_risks(calibration):
        text += " What the threshold would say about the cost of a miss is therefore left out."
    return text


def _locked_sentence(locked: dict[str, Any] | None, positive: str) -> str:
    """What the threshold says a miss costs, and whether it is worth acting there."""
    if locked is None:
        return ""
    odds = (1.0 - locked["threshold"]) / locked["threshold"]
    cost = (
        f"one missed {positive} image cost as much as {_times(odds, 'false alarm')}"
        if odds >= 1.0
        else f"one false alarm cost as much as {_times(1.0 / odds, f'missed {positive} image')}"
    )
    gain, other = locked["gain"], "acting on every image" if locked["all"] > 0 else "acting on none"
    if gain["high"] is not None and gain["high"] < 0:
        verdict = f"is worse than {other}"
    elif gain["value"] <= 0:
        verdict = f"is no more useful than {other}"
    elif not locked["certain"]:
        verdict = f"is more useful than {other}, though not beyond chance"
    else:
        verdict = f"is more useful than {other}"
    name = "locked threshold" if locked["name"] == "locked" else "threshold"
    return (
        f" The {name}, a score of {short(locked['score'])}, stands for {short(locked['threshold'])} here, as if "
        f"{cost}; judged so, the model {verdict} (net benefit {figure(locked['model']['value'])})."
    )


def _times(odds: float, noun: str) -> str:
    if odds < 1.05:
        return f"one {noun}"
    return f"{odds:.1f} {noun}s" if odds < 9.5 else plural(round(odds), noun)
