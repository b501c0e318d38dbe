"""What faults are tried on, made by this project: what stages write, read, and are given as inputs."""

import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision

from components import entry, params
from components.benchmarks.shared.features import cached_features
from components.core import dvc_cache, files, tensor_files
from components.data.build import build_store
from components.data.record import StoreForm
from components.data.store import CaptionStore
from components.data.transforms import EvalTransform
from components.models.backbones import export_backbone, load_backbone
from components.sources import contents
from components.sources.manifest import DatasetEntry, Manifest, read_manifest, write_parts
from components.sources.readers.types import CaptionedImage
from components.text.tokenizer import CaptionTokenizer, train_tokenizer
from components.training.checkpoints import CheckpointFolder
from tests.faults.subjects import (
    Subject,
    below,
    digest,
    own_data,
    parquet,
    picture,
    read_own_data,
    unpacked,
    zip_of,
)

REPOSITORY = Path(__file__).resolve().parents[2]


# What stages make and read.


def pictures(count: int = 6) -> list[CaptionedImage]:
    Path("pictures").mkdir(exist_ok=True)
    images = []
    for index in range(count):
        path = Path("pictures", f"{index}.jpg")
        if not path.is_file():
            path.write_bytes(picture(index))
        images.append(
            CaptionedImage(f"w/{index}", "w", path, (f"picture {index}", "a second"), (1,) * (index % 2))
        )
    return images


def build_small_store() -> None:
    build_store(Path("train.lmdb"), pictures(), StoreForm(categories=("odd",)), num_workers=1)


def read_store() -> Any:
    store = CaptionStore(Path("train.lmdb"))
    records = [[record.image_id, digest(record.image), *record.captions, *record.labels] for record in store]
    return {"records": records, "index": [list(store.index.num_captions), *map(list, store.index.labels)]}


def small_checkpoints() -> CheckpointFolder:
    return CheckpointFolder(Path("scratch"), "key", keep=2)


def save_checkpoints() -> None:
    for iteration in (2, 4):
        small_checkpoints().save(iteration, {"weights": torch.arange(300.0) + iteration})


def read_checkpoint() -> Any:
    found = small_checkpoints().latest()
    return found and [found.iteration, digest(found.state["weights"].numpy().tobytes())]


def is_either_checkpoint(found: Any, right: Any) -> bool:
    """The newest, or the one before it: training goes on from there, to the same result."""
    weights = (torch.arange(300.0) + 2).numpy().tobytes()
    return found in (right, [2, digest(weights)])


def small_features() -> Any:
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(
        torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    found = cached_features(
        backbone,
        [image.path for image in pictures()],
        EvalTransform(32, 32),
        batch_size=4,
        num_workers=0,
        device="cpu",
    )
    return digest(found.tobytes())


def keep_features() -> None:
    small_features()
    (kept,) = Path(".scratch/features").glob("*.safetensors")
    kept.rename("kept")
    kept.symlink_to(Path("kept").absolute().name)


def write_tensors() -> None:
    tensors = {"a": torch.arange(100.0), "b": torch.arange(30).reshape(5, 6)}
    with files.writing(Path("model.safetensors")) as path:
        tensor_files.save_stable(tensors, {"format": "small"}, path)


def make_backbone() -> None:
    torch.manual_seed(0)
    export_backbone(torchvision.models.resnet18(), Path("virtex.safetensors"), "resnet18", "virtex")


def read_backbone() -> Any:
    backbone, metadata = load_backbone(Path("virtex.safetensors"))
    content = b"".join(tensor.numpy().tobytes() for tensor in backbone.state_dict().values())
    return [digest(content), metadata]


def make_manifest() -> None:
    entry = DatasetEntry(root="data/voc", annotations={"a.txt": "0" * 64}, images={"test": 3}, listings={})
    write_parts(Path("data/datasets"), Manifest(source="folders", captions={}, benchmarks={"voc2007": entry}))


def read_parts() -> Any:
    parts = sorted(Path("data").rglob("manifest.json"))
    top = read_manifest(Path("data/datasets/manifest.json"))
    return [json.loads(top.model_dump_json()), *(read_manifest(path).source for path in parts)]


CAPTIONS = [f"a {word} square to the left of {word}s" for word in ("grey", "pale", "dark", "black")]


def make_tokenizer() -> None:
    train_tokenizer(CAPTIONS, 30, Path("captions.model"))


def read_tokens() -> Any:
    tokenizer = CaptionTokenizer(Path("captions.model"))
    return [tokenizer.caption_tokens(text, 30) for text in CAPTIONS]


def copy_params() -> None:
    shutil.copy(REPOSITORY / "params.yaml", "params.yaml")
    shutil.copytree(REPOSITORY / "presets", "presets")


def read_params() -> Any:
    return {name: json.loads(section.model_dump_json()) for name, section in params.check_params().items()}


STORE = Subject("store", build_small_store, read_store, "train.lmdb", "train.lmdb")
TOKENIZER = Subject("tokenizer", make_tokenizer, read_tokens, "captions.model", "captions.model")
BACKBONE = Subject("backbone", make_backbone, read_backbone, "virtex.safetensors", "virtex.safetensors")
FEATURES = Subject("kept features", keep_features, small_features, "kept", "kept")
PARAMS = Subject("params.yaml", copy_params, read_params, "params.yaml", "params.yaml")
PRESET = Subject(
    "preset",
    copy_params,
    lambda: len(params.overlay("demo")),
    "presets/demo.yaml",
    "demo",
)
PART = Subject("manifest", make_manifest, read_parts, "data/datasets/manifest.json", "manifest.json")
CHECKPOINT = Subject(
    "checkpoint",
    save_checkpoints,
    read_checkpoint,
    "scratch/iteration_000000004.pt",
    "iteration_000000004.pt",
    is_either_checkpoint,
)


# Inputs of a stage as DVC links them, and what a stage does about them before it begins.

INPUTS = ("data/lmdb/train.lmdb", "data/lmdb/val.lmdb", "data/tokenizer/captions.model")


def keep_inputs() -> None:
    """Lay the inputs of ``pretrain`` into DVC's cache; ``kept-0`` and so on lead there."""
    shutil.copy(REPOSITORY / "dvc.yaml", "dvc.yaml")
    build_small_store()
    make_tokenizer()
    store = Path("train.lmdb").read_bytes()
    for number, content in enumerate((store, store + b"val", Path("captions.model").read_bytes())):
        kept = dvc_cache.object_path(dvc_cache.cache_folder(), hashlib.md5(content).hexdigest())
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
        Path(f"kept-{number}").symlink_to(kept)


def check_inputs() -> Any:
    """Link them as ``dvc repro`` does, here because no link outlives the copy of a workspace."""
    for number, name in enumerate(INPUTS):
        kept = Path(f"kept-{number}").resolve()
        kept.chmod(0o444)
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).hardlink_to(kept)
    entry.require_sound_inputs("pretrain", [])
    return below(Path("data"))


LINKED = [
    Subject(f"input {name}", keep_inputs, check_inputs, f"kept-{number}", name)
    for number, name in enumerate(INPUTS)
]


# What stages write; each reads back what it has written.


def then(write: Callable[[], object], read: Callable[[], Any]) -> Callable[[], Any]:
    def use() -> Any:
        write()
        return read()

    return use


def nothing() -> None:
    pass


def write_twice() -> Any:
    for content in ("one", "two"):
        files.write_text(Path("out/result.txt"), content)
        with files.writing(Path("out/folder")) as folder:
            folder.mkdir()
            (folder / content).write_text(content)
            (folder / "both").write_text(content)
    return below(Path("out"))


def overlaid() -> Any:
    params.overlay("demo", ["tokenize.vocab_size=123"])
    return read_params()


def digests() -> Any:
    return contents.content_digests([image.path for image in pictures()])


def cache_of(content: bytes) -> None:
    for text in (b"one", b"two", content):
        path = dvc_cache.object_path(dvc_cache.cache_folder(), hashlib.md5(text).hexdigest())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    path.write_bytes(b"damaged")


def repaired() -> Any:
    list(dvc_cache.repair(dvc_cache.cache_folder()))
    return dvc_cache.all_objects(dvc_cache.cache_folder())


WRITERS: Sequence[tuple[Subject, int]] = [  # with the operations of a start
    (Subject("files and folders", nothing, write_twice), 32),
    (Subject("writing a store", lambda: pictures() and None, then(build_small_store, read_store)), 5),
    (Subject("writing checkpoints", nothing, then(save_checkpoints, read_checkpoint)), 10),
    (Subject("keeping features", lambda: pictures() and None, small_features), 8),
    (Subject("writing tensors", nothing, then(write_tensors, lambda: below(Path()))), 5),
    (Subject("writing manifests", nothing, then(make_manifest, read_parts)), 56),
    (Subject("writing a tokenizer", nothing, then(make_tokenizer, read_tokens)), 10),
    (
        Subject(
            "reading own data", own_data(parquet, "c.parquet"), functools.partial(read_own_data, "c.parquet")
        ),
        12,
    ),
    (Subject("unpacking", functools.partial(zip_of, Path("archive")), unpacked), 19),
    (Subject("overlaying params.yaml", copy_params, overlaid), 5),
    (Subject("remembering digests", lambda: pictures() and None, digests), 2),
    (Subject("mending DVC's cache", lambda: cache_of(b"three"), repaired), 2),
]
