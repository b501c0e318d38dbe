"""The format of a captioned-image store: one LMDB file per split.

The file is an LMDB data file without a folder around it (``MDB_NOSUBDIR``), with one unnamed
database. Nothing in it belongs to one programming language; a reader needs LMDB, MessagePack and
JSON.

Records
    Key: the record's index from 0, as an unsigned 64-bit big-endian integer (8 bytes), so that
    LMDB's own order is the order of the indices. Value: a MessagePack map

    ==========  ==============  ================================================================
    ``v``       integer         version of the record, 2
    ``image_id``  string        ``<dataset>/<the dataset's own id>``, unique in the file
    ``dataset``   string        name of the dataset in params.yaml
    ``file``      string        name of the image file it was read from, without folders
    ``image``     binary        the encoded image; its first bytes say which format
    ``captions``  array of str  at least one caption as written, UTF-8, not normalised
    ``labels``  array of int    object categories the image shows, from 1, rising; may be empty
    ==========  ==============  ================================================================

    The image is the file's own bytes, or, when it was larger than the store's ``short_side``, a
    JPEG of the resized pixels, or the pixels themselves as a binary PPM (``P6``), where
    ``lmdb.decoded`` asked for them. ``file`` keeps the old name and extension. A file's own bytes are
    turned by the reader, as their EXIF orientation says; resized and decoded pixels are upright.

Index
    Key: the 9 bytes ``__index__``, which sort behind every index of a record that can occur. Value: a
    MessagePack map of ``captions`` (array: how many each record has) and ``labels`` (array: each
    record's ``labels``), so that a run can choose records without reading their images.

Metadata
    Key: the 8 bytes ``__meta__``, the last. Value: UTF-8 JSON ``{"format": "virtex-lmdb", "version":
    2, "count": <records>, "captions": <captions in all>, "image_bytes": <bytes of encoded images>,
    "skipped": <images left out>, "short_side": <pixels or null>, "jpeg_quality": <1 to 100>,
    "categories": [<name of label 1>, ...]}``. It is written last: a file without it is unfinished.
    A shard and a head (components.data.shards) have one more field, ``shard`` or ``head``.

Readers refuse other versions. A field added in a way that older readers may ignore keeps the
version; any other change raises it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import msgpack

from components.core.files import parse_json
from components.params import Lmdb

FORMAT = "virtex-lmdb"
VERSION = 2  # 1 had no labels, categories and index
INDEX_KEY = b"__index__"
META_KEY = b"__meta__"


@dataclass(frozen=True, slots=True)
class StoreForm:
    """Form of the images of a store, and names of their labels.

    Attributes:
        short_side: images with a larger shorter side are resized to it (never enlarged); None keeps
            every file's own bytes.
        jpeg_quality: of the resized images, 1 to 100.
        decoded: keep pixels (PPM) of every image instead of its own bytes or a JPEG.
        categories: names of the images' labels; label k is ``categories[k - 1]``.
        on_unreadable: ``refuse`` raises at the first unreadable image, ``skip`` leaves it out.
        in_tars: keep of images in tars the place alone (components.data.tar_images).
    """

    short_side: int | None = None
    jpeg_quality: int = 95
    decoded: bool = False
    categories: tuple[str, ...] = ()
    on_unreadable: Literal["refuse", "skip"] = "refuse"
    in_tars: bool = False

    @classmethod
    def of(cls, lmdb: Lmdb, categories: tuple[str, ...], in_tars: bool = False) -> Self:
        """Return what params.yaml asks for."""
        return cls(lmdb.short_side, lmdb.jpeg_quality, lmdb.decoded, categories, lmdb.on_unreadable, in_tars)


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a store with its captions and labels; ``image`` is encoded as in a file."""

    image_id: str
    dataset: str
    file: str
    image: bytes
    captions: tuple[str, ...]
    labels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreIndex:
    """What each record holds besides its image, by the record's index."""

    num_captions: tuple[int, ...]
    labels: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """What a shard says about itself besides.

    Attributes:
        number: of the shard, from 0.
        of: how many shards the split has.
        known: digest of what is known of the images that fall into it but for their pixels, in order,
            those left out included.
        sources: digest of all that its bytes are made from, code included.
        records: digest of its records.
        datasets: of its images.
        left_out: positions, among the images that fall into it, of those that could not be read.
    """

    number: int
    of: int
    known: str
    sources: str
    records: str
    datasets: tuple[str, ...]
    left_out: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HeadFacts:
    """Metadata of a head alone: for each shard, the digest of all that is known of its images."""

    known: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a store says about itself; the module's docstring explains the fields."""

    count: int
    captions: int
    image_bytes: int
    skipped: int
    short_side: int | None
    jpeg_quality: int
    categories: tuple[str, ...] = ()
    shard: ShardFacts | None = None
    head: HeadFacts | None = None


def key_of(index: int) -> bytes:
    """Return the key of record ``index``."""
    return index.to_bytes(8, "big")


def pack_record(record: Record) -> bytes:
    """Return the value of ``record``; equal records give equal bytes."""
    packer = msgpack.Packer()

    def packed(fields: dict[str, Any]) -> list[bytes]:
        return [packer.pack(part) for item in fields.items() for part in item]

    before = {"v": VERSION, "image_id": record.image_id, "dataset": record.dataset, "file": record.file}
    after = {"captions": list(record.captions), "labels": list(record.labels)}
    head = (packer.pack_map_header(len(before) + 1 + len(after)), *packed(before), packer.pack("image"))
    # The packer would copy the image twice: it leaves those bytes, and the header before them, to us.
    return b"".join((*head, _binary_header(len(record.image)), record.image, *packed(after)))


def _binary_header(size: int) -> bytes:
    """Return what MessagePack writes before so many bytes of binary."""
    for mark, width in ((b"\xc4", 1), (b"\xc5", 2), (b"\xc6", 4)):
        if size < 256**width:
            return mark + size.to_bytes(width, "big")
    raise ValueError(f"an image of {size:,} bytes is too large for MessagePack")


def unpack_record(value: bytes | memoryview) -> Record:
    """Return the record in ``value``.

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
    labels = fields.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise ValueError("the labels are missing or of the wrong type")
    return Record(
        image_id=fields["image_id"],
        dataset=fields["dataset"],
        file=fields["file"],
        image=fields["image"],
        captions=tuple(captions),
        labels=tuple(labels),
    )


def pack_index(num_captions: Sequence[int], labels: Sequence[Sequence[int]]) -> bytes:
    """Return the value of the index key, from what each record has, in order."""
    packed: bytes = msgpack.packb({"captions": list(num_captions), "labels": [list(of) for of in labels]})
    return packed


def unpack_index(value: bytes) -> StoreIndex:
    """Return the index in ``value``, which lies in a store of this version.

    Raises:
        ValueError: if the bytes are damaged.
    """
    try:
        fields = msgpack.unpackb(value, use_list=False)
        return StoreIndex(fields["captions"], fields["labels"])
    except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"its index is damaged ({error})") from error


def pack_metadata(metadata: Metadata) -> bytes:
    """Return the value of the metadata key."""
    fields = {key: value for key, value in asdict(metadata).items() if key not in _FACTS or value is not None}
    return json.dumps({"format": FORMAT, "version": VERSION, **fields}).encode()


def unpack_metadata(value: bytes | str) -> Metadata:
    """Return the metadata in ``value``.

    Raises:
        ValueError: if it is not the metadata of a store of this format and version.
    """
    fields = parse_json(value)
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise ValueError(f"expected the format {FORMAT}")
    if fields.get("version") != VERSION:
        raise ValueError(f"expected version {VERSION}, found {fields.get('version')!r}")
    names = Metadata.__dataclass_fields__.keys() - _FACTS.keys()
    missing = sorted(name for name in names if name not in fields)
    if missing or not isinstance(fields["count"], int):
        raise ValueError(f"metadata without {', '.join(missing) or 'a whole count'}")
    plain: dict[str, Any] = {name: fields[name] for name in names}
    plain["categories"] = tuple(fields["categories"])
    return Metadata(**plain | {name: _facts(fields.get(name), kind) for name, kind in _FACTS.items()})


_FACTS: dict[str, type[ShardFacts | HeadFacts]] = {"shard": ShardFacts, "head": HeadFacts}


def _facts(fields: Any, kind: type[ShardFacts | HeadFacts]) -> ShardFacts | HeadFacts | None:
    if fields is None:
        return None
    try:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return kind(**values)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"the facts of a {kind.__name__} are damaged ({error})") from None
