"""The format of a captioned-image store: one LMDB file a split.

The file is an LMDB data file without a folder around it (``MDB_NOSUBDIR``), with one unnamed
database. Nothing in it belongs to one programming language; a reader needs LMDB, MessagePack and
JSON.

Records
    Key: the record's index from 0, as an unsigned 64-bit big-endian integer (8 bytes), so that
    LMDB's own order is the order of the indices. Value: a MessagePack map

    ==========  ==============  ================================================================
    ``v``       integer         version of the record, 1
    ``image_id``  string        ``<dataset>/<the dataset's own id>``, unique in the file
    ``dataset``   string        name of the dataset in params.yaml
    ``file``      string        name of the image file it was read from, without folders
    ``image``     binary        the encoded image; its first bytes tell JPEG from PNG and so on
    ``captions``  array of str  at least one caption as written, UTF-8, not normalised
    ==========  ==============  ================================================================

    The image is the file's own bytes, or, when it was larger than the store's ``short_side``, a
    JPEG of the resized pixels (``file`` keeps the old name and extension).

Metadata
    Key: the 8 bytes ``__meta__``, which sort behind every index that can occur. Value: UTF-8 JSON
    ``{"format": "virtex-lmdb", "version": 1, "count": <records>, "captions": <captions in all>,
    "image_bytes": <bytes of encoded images>, "skipped": <images left out>, "short_side": <pixels
    or null>, "jpeg_quality": <1 to 100>}``. It is written last: a file without it is unfinished.

Readers refuse other versions. A field added in a way that older readers may ignore keeps the
version; any other change raises it.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import msgpack

FORMAT = "virtex-lmdb"
VERSION = 1
META_KEY = b"__meta__"


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a store with its captions; ``image`` is encoded as in a file."""

    image_id: str
    dataset: str
    file: str
    image: bytes
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a store says about itself; the module's docstring explains the fields."""

    count: int
    captions: int
    image_bytes: int
    skipped: int
    short_side: int | None
    jpeg_quality: int


def key_of(index: int) -> bytes:
    """Key of record ``index``."""
    return index.to_bytes(8, "big")


def pack_record(record: Record) -> bytes:
    """Value of ``record``; equal records give equal bytes."""
    fields = {
        "v": VERSION,
        "image_id": record.image_id,
        "dataset": record.dataset,
        "file": record.file,
        "image": record.image,
        "captions": list(record.captions),
    }
    packed: bytes = msgpack.packb(fields, use_bin_type=True)
    return packed


def unpack_record(value: bytes | memoryview) -> Record:
    """The record in ``value``.

    Raises:
        ValueError: if the bytes are not a record of this version.
    """
    try:
        fields: Any = msgpack.unpackb(value, raw=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise ValueError(f"not a MessagePack value ({error})") from error
    if not isinstance(fields, dict) or fields.get("v") != VERSION:
        found = fields.get("v") if isinstance(fields, dict) else type(fields).__name__
        raise ValueError(f"expected a record of version {VERSION}, found {found!r}")
    captions = fields.get("captions")
    texts = [fields.get("image_id"), fields.get("dataset"), fields.get("file")]
    if not isinstance(captions, list) or not captions or not isinstance(fields.get("image"), bytes):
        raise ValueError("the image or its captions are missing or of the wrong type")
    if not all(isinstance(text, str) for text in (*texts, *captions)):
        raise ValueError("a text is missing or of the wrong type")
    return Record(
        image_id=fields["image_id"],
        dataset=fields["dataset"],
        file=fields["file"],
        image=fields["image"],
        captions=tuple(captions),
    )


def pack_metadata(metadata: Metadata) -> bytes:
    """Value of the metadata key."""
    return json.dumps({"format": FORMAT, "version": VERSION, **asdict(metadata)}).encode()


def unpack_metadata(value: bytes) -> Metadata:
    """The metadata in ``value``.

    Raises:
        ValueError: if it is not the metadata of a store of this format and version.
    """
    fields = json.loads(value.decode())
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise ValueError(f"expected the format {FORMAT}")
    if fields.get("version") != VERSION:
        raise ValueError(f"expected version {VERSION}, found {fields.get('version')!r}")
    names = Metadata.__dataclass_fields__
    missing = [name for name in names if name not in fields]
    if missing or not isinstance(fields["count"], int):
        raise ValueError(f"metadata without {', '.join(missing) or 'a whole count'}")
    return Metadata(**{name: fields[name] for name in names})
