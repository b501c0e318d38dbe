import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.core.errors import InputError
from components.data.build import build_store
from components.data.record import StoreForm
from components.data.selection import num_labels, select
from components.data.store import CaptionStore
from components.params import Subset

LABELS = "multilabel_classification"


def subset(fraction: float = 1.0, captions: int | None = None, seed: int = 0) -> Subset:
    return Subset(image_fraction=fraction, captions_per_image=captions, seed=seed)


def build(path: Path, images, categories=()) -> CaptionStore:
    build_store(path, images, StoreForm(categories=categories), num_workers=1)
    return CaptionStore(path)


def test_all_of_a_store(store: CaptionStore) -> None:
    for selection in (select(store, "captioning"), select(store, "captioning", subset())):
        assert selection.indices.tolist() == list(range(10))
        assert selection.num_captions == 20
        assert selection.captions(3, ("a", "b")) == ("a", "b")


def test_smaller_fractions_are_inside_larger_ones(store: CaptionStore) -> None:
    for seed in range(5):
        parts = [
            set(select(store, "bicaptioning", subset(fraction, seed=seed)).indices.tolist())
            for fraction in (0.1, 0.2, 0.5, 1.0)
        ]
        assert [len(part) for part in parts] == [1, 2, 5, 10]
        assert parts[0] < parts[1] < parts[2] < parts[3]
    chosen = {
        tuple(select(store, "captioning", subset(0.5, seed=seed)).indices.tolist()) for seed in range(9)
    }
    assert len(chosen) > 5


def test_a_fraction_is_never_nothing(store: CaptionStore) -> None:
    assert len(select(store, "captioning", subset(0.0001))) == 1


def test_fewer_captions_are_part_of_more(store: CaptionStore) -> None:
    written = tuple("abcde")
    for index in range(20):
        kept = [select(store, "captioning", subset(captions=k)).captions(index, written) for k in range(1, 6)]
        assert [len(captions) for captions in kept] == [1, 2, 3, 4, 5]
        for fewer, more in itertools.pairwise(kept):
            assert set(fewer) < set(more)
        assert all(list(captions) == sorted(captions) for captions in kept)
    first = {select(store, "captioning", subset(captions=1)).captions(i, written)[0] for i in range(60)}
    assert first == set(written)
    assert select(store, "captioning", subset(captions=1)).num_captions == 10
    assert select(store, "captioning", subset(0.5, captions=9)).num_captions == 10


def test_images_without_labels_are_dropped_for_labels_alone(store: CaptionStore) -> None:
    assert select(store, LABELS).indices.tolist() == [0, 2, 3, 4, 6, 8, 9]
    assert select(store, LABELS).num_captions == 0
    half = select(store, LABELS, subset(0.5)).indices
    everything = select(store, "captioning", subset(0.5)).indices
    assert half.tolist() == [index for index in everything.tolist() if store.get(index).labels]
    assert half.dtype == np.int64


def test_labels_are_counted_with_the_background(store: CaptionStore) -> None:
    assert num_labels(store, store) == 3


def test_a_store_without_labels(store: CaptionStore, make_images, tmp_path: Path) -> None:
    bare = build(tmp_path / "val.lmdb", [replace(image, labels=()) for image in make_images(2)])
    assert len(select(bare, "token_classification")) == 2
    for use in (lambda: select(bare, LABELS), lambda: num_labels(store, bare)):
        with pytest.raises(InputError, match=r"val\.lmdb has no object labels.*instances_val2017\.json"):
            use()
    empty = build(tmp_path / "empty.lmdb", [replace(image, labels=()) for image in make_images(2)], ("x",))
    with pytest.raises(InputError, match="none of the 2 images"):
        select(empty, LABELS)


def test_stores_of_different_categories(store: CaptionStore, make_images, tmp_path: Path) -> None:
    other = build(tmp_path / "val.lmdb", make_images(2), ("even", "odd"))
    with pytest.raises(InputError, match=r"different object categories, such as 'odd'"):
        num_labels(store, other)
    turned = build(tmp_path / "turned.lmdb", make_images(2), ("triple", "even"))
    with pytest.raises(InputError, match="in another order"):
        num_labels(store, turned)
