"""The file of features: right rows, complete or not there, one for each set of facts."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.cache import open_cache
from datamodules.features import FeatureStore, StoredFeatures, feature_store
from datamodules.images import inspect_image
from tests.conftest import write_image

TRAIN, VAL = np.array([1, 4, 6, 9]), np.array([0, 7])


def store_in(folder: Path, views: int = 3, **more: Any) -> FeatureStore:
    given: dict[str, Any] = {"facts": {"trunk": "t"}, "pixels": np.zeros((10, 2, 2, 1), dtype=np.uint8)}
    given |= {"train_rows": TRAIN, "val_rows": VAL, **more}
    return feature_store(folder, views=views, **given)


def numbered(views: int = 3) -> NDArray[np.float32]:
    """Features that tell view and row: ``(100 view + row, -row)``, validation as view 9."""
    blocks = [np.stack([100.0 * view + TRAIN, -TRAIN], axis=1) for view in range(views)]
    return np.concatenate([*blocks, np.stack([900.0 + VAL, -VAL], axis=1)]).astype(np.float32)


def test_every_row_and_view_is_found_again(tmp_path: Path) -> None:
    store = store_in(tmp_path / "features")
    assert not store.complete
    assert store.write([numbered()[:5], numbered()[5:]])
    assert store.complete
    assert store.size == store.path.stat().st_size
    assert store.images == 14
    assert store.train.array.shape == (3, 4, 2)
    assert store.val.array.shape == (1, 2, 2)
    rows = np.array([9, 1, 1, 6])
    for view in range(3):
        found = store.train.of(rows, view)
        assert found.dtype == np.float32
        assert found.flags.writeable
        assert found.tolist() == [[100 * view + row, -row] for row in rows]
    assert store.val.of(np.array([7]), 0).tolist() == [[907, -7]]
    assert not store.train.array.flags.writeable


def test_another_process_opens_the_file_itself(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write([numbered()])
    part = store.train
    part.of(TRAIN, 0)
    sent = pickle.dumps(part)
    assert len(sent) < 1000, "the path travels, not the features"
    assert pickle.loads(sent).of(TRAIN, 2).tolist() == part.of(TRAIN, 2).tolist()
    assert isinstance(pickle.loads(sent), StoredFeatures)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(part.of, (TRAIN, 1)).tolist() == part.of(TRAIN, 1).tolist()


def test_a_second_writer_waits_and_then_computes_nothing(tmp_path: Path) -> None:
    first, second = store_in(tmp_path), store_in(tmp_path)
    begun, go_on, drawn, outcome = threading.Event(), threading.Event(), [], []

    def slowly() -> Iterator[NDArray[np.float32]]:
        begun.set()
        assert go_on.wait(30)
        yield numbered()

    def never() -> Iterator[NDArray[np.float32]]:
        drawn.append(1)
        yield numbered()

    one = threading.Thread(target=lambda: outcome.append(first.write(slowly())))
    two = threading.Thread(target=lambda: outcome.append(second.write(never())))
    one.start()
    assert begun.wait(30)
    two.start()
    two.join(0.2)
    assert two.is_alive(), "it waits"
    go_on.set()
    one.join(30)
    two.join(30)
    assert outcome == [True, False]
    assert drawn == []


def test_too_few_features_are_no_store(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with pytest.raises(ValueError, match="features of 13 images, expected 14"):
        store.write([numbered()[:13]])
    assert not store.complete
    assert {path.suffix for path in tmp_path.iterdir()} <= {".lock"}


@pytest.mark.parametrize("damage", ["", "no json", "[]", '{"key": "other", "bytes": 1}'])
def test_a_damaged_record_is_no_record(tmp_path: Path, damage: str) -> None:
    store = store_in(tmp_path)
    store.write([numbered()])
    store.path.with_suffix(".json").write_text(damage, encoding="utf-8")
    assert not store.complete
    assert store.write([numbered()])
    assert store.complete


def test_every_fact_decides_the_key(tmp_path: Path) -> None:
    other = np.zeros((10, 2, 2, 1), dtype=np.uint8)
    other[3] = 1
    keys = [
        store_in(tmp_path).key,
        store_in(tmp_path, views=2).key,
        store_in(tmp_path, facts={"trunk": "u"}).key,
        store_in(tmp_path, pixels=other).key,
        store_in(tmp_path, pixels=other.reshape(10, 1, 4, 1)).key,
        store_in(tmp_path, train_rows=TRAIN[:3]).key,
        store_in(tmp_path, val_rows=VAL[:1]).key,
        store_in(tmp_path, train_rows=VAL, val_rows=TRAIN).key,
    ]
    assert len(set(keys)) == len(keys)
    assert store_in(tmp_path / "elsewhere").key == keys[0]


def test_decoded_caches_are_told_apart_by_their_key_and_not_read(tmp_path: Path) -> None:
    paths = [tmp_path / "images" / f"{number}.jpeg" for number in range(10)]
    for number, path in enumerate(paths):
        write_image(path, number)

    def cached(size: int) -> NDArray[np.uint8]:
        hashes = [inspect_image(path).sha256 for path in paths]
        return open_cache(tmp_path / "cache", paths, hashes, size=size, channels=1)

    key = store_in(tmp_path, pixels=cached(16)).key
    assert store_in(tmp_path, pixels=cached(16)).key == key
    assert store_in(tmp_path, pixels=cached(12)).key != key
    write_image(paths[2], 77)
    assert store_in(tmp_path, pixels=cached(16)).key != key


def test_at_least_one_view(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"finetune\.views=0"):
        store_in(tmp_path, views=0)
