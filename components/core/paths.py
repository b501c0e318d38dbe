"""Where every stage's files lie, relative to the repository root (the working directory).

dvc.yaml names the same paths; tests/test_dvc_yaml.py holds the two together.
"""

from pathlib import Path

from components.core.published import BACKBONE_BENCHMARKS, STAGE_BENCHMARKS

PARAMS = Path("params.yaml")

DATASETS_DIR = Path("data/datasets")
DATASETS_MANIFEST = DATASETS_DIR / "manifest.json"  # of all; stages read their part's, see dataset_part
DATA_SOURCES = Path("data/sources.json")
TOKENIZER_MODEL = Path("data/tokenizer/captions.model")
DOCUMENT_FREQUENCIES = Path("data/tokenizer/document_frequencies.csv")
LMDB_DIR = Path("data/lmdb")  # {split}.lmdb, one file per split

# What comes from elsewhere; it outlives data/ and outputs/.
ARCHIVES_DIR = Path("datasets/archives")  # {dataset}/, tracked by DVC
INCOMING_DIR = Path("datasets/incoming")  # {dataset}/, where archives arrive or are put by hand
UNPACKED_DIR = Path("datasets/unpacked")  # {dataset}-{key of its archives}/, made again when missing
STREAMED_DIR = Path("datasets/streamed")  # tars of servers, as many as stream.cache_gib has room for

OUTPUTS_DIR = Path("outputs")
BENCHMARKS_DIR = OUTPUTS_DIR / "benchmarks"  # {benchmark}/{backbone}/
CANDIDATES_DIR = OUTPUTS_DIR / "pretrain" / "checkpoints"  # iteration_{count}.safetensors
CHOSEN_VOC07 = OUTPUTS_DIR / "select" / "voc07.json"  # results of the chosen model, if VOC07 chose it
CAPTIONER = OUTPUTS_DIR / "select" / "captioner.safetensors"
BACKBONES_DIR = OUTPUTS_DIR / "backbones"  # {name}.safetensors
CAPTIONERS_DIR = OUTPUTS_DIR / "captioners"  # {name}.safetensors, of imported models
EXPORTS_DIR = OUTPUTS_DIR / "exports"  # in formats of other libraries
REPORT_DIR = OUTPUTS_DIR / "report"

SCRATCH_DIR = Path(".scratch")  # resume checkpoints; git-ignored and unknown to DVC
CAPTIONS_NOW = SCRATCH_DIR / "captions.png"  # of the model in training, for whoever watches
MLFLOW_RUN_FILE = "mlflow_run.json"  # in each stage's output folder


def dataset_part(name: str) -> Path:
    """Return the manifest of one part of the datasets, such as ``voc07``.

    components.sources.manifest says which there are. A stage depends on the part's folder alone.
    """
    return DATASETS_DIR / name / DATASETS_MANIFEST.name


def lmdb_path(split: str) -> Path:
    """Return the path of one split's LMDB file; ``split`` is ``train`` or ``val``."""
    return LMDB_DIR / f"{split}.lmdb"


def backbone_path(name: str) -> Path:
    """Return the path of an exported backbone; ``name`` is ``virtex`` or a baseline's, such as ``random``."""
    return BACKBONES_DIR / f"{name}.safetensors"


def captioner_path(name: str) -> Path:
    """Return the path of an imported model with its textual head."""
    return CAPTIONERS_DIR / f"{name}.safetensors"


def exported_backbones() -> list[str]:
    """Return the names of the backbones that lie in `BACKBONES_DIR`."""
    return sorted(path.stem for path in BACKBONES_DIR.glob("*.safetensors"))


def stage_dir(stage: str, item: str | None = None) -> Path:
    """Return the folder of a stage's own outputs, such as ``outputs/lmdb/train`` of ``lmdb@train``.

    That of a benchmark, ``voc07`` or one of a ``detection``, has a folder per backbone below
    ``outputs/benchmarks``. ``caption`` is none of them: it measures the captioner, of which there is one.
    """
    name, item = benchmark_of(stage, item)
    parent = BENCHMARKS_DIR if name in BACKBONE_BENCHMARKS else OUTPUTS_DIR
    return parent / name / item if item else parent / name


def benchmark_of(stage: str, item: str | None) -> tuple[str, str | None]:
    """Return what results and params.yaml call a stage, and its backbone, split or other item.

    ``("voc_detection", "random")`` for ``detection@voc_detection-random``; other stages as they are given.
    """
    if stage in STAGE_BENCHMARKS and item:
        benchmark, _, backbone = item.partition("-")  # no benchmark has a hyphen
        return benchmark, backbone or None
    return stage, item
