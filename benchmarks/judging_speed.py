"""Time and memory of judging one split: every figure with 2,000 group resamples, beside a loop of scikit-learn calls.

python benchmarks/judging_speed.py                    # 100,000 images in 20,000 groups; two and seven classes
python benchmarks/judging_speed.py 10000 2000         # other numbers of images and groups
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import numpy as np
import pandas as pd
from sklearn import metrics as reference

from evaluation.bootstrap import Resampling, group_draws
from evaluation.metrics import counts_at, rates_of
from evaluation.predictions import Predictions
from evaluation.split_summary import judge
from evaluation.threshold import choose_operating_point

RESAMPLES = 2000
LOOPED = 3  # resamples of the loop that the others are extrapolated from
SHARES = {2: (0.8, 0.2), 7: (0.033, 0.051, 0.110, 0.02, 0.111, 0.655, 0.02)}
POSITIVE = {2: ["c1"], 7: ["c0", "c1", "c4"]}


def generate(classes: int, n: int, n_groups: int) -> Predictions:
    """Groups of one class whose images resemble each other; probabilities in float32, as a network writes them."""
    rng = np.random.default_rng(classes)
    groups = np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, n - n_groups)])
    targets = rng.choice(classes, size=n_groups, p=SHARES[classes])[groups]
    logits = rng.normal(size=(n, classes)) + 0.7 * rng.normal(size=(n_groups, classes))[groups]
    logits[np.arange(n), targets] += 1.5
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    names = [f"c{number}" for number in range(classes)]
    frame = pd.DataFrame({"image_id": [f"i{k}" for k in range(n)], "group_id": [f"g{k}" for k in groups]})
    frame["label"] = np.array(names)[targets]
    for number, name in enumerate(names):
        frame[f"prob_{name}"] = shares[:, number]
    return Predictions(frame, tuple(names), POSITIVE[classes])


def plain_loop(held: Predictions, threshold: float) -> float:
    """Seconds of one resample in a plain loop: the images repeated, then scikit-learn (AUROC, AP, partial AUC, two losses)."""
    labels, scores, groups = held.labels, held.scores, held.groups
    draws = next(iter(group_draws(groups, labels, LOOPED, 0)))
    started = time.perf_counter()
    for weights in draws:
        rows = np.repeat(np.arange(len(labels)), weights[groups].astype(np.int64))
        y, s = labels[rows], scores[rows]
        reference.roc_auc_score(y, s)
        reference.average_precision_score(y, s)
        reference.roc_auc_score(1 - y, 1 - s, max_fpr=0.2)
        reference.brier_score_loss(y, s)
        reference.log_loss(y, s)
        for cut in (0.5, threshold):
            rates_of(counts_at(y, s, cut))
    return (time.perf_counter() - started) / LOOPED


def measure(classes: int, interval: str, n: int, n_groups: int) -> dict[str, float]:
    """Seconds of :func:`evaluation.split_summary.judge`, of the extrapolated loop, and of DeLong; peak memory in MB."""
    held = generate(classes, n, n_groups)
    point = choose_operating_point(held)
    started, busy = time.perf_counter(), time.process_time()
    judge(held, point, Resampling(RESAMPLES, 0.95, 0, interval))
    found = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - busy}
    found["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if classes == 2 and interval == "percentile":
        found["loop"] = plain_loop(held, point.threshold) * RESAMPLES
        from evaluation.delong import delong

        started = time.perf_counter()
        delong(held.labels, held.scores)
        found["delong"] = time.perf_counter() - started
    return found


def main() -> None:
    """Measure each case in a fresh process and print one row each."""
    if len(sys.argv) == 5:
        print(json.dumps(measure(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
        return
    n, n_groups = (sys.argv[1], sys.argv[2]) if len(sys.argv) == 3 else ("100000", "20000")
    print(f"{n} images in {n_groups} groups, {RESAMPLES} resamples, image and group level")
    print("| classes | intervals | seconds | CPU seconds | peak, MB |")
    print("|---|---|---|---|---|")
    further: dict[str, float] = {}
    for classes in (2, 7):
        for interval in ("percentile", "bca"):
            command = [sys.executable, __file__, str(classes), interval, n, n_groups]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(
                f"| {classes} | {interval} | {found['seconds']:.1f} | {found['cpu']:.1f} | {found['peak MB']:.0f} |",
                flush=True,
            )
            further = further or found
    print(
        "A plain loop of scikit-learn calls (image level only, no rates at fixed other rates) would take "
        f"{further['loop']:.0f} s, {further['loop'] / further['seconds']:.0f} times as long; extrapolated from {LOOPED} "
        "resamples."
    )
    print(f"DeLong's interval of one AUROC: {further['delong']:.2f} s.")


if __name__ == "__main__":
    main()
