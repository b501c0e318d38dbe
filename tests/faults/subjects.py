"""What faults are tried on: a small thing that the pipeline reads or writes, and what a start does with it.

Each is prepared and used in a working directory of its own. What ``use`` returns is plain JSON, and says all
that a later stage would learn from the thing.
"""

import functools
import gzip
import hashlib
import io
import json
import operator
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
import torchvision
from PIL import Image

from components import inputs, params
from components.benchmarks.shared.features import cached_features
from components.core import dvc_cache, files, tensor_files
from components.data.build import build_store
from components.data.store import CaptionStore
from components.data.transforms import EvalTransform
from components.export.backbone import export_backbone, load_backbone
from components.sources import contents
from components.sources.download import extract
from components.sources.manifest import DatasetEntry, Manifest, read_manifest
from components.sources.parts import write_parts
from components.sources.readers.own.dataset import read_own
from components.sources.readers.own.index import read_index
from components.sources.readers.own.sample import OwnSettings
from components.sources.readers.types import CaptionedImage
from components.text.tokenizer import CaptionTokenizer, train_tokenizer
from components.training.checkpoints import CheckpointFolder

REPOSITORY = Path(__file__).resolve().parents[2]
ROOM = 10**6  # bytes that an archive may unpack to


@dataclass(frozen=True)
class Subject:
    """One of them.

    Attributes:
        name: for people.
        prepare: makes what a start finds, in an empty working directory.
        use: what a start does.
        file: what is damaged.
        names: what a clear error has to name.
        is_right: whether a result may stand beside that of an undisturbed start.
    """

    name: str
    prepare: Callable[[], None]
    use: Callable[[], Any]
    file: str = ""
    names: str = ""
    is_right: Callable[[Any, Any], bool] = operator.eq


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def below(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): digest(p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()
    }


def picture(index: int) -> bytes:
    rng, stream = np.random.default_rng(index), io.BytesIO()
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    coarse.resize((40 + index, 36), Image.Resampling.BICUBIC).save(stream, "JPEG")
    return stream.getvalue()


# One's own data. Of a table that ends early, whole rows and the beginning of one can be told from all rows
# by nobody; what must not happen is that a caption goes to another image, or a field to another column.

ROWS = [
    (f"{index}.jpg", f'caption {index}, "so" it says' if index % 2 else f"one of {index}")
    for index in range(8)
]


def own_data(write: Callable[[Path], None], name: str) -> Callable[[], None]:
    def prepare() -> None:
        Path("own").mkdir()
        for index in range(len(ROWS)):
            Path("own", f"{index}.jpg").write_bytes(picture(index))
        write(Path("own", name))

    return prepare


def read_own_data(name: str) -> Any:
    found = read_own(Path("own", name), "mine", OwnSettings(), Path("index"), False)
    images = [
        image for split in found.splits for image in read_index(Path("index"), split, found.root, "mine")
    ]
    return {image.image_id: [digest(image.read_bytes()), *image.captions] for image in images}


def begins(found: dict[str, list[str]], right: dict[str, list[str]]) -> bool:
    rows = [(image, captions, right.get(image)) for image, captions in found.items()]
    cut = [1 for _, captions, whole in rows if whole and captions != whole]
    return len(cut) <= 1 and all(
        whole and list(map(str.startswith, whole, captions)) for _, captions, whole in rows
    )


def csv_of(path: Path, separator: str = ",") -> None:
    pandas.DataFrame(ROWS, columns=["image", "caption"]).to_csv(path, index=False, sep=separator)


def json_lines(path: Path) -> None:
    path.write_text("".join(json.dumps({"image": i, "caption": c}) + "\n" for i, c in ROWS))


def json_list(path: Path) -> None:
    path.write_text(json.dumps([{"image": i, "caption": c} for i, c in ROWS]))


def parquet(path: Path) -> None:
    rows = [{"image": {"bytes": picture(i), "path": None}, "caption": c} for i, (_, c) in enumerate(ROWS)]
    pandas.DataFrame(rows).to_parquet(path)


def compressed(path: Path) -> None:
    csv_of(plain := path.with_suffix(""))
    path.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    plain.unlink()


def tar_of(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


def shard(path: Path, mode: str = "w") -> None:
    samples = [{f"{i}.jpg": picture(i), f"{i}.txt": c.encode()} for i, (_, c) in enumerate(ROWS)]
    tar_of(path, {name: content for sample in samples for name, content in sample.items()}, mode)


def own(
    name: str, write: Callable[[Path], None], is_right: Callable[[Any, Any], bool] = operator.eq
) -> Subject:
    return Subject(
        f"own data, {name}",
        own_data(write, name),
        functools.partial(read_own_data, name),
        f"own/{name}",
        name,
        is_right,
    )


OWN_TABLES = [
    own("captions.csv", csv_of, begins),
    own("captions.tsv", functools.partial(csv_of, separator="\t"), begins),
    own("captions.jsonl", json_lines, begins),
    own("captions.json", json_list),
    own("captions.csv.gz", compressed),
    own("captions.parquet", parquet),
]
SHARD = own("shard-0000.tar", shard)


# Archives.


def zip_of(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(4):
            archive.writestr(f"folder/{index}.jpg", picture(index))


def unpacked() -> Any:
    if not Path("unpacked").is_dir():
        with files.writing(Path("unpacked")) as folder:
            extract.extract(Path("archive"), folder, ROOM)
    escaped = sorted({*os.listdir()} - {"archive", "unpacked"})
    return {
        "files": below(Path("unpacked")),
        "elsewhere": [name for name in escaped if not name.startswith(".")],
    }


def archive(name: str, make: Callable[[Path], None]) -> Subject:
    return Subject(
        f"archive, {name}", functools.partial(make, Path("archive")), unpacked, "archive", "archive"
    )


ARCHIVES = [
    archive("zip", zip_of),
    archive("tar", shard),
    archive("tar.gz", functools.partial(shard, mode="w:gz")),
    archive("tar.xz", functools.partial(shard, mode="w:xz")),
]


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
    options: Any = {"short_side": None, "jpeg_quality": 95, "on_unreadable": "refuse", "num_workers": 1}
    build_store(Path("train.lmdb"), pictures(), categories=("odd",), **options)


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
    inputs.require_sound_inputs("pretrain", [])
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
