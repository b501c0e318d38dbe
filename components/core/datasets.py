"""The datasets that the pipeline knows by name: what they are, where their archives lie, what must come out.

Facts only, each with its source, and the one place where a name stands: the keys of params.yaml, the stages
``download@<dataset>`` and the manifest's parts follow from it. How a dataset is read is said in
``components.sources.origins``. ``download@<dataset>`` runs again when this file changes.

A size or a checksum is None where its publisher names none and we know none for sure: then the first
download's SHA-256, kept in DVC's record of the archives, is what later ones are held to.
"""

from collections.abc import Mapping
from dataclasses import dataclass

GB = 10**9


@dataclass(frozen=True, slots=True)
class Archive:
    """One file of a published dataset.

    Attributes:
        name: of the file.
        urls: official places, the preferred one first.
        size: bytes.
        md5: in hexadecimal, as its publisher or torchvision 0.29 (``torchvision/datasets``) names it.
        unpacked_bytes: more than this never comes out of it; ours, rounded up.
        into: folder below the dataset's own that it is unpacked into.
        inner: its members are archives, each unpacked into a folder of its own name.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None
    md5: str | None
    unpacked_bytes: int
    into: str = ""
    inner: bool = False


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset as it is published.

    Attributes:
        title: its name for people.
        archives: all of them are needed.
        counts: what the reader must find, in the shape of its figures; a subset of them.
        telling_split: the split whose number of images tells it from other data in its layout.
        captioned: whether it is to pretrain on, one of any number; the others are each a benchmark's.
        root: below the unpacked archives, the folder that the dataset's reader takes.
        licence: what its publisher asks of the user before the download, where a person must do that.
    """

    title: str
    archives: tuple[Archive, ...]
    counts: Mapping[str, Mapping[str, int]]
    telling_split: str
    captioned: bool = False
    root: str = ""
    licence: str | None = None

    @property
    def telling_images(self) -> int:
        """The number of images of the telling split."""
        return self.counts[self.telling_split]["images"]


# https://cocodataset.org/#download. MD5 as many projects that fetch them hold them to.
_COCO = ("https://s3.amazonaws.com/images.cocodataset.org", "http://images.cocodataset.org")


def _coco(path: str, size: int, md5: str, unpacked_bytes: int) -> Archive:
    urls = tuple(f"{base}/{path}" for base in _COCO)
    return Archive(path.rpartition("/")[2], urls, size, md5, unpacked_bytes)


_COCO_VAL2017 = (
    _coco("zips/val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80", GB),
    _coco(
        "annotations/annotations_trainval2017.zip", 252_907_541, "f4bbac642086de4f52a3fdda2de5fa2c", 2 * GB
    ),
)


# Checksums of VOC as in torchvision/datasets/voc.py.
_VOC = ("https://thor.robots.ox.ac.uk/pascal/VOC", "http://host.robots.ox.ac.uk/pascal/VOC")


def _voc(year: int, name: str, size: int, md5: str, unpacked_bytes: int) -> Archive:
    return Archive(name, tuple(f"{base}/voc{year}/{name}" for base in _VOC), size, md5, unpacked_bytes)


# https://www.lvisdataset.org/dataset names neither sizes nor checksums.
_LVIS = (
    "https://dl.fbaipublicfiles.com/LVIS",
    "https://s3-us-west-2.amazonaws.com/dl.fbaipublicfiles.com/LVIS",
)


def _lvis(name: str, unpacked_bytes: int) -> Archive:
    return Archive(
        name, tuple(f"{base}/{name}" for base in _LVIS), None, None, unpacked_bytes, into="annotations"
    )


# Checksums as in the README of https://github.com/visipedia/inat_comp (2018).
_INATURALIST = "https://ml-inat-competition-datasets.s3.amazonaws.com/2018"


def _inaturalist(name: str, md5: str, unpacked_bytes: int, into: str = "") -> Archive:
    return Archive(name, (f"{_INATURALIST}/{name}",), None, md5, unpacked_bytes, into)


# Checksums as in torchvision/datasets/imagenet.py.
def _imagenet(name: str, size: int | None, md5: str, unpacked_bytes: int, into: str, inner: bool) -> Archive:
    return Archive(name, (), size, md5, unpacked_bytes, into, inner)


# Its authors gave it out by mail; this copy is the one that most projects fetch. Checksums as in torchvision
# for R, https://github.com/mlverse/torchvision.
_FLICKR8K = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k"


def _flickr8k(name: str, md5: str, unpacked_bytes: int) -> Archive:
    return Archive(name, (f"{_FLICKR8K}/{name}",), None, md5, unpacked_bytes)


DATASETS: dict[str, Dataset] = {
    "coco": Dataset(
        title="COCO",
        archives=(
            _coco("zips/train2017.zip", 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2", 21 * GB),
            *_COCO_VAL2017,
        ),
        counts={
            "train": {"images": 118_287, "captions": 591_753, "objects": 860_001},
            "val": {"images": 5_000, "captions": 25_014, "objects": 36_781},
        },
        telling_split="train",
        captioned=True,
    ),
    # our own division, small enough to fetch and train on anywhere: components/sources/download/unpack.py
    "coco_val2017": Dataset(
        title="COCO val2017, divided",
        archives=_COCO_VAL2017,
        counts={"train": {"images": 4_500}, "val": {"images": 500}},
        telling_split="train",
        captioned=True,
    ),
    "voc2007": Dataset(
        title="VOC2007",
        archives=(
            _voc(2007, "VOCtrainval_06-Nov-2007.tar", 460_032_000, "c52e279531787c972589f7e41ab4ae64", GB),
            _voc(2007, "VOCtest_06-Nov-2007.tar", 451_020_800, "b6e924de25625d8de591ea690078ad9f", GB),
        ),
        root="VOCdevkit",
        counts={"trainval": {"images": 5_011}, "test": {"images": 4_952}},
        telling_split="test",
    ),
    "voc2012": Dataset(
        title="VOC2012",
        archives=(
            _voc(
                2012, "VOCtrainval_11-May-2012.tar", 1_999_639_040, "6cd6e144f989b92b3379bac3b3de84fd", 3 * GB
            ),
        ),
        root="VOCdevkit",
        counts={
            "trainval": {"images": 11_540},
            "segmentation_train": {"images": 1_464},
            "segmentation_val": {"images": 1_449},
        },
        telling_split="trainval",
    ),
    "imagenet": Dataset(
        title="ImageNet",
        archives=(
            _imagenet(
                "ILSVRC2012_img_train.tar",
                147_897_477_120,
                "1d675b47d978889d74fa0da5fadfb00e",
                150 * GB,
                into="train",
                inner=True,
            ),
            _imagenet(
                "ILSVRC2012_img_val.tar",
                6_744_924_160,
                "29b22e2961454d5413ddabcf34fc5622",
                7 * GB,
                into="val",
                inner=False,
            ),
            _imagenet(
                "ILSVRC2012_devkit_t12.tar.gz",
                None,
                "fa75699e90414af021442c21a62c3abf",
                GB // 10,
                into="",
                inner=False,
            ),
        ),
        counts={
            "train": {"images": 1_281_167, "classes": 1_000},
            "val": {"images": 50_000, "classes": 1_000},
        },
        licence=(
            "ImageNet is given to people, not to programs: sign up at https://image-net.org/download.php, "
            "accept the terms, and fetch the ILSVRC 2012 files of tasks 1 & 2 in a browser"
        ),
        telling_split="val",
    ),
    "inaturalist": Dataset(
        title="iNaturalist 2018",
        archives=(
            _inaturalist("train_val2018.tar.gz", "b1c6952ce38f31868cc50ea72d066cc3", 140 * GB),
            _inaturalist("train2018.json.tar.gz", "bfa29d89d629cbf04d826a720c0a68b0", GB, "annotations"),
            _inaturalist("val2018.json.tar.gz", "f2ed8bfe3e9901cdefceb4e53cd3775d", GB, "annotations"),
        ),
        counts={
            "train": {"images": 437_513, "classes": 8_142},
            "val": {"images": 24_426, "classes": 8_142},
        },
        telling_split="val",
    ),
    "lvis": Dataset(
        title="LVIS",
        archives=(_lvis("lvis_v1_train.json.zip", 3 * GB), _lvis("lvis_v1_val.json.zip", GB)),
        counts={
            "train": {"images": 100_170, "objects": 1_270_141, "classes": 1_203},
            "val": {"images": 19_809, "objects": 244_707, "classes": 1_203},
        },
        telling_split="val",
    ),
    "flickr8k": Dataset(
        title="Flickr8k",
        archives=(
            _flickr8k("Flickr8k_Dataset.zip", "f18a1e2920de5bd84dae7cf08ec78978", 2 * GB),
            _flickr8k("Flickr8k_text.zip", "bf6c1abcb8e4a833b7f922104de18627", GB // 50),
        ),
        counts={
            "train": {"images": 6_000, "captions": 30_000},
            "val": {"images": 1_000, "captions": 5_000},
        },
        telling_split="train",
        captioned=True,
    ),
}

BENCHMARK_DATASETS = tuple(name for name, dataset in DATASETS.items() if not dataset.captioned)
# What each benchmark reads of them; `coco_segmentation` and `caption` read captioned datasets.
BENCHMARK_DATA = {
    "voc07": ("voc2007",),
    "imagenet_linear": ("imagenet",),
    "inaturalist": ("inaturalist",),
    "lvis_segmentation": ("lvis",),
    "voc_detection": ("voc2007", "voc2012"),
}
