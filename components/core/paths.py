"""Where every stage's files lie, relative to the repository root (the working directory).

dvc.yaml names the same paths; tests/test_dvc_yaml.py holds the two together.
"""

from pathlib import Path

PARAMS = Path("params.yaml")

DATASETS_DIR = Path("data/datasets")
DATASETS_MANIFEST = DATASETS_DIR / "manifest.json"  # of all; stages read their part's, see dataset_part
DATA_SOURCES = Path("data/sources.json")
TOKENIZER_MODEL = Path("data/tokenizer/captions.model")
TOKENIZER_VOCAB = Path("data/tokenizer/captions.vocab")
LMDB_DIR = Path("data/lmdb")  # {split}.lmdb, one file a split

# What comes from elsewhere; it outlives data/ and outputs/.
ARCHIVES_DIR = Path("datasets/archives")  # {dataset}/, tracked by DVC
INCOMING_DIR = Path("datasets/incoming")  # {dataset}/, where archives arrive or are put by hand
UNPACKED_DIR = Path("datasets/unpacked")  # {dataset}-{key of its archives}/, made again when missing

OUTPUTS_DIR = Path("outputs")
CANDIDATES_DIR = OUTPUTS_DIR / "pretrain" / "checkpoints"  # iteration_{count}.safetensors
CAPTIONER = OUTPUTS_DIR / "select" / "captioner.safetensors"
BACKBONES_DIR = OUTPUTS_DIR / "backbones"  # {name}.safetensors
CAPTIONERS_DIR = OUTPUTS_DIR / "captioners"  # {name}.safetensors, of imported models
EXPORTS_DIR = OUTPUTS_DIR / "exports"  # in formats of other libraries
REPORT_DIR = OUTPUTS_DIR / "report"

SCRATCH_DIR = Path(".scratch")  # resume checkpoints; git-ignored and unknown to DVC
MLFLOW_RUN_FILE = "mlflow_run.json"  # in each stage's output folder


def dataset_part(*names: str) -> Path:
    """Return the manifest of one part of the datasets, such as ``voc2007`` or ``images, coco``.

    components.sources.parts says which there are. A stage depends on the part's folder alone.
    """
    return DATASETS_DIR.joinpath(*names) / DATASETS_MANIFEST.name


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
    """Return the folder of a stage's own outputs: ``outputs/voc07/random`` for ``voc07@random``."""
    return OUTPUTS_DIR / stage / item if item else OUTPUTS_DIR / stage
