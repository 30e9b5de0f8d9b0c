"""What a number of positive groups can certify about the recall of a threshold: integers in, probabilities out.

Calibration scores of positive groups are taken as exchangeable with those of future positive groups. With the threshold
at the (m + 1)-th smallest of n such scores the true recall R follows Beta(n - m, m + 1) (order statistics, free of any
distribution; ties only raise it). Hence R >= r with confidence 1 - d exactly when P(Bin(n, 1 - r) <= m) <= d. The rule
depends on (n, r, d) and never on the scores, so nothing is tested twice.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from scipy.stats import beta, betabinom, binom

# Nearer to the limit than this share of it, the floating-point tail is settled by exact arithmetic.
_CLOSE = 1e-9


def certified_misses(n: int, recall: float, confidence: float) -> int | None:
    """The largest number m of missed calibration groups that still certifies the recall; None if not even 0 does.

    Args:
        n: positive groups, at least 0.
        recall: to be kept, in (0, 1). ``confidence``: in (0, 1).

    Raises:
        ValueError: an argument is outside its range.
    """
    _check(n, recall, confidence)
    tails = np.asarray(binom.cdf(np.arange(n), n, 1.0 - recall))
    limit = 1.0 - confidence
    misses = int(np.searchsorted(tails, limit * (1.0 - _CLOSE), side="right"))
    while misses < n and tails[misses] <= limit * (1.0 + _CLOSE) and _tail_holds(n, misses, recall, confidence):
        misses += 1
    return misses - 1 if misses else None


def crc_misses(n: int, recall: float) -> int | None:
    """The misses m that conformal risk control allows, m <= (n + 1)(1 - r) - 1; None if not even 0 is allowed.

    The mean recall over calibration sets is then at least r; about half of the single sets end below it (Angelopoulos et al.,
    arXiv 2208.02814, for the false negative rate, which is at most 1).

    Args and errors as in :func:`certified_misses`.
    """
    _check(n, recall, 0.5)
    allowed = (n + 1) * (1 - Fraction(str(recall))) - 1
    return None if allowed < 0 else math.floor(allowed)


def crc_minimum_groups(recall: float) -> int:
    """The smallest number of groups with which conformal risk control allows no miss at all: ``1 / (1 - r) - 1``, rounded up."""
    _check(0, recall, 0.5)
    return math.ceil(1 / (1 - Fraction(str(recall)))) - 1


def half_risk(confidence: float) -> float:
    """The confidence of each of two statements that hold together with ``confidence``: ``1 - (1 - confidence) / 2``."""
    _check(0, 0.5, confidence)
    return float(1 - (1 - Fraction(str(confidence))) / 2)


def minimum_groups(recall: float, confidence: float, misses: int = 0) -> int:
    """The smallest number of positive groups that certifies the recall with this many misses."""
    _check(0, recall, confidence)
    enough = misses + 1
    while not _allows(enough, recall, confidence, misses):
        enough *= 2
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if _allows(middle, recall, confidence, misses):
            enough = middle
        else:
            too_few = middle
    return enough


def certifiable_recall(n: int, confidence: float) -> float:
    """The recall that flagging all n calibration groups certifies: ``(1 - confidence) ** (1 / n)``."""
    _check(n, 0.5, confidence)
    return 0.0 if n == 0 else float((1.0 - confidence) ** (1.0 / n))


def recall_lower_bound(n: int, misses: int, confidence: float) -> float:
    """The certified recall: the (1 - confidence) quantile of Beta(n - m, m + 1), as Clopper-Pearson for n - m of n."""
    return float(beta.ppf(1.0 - confidence, n - misses, misses + 1))


def expected_recall(n: int, misses: int) -> float:
    """Mean of the true recall over calibration sets: ``(n - m) / (n + 1)``."""
    return (n - misses) / (n + 1)


def empirical_misses(n: int, recall: float) -> int:
    """How many of n groups may be missed with an empirical recall of at least ``recall``: ``floor((1 - r) n)``."""
    return n - math.ceil(Fraction(str(recall)) * n)


def expected_test_misses(n_test: int, misses: int, n: int) -> float:
    """Mean number of missed groups among n' new ones, given m misses of n in calibration: n' (m + 1) / (n + 1)."""
    return n_test * (misses + 1) / (n + 1)


def misses_quantile(n_test: int, misses: int, n: int, probability: float = 0.99) -> int:
    """Number of test misses that is not exceeded with this probability, from BetaBinom(n', m + 1, n - m)."""
    return 0 if n_test == 0 else int(betabinom.ppf(probability, n_test, misses + 1, n - misses))


def probability_test_meets_target(n_test: int, misses: int, n: int, recall: float) -> float:
    """Chance that ``n_test`` new groups show an empirical recall of at least the target, were they exchangeable."""
    if n_test == 0:
        return 1.0
    return float(betabinom.cdf(empirical_misses(n_test, recall), n_test, misses + 1, n - misses))


def _allows(n: int, recall: float, confidence: float, misses: int) -> bool:
    found = certified_misses(n, recall, confidence)
    return found is not None and found >= misses


def _tail_holds(n: int, misses: int, recall: float, confidence: float) -> bool:
    """Whether P(Bin(n, 1 - r) <= m) <= d, in rational arithmetic on the decimal numbers that were asked for."""
    keep, limit = Fraction(str(recall)), 1 - Fraction(str(confidence))
    tail = sum(math.comb(n, k) * (1 - keep) ** k * keep ** (n - k) for k in range(misses + 1))
    return tail <= limit


def _check(n: int, recall: float, confidence: float) -> None:
    if n < 0:
        raise ValueError(f"{n} groups: expected at least 0.")
    for name, value in (("recall", recall), ("confidence", confidence)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name} is {value!r}; expected a number between 0 and 1, both excluded.")
