"""The page that ``python train.py --help`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from conf.checks import allowed
from conf.schema import RESEARCH_NOTICE, declared_options

# What most people change; the rest is in --cfg job and in docs/configuration.md.
COMMON = (
    "seed",
    "resume",
    "task.labels",
    "data.root",
    "data.source",
    "data.per_class",
    "data.conflicts",
    "data.batch_size",
    "split.kind",
    "split.val_fraction",
    "model.weights",
    "model.image_size",
    "model.dropout",
    "finetune.head_epochs",
    "evaluation.tta",
    "trainer.max_epochs",
    "trainer.learning_rate",
    "trainer.patience",
    "trainer.precision",
    "threshold.rule",
    "threshold.recall",
    "threshold.confidence",
)
EXAMPLES = (
    ("no data at hand: generated phantom images", "python train.py data.source=phantom"),
    ("your copy of the chest X-rays", "python train.py task=pneumonia model=simple_cnn data.root=PATH/chest_xray"),
    ("check, split and audit a data set without training", "python prepare.py task=ham10000 data.root=PATH audit=true"),
    (
        "your own folders, one a class",
        "python train.py task=folder data.root=PATH 'task.classes=[benign,malignant]' 'task.positive=[malignant]'",
    ),
    ("a pretrained network, the head first, then the rest", "python train.py task=pneumonia model=mobilenetv2"),
    ("a baseline on the same split", "python train.py task=ham10000 model=baseline_hog_svm"),
    ("three seeds, one table", "python train.py -m task=pneumonia model=simple_cnn seed=0,1,2"),
    ("go on after an interruption", "python train.py resume=runs/pneumonia/simple_cnn/DATE_TIME"),
)


PREPARE_EXAMPLES = (
    ("what is in a data set, and what is wrong with it", "python prepare.py task=ham10000 data.root=PATH audit=true"),
    ("fetch it first", "python prepare.py task=pneumonia data.download=publisher"),
    ("your own folders: asks for the classes that it finds", "python prepare.py task=folder data.root=PATH"),
    (
        "your own CSV",
        "python prepare.py task=table data.root=PATH table.path=file table.label=diagnosis table.group=patient",
    ),
    ("what decoded images and stored features take (also cache=verify)", "python prepare.py cache=list"),
    ("remove those longest not used, until 20 GB are left (also older=90d)", "python prepare.py cache=clean keep=20GB"),
)
PREVIEW_EXAMPLES = (
    (
        "what an augmentation does to your images",
        "python preview.py task=ham10000 augmentation=dermoscopy data.root=PATH",
    ),
    ("with a change of your own", "python preview.py task=pneumonia augmentation.rotate=20 data.root=PATH"),
)
PURPOSE = {
    "train.py": "firstread: train and judge an image classifier for medical screening, and believe the result.",
    "prepare.py": "firstread: download, check, audit, split and decode a data set, without training.",
    "preview.py": "firstread: a page of training images after augmentation.",
}


def help_page(config: Any, conf_folder: Path, groups: tuple[str, ...], program: str = "train.py") -> str:
    """The help text: usage, examples, groups with their choices, common keys with defaults, and where to read on.

    Args:
        config: composed without overrides.
        conf_folder: where the groups are. ``groups``: their names.
        program: ``train.py``, ``prepare.py`` or ``preview.py``; all take the same groups and keys.
    """
    usage = f"usage: python {program} [group=choice ...] [key=value ...]"
    lines = [PURPOSE[program], RESEARCH_NOTICE, "", usage, "", "Examples"]
    examples = {"prepare.py": PREPARE_EXAMPLES, "preview.py": PREVIEW_EXAMPLES}
    for text, command in examples.get(program, EXAMPLES):
        lines += [f"  {command}", f"      {text}"]
    lines += ["", "Groups (choose one of each)"]
    for group in groups:
        choices = ", ".join(sorted(file.stem for file in (conf_folder / group).glob("*.yaml")))
        lines.append(f"  {group:<14}{choices}")
    lines += ["", "Common keys                    default"]
    declared = declared_options()
    for key in COMMON:
        default = OmegaConf.select(config, key)
        shown = "null" if default is None else str(default)
        rule = allowed(declared[key])
        lines.append(f"  {key:<26}   {shown:<22} {declared[key].metadata['help']}" + (f" ({rule})" if rule else ""))
    lines += [
        "",
        "More",
        "  python train.py --cfg job      show the whole configuration of a run without starting it",
        "  python prepare.py ...          the same groups and keys; download, check, audit and split, no training",
        "  python preview.py ...          the same; a page of augmented training images",
        "  python evaluate.py ...         judge runs and predictions again, compare, aggregate, other data; see its --help",
        "  python ensemble.py runs=DIR    the mean of several seeds, or all folds of a cross-validation together",
        "  tensorboard --logdir runs      learning curves, mistakes and HPARAMS of all runs",
        "  FIRSTREAD_DATA, FIRSTREAD_HOME folders of the data sets and of prepared splits and caches",
        "  docs/configuration.md          every key, also those of split, augmentation, loss, finetune and evaluation",
        "  docs/how-to/                   pretrained networks, judging, baselines and ensembles, your own images",
        "  docs/getting-started.md        the first hour",
    ]
    return "\n".join(lines)


def reference_page(config: Any) -> str:
    """docs/configuration.md: every key with its default and what it does, made from the schema."""
    lines = [
        "# Every key",
        "",
        "Made by `python -m conf.help_page`; a test keeps it current. Defaults are those of `python train.py` without arguments.",
        "",
        "| key | default | what it does | allowed |",
        "|---|---|---|---|",
    ]
    for key, item in declared_options().items():
        value = OmegaConf.to_container(OmegaConf.create({"value": OmegaConf.select(config, key)}))["value"]  # type: ignore[index,call-overload]
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        if isinstance(value, dict):
            shown = "see conf/task"  # label policies and places to download from: long, and different for every task
        lines.append(f"| `{key}` | `{shown}` | {item.metadata['help']} | {allowed(item)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    from conf.cli import composed

    print(reference_page(composed([])), end="")
