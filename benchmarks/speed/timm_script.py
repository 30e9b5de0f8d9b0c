"""timm's loader (its prefetching one, uint8 batches) and a loop in the manner of its train.py; no Lightning."""

from __future__ import annotations

import time
from typing import Any

import torch
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader
from timm.data.transforms import ToNumpy
from torch import nn
from torchvision import transforms  # type: ignore[import-untyped]

from benchmarks.speed.peer import PlainNetwork, answer, optimiser, scores_of, task


def changes(asked: dict[str, Any], *, training: bool) -> transforms.Compose:
    """The shared augmentation in place of timm's random crop and flip; the loader makes uint8 batches of the results."""
    steps: list[Any] = [transforms.Resize((asked["size"], asked["size"]))]
    change = asked["augmentation"]
    if training:
        steps += [
            transforms.RandomAffine(
                change["rotate"],
                translate=(change["translate"], change["translate"]),
                scale=(1 - change["scale"], 1 + change["scale"]),
                interpolation=transforms.InterpolationMode.BILINEAR,
            ),
            transforms.ColorJitter(brightness=change["brightness"], contrast=change["contrast"]),
        ]
    return transforms.Compose([*steps, ToNumpy()])


def loader_of(asked: dict[str, Any], part: str, device: torch.device) -> Any:
    """timm.data.create_loader over the folder of one part."""
    training = part == "train"
    dataset = create_dataset(
        "", root=f"{asked['folder']}/{part}", input_img_mode="L" if asked["channels"] == 1 else "RGB"
    )
    workers = asked["choice"]["workers"]
    loader = create_loader(
        dataset,
        input_size=(asked["channels"], asked["size"], asked["size"]),
        batch_size=asked["batch"],
        is_training=training,
        mean=tuple(asked["mean"]),
        std=tuple(asked["std"]),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        device=device,
    )
    dataset.transform = changes(asked, training=training)
    return loader


def epoch(network: nn.Module, loader: Any, optimizer: torch.optim.Optimizer, choice: dict[str, Any]) -> int:
    """Train on every batch; returns the number of images."""
    loss_of, count = nn.BCEWithLogitsLoss(), 0
    layout = torch.channels_last if choice.get("channels_last") else torch.contiguous_format
    network.train()
    for images, targets in loader:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bool(choice.get("amp"))):
            logits = network(images.contiguous(memory_format=layout))
            loss = loss_of(logits.float(), targets.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        count += len(targets)
    return count


def main() -> None:
    """Train some epochs, then score the test images where that is asked."""
    asked = task()
    choice = asked["choice"]
    device = torch.device("cuda" if asked["accelerator"] == "gpu" else "cpu")
    network = PlainNetwork(asked).to(device)
    if choice.get("channels_last"):
        network = network.to(memory_format=torch.channels_last)
    optimizer, loader = optimiser(network, asked), loader_of(asked, "train", device)
    epochs = []
    for _ in range(asked["epochs"]):
        started = time.perf_counter()
        count = epoch(network, loader, optimizer, choice)
        if device.type == "cuda":
            torch.cuda.synchronize()
        epochs.append((count, time.perf_counter() - started))
    scores = scores_of(network, loader_of(asked, "test", device), str(device)) if asked["auroc"] else None
    answer(epochs, scores, precision="bf16" if choice.get("amp") else "32")


if __name__ == "__main__":
    main()
