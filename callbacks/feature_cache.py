"""Computes what a frozen trunk makes of every image once, so that the epochs in which only the head trains need no trunk."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from models.blocks import BlockNetwork

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
_OF_THE_HEAD = ("hidden", "dropout", "metadata", "metadata_width")  # model settings that the trunk does not know of
log = logging.getLogger("firstread")


class Store(Protocol):
    """What is needed here of a file of features; ``datamodules.features.FeatureStore`` is one."""

    @property
    def path(self) -> Path:
        """Of the file."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the features are there."""
        ...

    @property
    def images(self) -> int:
        """How many images the trunk has to see."""
        ...

    @property
    def size(self) -> int:
        """Bytes of a complete file."""
        ...

    def write(self, blocks: Iterable[NDArray[np.float32]]) -> bool:
        """Write the features; False if another process did."""
        ...


S = TypeVar("S", bound=Store)


class Source(Protocol[S]):
    """What is needed here of a data module; ``datamodules.datamodule.ImageDataModule`` is one."""

    def feature_store(self, folder: Path, *, trunk: str, views: int, batch_size: int) -> S:
        """The file for the features of a trunk, complete or not."""
        ...

    def feature_images(self, store: S, batch_size: int) -> Iterator[Tensor]:
        """The images in the order of the file."""
        ...


@contextmanager
def _silent(title: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda count: None


def build_feature_store(
    module: LightningModule,
    datamodule: Source[S],
    *,
    views: int,
    folder: Path,
    batch_size: int = 64,
    progress: Progress = _silent,
    device: torch.device | str | None = None,
) -> S:
    """The features of all training and validation images, from an earlier run where there are any.

    They are computed in float32 and eval mode, also where training runs in mixed precision. The module comes back as it was:
    its weights, the device, which layers are in training mode; and so does every random state.

    Args:
        module: has a ``network`` of blocks, the hyperparameter ``model`` and ``trunk_features(images)``, which turns uint8 images
            ``(n, channels, height, width)`` into features ``(n, f)``.
        datamodule: for ``use_features`` of which the store is made.
        views: augmented views of each training image, at least 1; without augmentation all are the same and only one is kept.
        folder: where the features of this data set are kept.
        batch_size: images at a time; with augmentation, another one gives other views.
        progress: shows how far it is.
        device: where to compute; None is where the module is.

    Raises:
        ValueError: if there is less than one view, or the features do not fit on the disk.
    """
    store = datamodule.feature_store(folder, trunk=trunk_key(module), views=views, batch_size=batch_size)
    if store.complete:
        log.info("features of the frozen trunk: from an earlier run, %s (%s)", store.path, _megabytes(store.size))
        return store
    started = time.perf_counter()
    with (
        isolate_rng(),
        _at_rest(module, device),
        progress("features of the frozen trunk", store.images) as advance,
    ):
        written = store.write(_features(module, datamodule.feature_images(store, batch_size), advance))
    seconds = time.perf_counter() - started
    if written:
        log.info(
            "features of the frozen trunk: computed for %s images in %.0f s (%.0f images/s), kept in %s (%s)",
            f"{store.images:,}",
            seconds,
            store.images / seconds,
            store.path,
            _megabytes(store.size),
        )
    else:
        log.info("features of the frozen trunk: another process made them, %s (%s)", store.path, _megabytes(store.size))
    return store


def trunk_key(module: LightningModule) -> str:
    """SHA-256 over everything that decides what the trunk makes of an image, given its pixels.

    That is every tensor of the network outside its head, with the statistics of normalisation layers; the model settings but
    those of the head; and the versions of the libraries that compute.
    """
    network = cast(BlockNetwork, module.network)
    settings = {
        name: value for name, value in dict(cast(Any, module.hparams)["model"]).items() if name not in _OF_THE_HEAD
    }
    versions = [importlib.metadata.version(name) for name in ("torch", "timm")]
    digest = hashlib.sha256(
        json.dumps([settings, versions, type(network).__name__], sort_keys=True, default=str).encode()
    )
    head = set(network.blocks()[-1].parameters)
    for name, tensor in sorted(network.state_dict().items()):
        if name not in head:
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(f"{name} {plain.dtype} {tuple(tensor.shape)}".encode())
            digest.update(plain.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _features(
    module: LightningModule, images: Iterator[Tensor], advance: Callable[[int], None]
) -> Iterator[NDArray[np.float32]]:
    trunk_features: Callable[[Tensor], Tensor] = cast(Any, module).trunk_features
    for batch in images:
        with torch.inference_mode(), torch.autocast(module.device.type, enabled=False):
            found = trunk_features(batch.to(module.device)).float().cpu().numpy()
        yield found
        advance(len(found))


@contextmanager
def _at_rest(module: LightningModule, device: torch.device | str | None) -> Iterator[None]:
    """The module in eval mode on a device, and afterwards as it was."""
    training = [(part, part.training) for part in module.modules()]
    before = module.device
    try:
        module.to(before if device is None else device).eval()
        yield
    finally:
        module.to(before)
        for part, flag in training:
            part.training = flag  # not train(), which would speak to all parts below as well


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
