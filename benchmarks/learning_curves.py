"""Learning curves of several runs side by side: where training and validation part, a network memorises.

python benchmarks/learning_curves.py docs/images/overfitting.png "frozen, no augmentation=runs/isic9/A" "ours=runs/isic9/B"
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

CURVES = {"train/loss": "training", "val/loss": "validation"}
SCORES = {"train/auroc": "training", "val/auroc": "validation"}
COLOURS = {"training": "#8a8f98", "validation": "#0b6fa4"}


def stage_starts(history: pd.DataFrame) -> list[float]:
    """Half an epoch before each stage after the first."""
    if "stage" not in history:
        return []
    return [float(epoch) - 0.5 for epoch in history.loc[history["stage"].diff() > 0, "epoch"]]


def main(target: Path, runs: dict[str, Path]) -> None:
    """Draw loss and AUROC of each run in a column of its own, on common axes, and print the gaps of the last epoch."""
    figure, axes = plt.subplots(2, len(runs), figsize=(4.2 * len(runs), 5.6), sharey="row", squeeze=False)
    for column, (name, folder) in enumerate(runs.items()):
        history = pd.read_csv(folder / "history.csv")
        for row, (curves, label) in enumerate(((CURVES, "cross-entropy"), (SCORES, "AUROC (mean over classes)"))):
            axis = axes[row, column]
            highest = max(curves, key=lambda key: history[key].iloc[-1])
            for key, part in curves.items():
                axis.plot(history["epoch"], history[key], color=COLOURS[part], linewidth=1.8, label=part)
                axis.annotate(
                    f"{history[key].iloc[-1]:.2f}",
                    (history["epoch"].iloc[-1], history[key].iloc[-1]),
                    xytext=(4, 5 if key == highest else -5),  # apart, where the curves end together
                    textcoords="offset points",
                    color=COLOURS[part],
                    va="center",
                    fontsize=9,
                )
            axis.spines[["top", "right"]].set_visible(False)
            axis.set_ylabel(label if column == 0 else "")
            axis.margins(x=0.12)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            for start in stage_starts(history):
                axis.axvline(start, color="#c9ced6", linewidth=1, zorder=0)
        axes[0, column].set_title(name, fontsize=11, loc="left")
        axes[1, column].set_xlabel("epoch")
        last = history.iloc[-1]
        print(
            f"{name}: after {int(last['epoch'])} epochs loss {last['train/loss']:.3f} in training, {last['val/loss']:.3f} on "
            f"validation; AUROC {last['train/auroc']:.3f} and {last['val/auroc']:.3f}"
        )
    axes[0, 0].legend(frameon=False, fontsize=9)
    figure.tight_layout()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120)
    print(f"saved as {target}")


if __name__ == "__main__":
    if len(sys.argv) < 3 or not all("=" in item for item in sys.argv[2:]):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), {name: Path(path) for name, path in (item.split("=", 1) for item in sys.argv[2:])})
