"""Show training images as an augmentation changes them, without training.

python preview.py task=pneumonia
python preview.py task=ham10000 augmentation=dermoscopy augmentation.erase=0.5
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.cli import checked_config, stop
from conf.output import short
from conf.run_settings import plain_settings
from conf.schema import RESEARCH_NOTICE

if TYPE_CHECKING:
    from datamodules.prepared import PreparedData
    from datamodules.preview_page import Strip

FOLDER = "preview"
INTERRUPTED = 130


def preview(settings: dict[str, Any], folder: Path, command: str = "") -> Path:
    """Prepare the data set and write the page and the picture.

    Args:
        settings: the whole configuration as plain values.
        folder: where they go, named after task and augmentation; a file of that name is replaced.
        command: shown on the page.

    Returns:
        Path of the page; the picture lies beside it.

    Raises:
        DataError, ValueError: with a message for the user.
    """
    model = settings["model"]
    if model["image_size"] is None or model["interpolation"] == "auto":
        from models.pretrained import resolved_model  # loads torch

        settings = {**settings, "model": resolved_model(model)}
    from datamodules.prepared import prepare
    from datamodules.preview_page import (
        describe_augmentation,
        preview_of,
        with_mixed,
        write_preview_page,
        write_preview_picture,
    )
    from datamodules.progress import progress_bar, silent

    prepared = prepare(settings, progress_bar if settings["trainer"]["progress_bar"] else silent)
    augmentation = settings["augmentation"]
    shown = preview_of(prepared, settings, command)
    if augmentation["mixup"] or augmentation["cutmix"]:
        shown = with_mixed(shown, mixed_images(prepared, settings))
    print(f"{shown.title}, augmentation {shown.name}, {shown.size} x {shown.size} x {shown.channels}")
    for line in describe_augmentation(augmentation, shown.channels) or ["nothing is changed"]:
        print(f"  {line}")
    name = f"{settings['task']['name']}{'-phantom' if prepared.phantom else ''}-{augmentation['name']}"
    page = folder / f"{name}.html"
    write_preview_page(shown, page)
    write_preview_picture(shown, page.with_suffix(".png"))
    return page


def mixed_images(prepared: PreparedData, settings: dict[str, Any]) -> Strip:
    """Training images after augmentation and after mixup or cutmix, as the training step mixes them."""
    import numpy as np
    import torch

    from datamodules.augmentation import Augmentation
    from datamodules.preview_page import VERSIONS, chosen_rows, mixed_strip
    from models.mixing import mix

    augmentation, manifest = settings["augmentation"], prepared.manifest
    rows, change = chosen_rows(prepared, settings["seed"]), Augmentation(settings["augmentation"])
    targets = torch.from_numpy(manifest.targets[rows])
    images, captions = [], []
    torch.manual_seed(settings["seed"])
    for number in range(VERSIONS):  # one share is drawn a batch, so every picture comes from a batch of its own
        batch = torch.from_numpy(change(np.ascontiguousarray(prepared.pixels[rows]), number)).permute(0, 3, 1, 2)
        mixed, shares = mix(
            batch, targets, len(manifest.classes), mixup=augmentation["mixup"], cutmix=augmentation["cutmix"]
        )
        place = number % len(rows)
        images.append(mixed[place].permute(1, 2, 0).round().to(torch.uint8).numpy())
        parts = [
            f"{share:.2f} {name}"
            for share, name in zip(shares[place].tolist(), manifest.classes, strict=True)
            if share >= 0.005
        ]
        captions.append(", ".join(parts))
    return mixed_strip(images, captions, augmentation)


def main(argv: list[str]) -> None:
    """The command line; exits with 2 and one message where something is wrong."""
    settings = plain_settings(checked_config(argv, "preview.py"))
    from datamodules.errors import DataError

    try:
        page = preview(settings, Path(FOLDER), shlex.join(["python", "preview.py", *argv]))
        print(f"\npage: {short(page)}\npicture: {short(page.with_suffix('.png'))}\n{RESEARCH_NOTICE}")
    except (DataError, OSError, ValueError) as error:
        stop(error)
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, and the same command goes on from there")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main(sys.argv[1:])
