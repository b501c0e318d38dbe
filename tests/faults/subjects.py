"""What faults are tried on: a small thing that the pipeline reads or writes, and what a start does with it.

Here those that come from elsewhere, one's own data and archives; tests.faults.made has the others.

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
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from PIL import Image

from components.core import files
from components.sources.download import extract
from components.sources.readers.own.dataset import read_own
from components.sources.readers.own.index import read_index
from components.sources.readers.own.sample import OwnSettings

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
