from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError
from components.sources.readers import inaturalist


def test_labels_follow_category_ids(inaturalist_root: Path) -> None:
    train = inaturalist.read_inaturalist(inaturalist_root, "train")
    assert train.classes == ("zero", "five")
    assert train.labels.tolist() == [1, 0]
    assert train.image_paths[0] == inaturalist_root / "train_val2018/Aves/5/1.jpg"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["annotations"][0].update(category_id=3), "unknown image or category"),
        (lambda p: p["annotations"][0].update(category_id=[0]), "unknown image or category"),
        (lambda p: p["annotations"][0].update(image_id=1), "two annotations"),
        (lambda p: p["annotations"].pop(), "has no annotation"),
        (lambda p: p["images"].clear() or p["annotations"].clear(), "no images"),
        (lambda p: p["images"][0].update(file_name="train_val2018/x.jpg"), r"absent: .*train_val2018/x\.jpg"),
    ],
)
def test_broken(
    inaturalist_root: Path,
    edit: Callable[[Path, Callable[[Any], Any]], None],
    change: Callable[[Any], Any],
    message: str,
) -> None:
    edit(inaturalist.annotation_path(inaturalist_root, "train"), change)
    with pytest.raises(InputError, match=message):
        inaturalist.read_inaturalist(inaturalist_root, "train")


def test_a_bom_is_no_fault(inaturalist_root: Path) -> None:
    path = inaturalist.annotation_path(inaturalist_root, "train")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(inaturalist.read_inaturalist(inaturalist_root, "train").image_paths) == 2


def test_real_stand_in(shared_dir: Path) -> None:
    train = inaturalist.read_inaturalist(shared_dir / "data" / "real" / "flowers17", "train")
    assert (len(train.image_paths), len(train.classes)) == (272, 17)
    assert all(
        path.parent.name == train.classes[label]
        for path, label in zip(train.image_paths, train.labels, strict=True)
    )
