"""Features of frozen backbones for whole datasets of images, kept for the next stage that needs them.

A file is named by a digest of all that its features depend on: the weights and structure of the
backbone, the bytes of every image in their order, the transform with its code and libraries, and what
decides about rounding. A changed file or transform is thus a miss, and a hit has the bits that
extraction would give. The folder is git-ignored and unknown to DVC, as checkpoints are: it is what a
stopped stage resumes from, and may be deleted at any time.
"""

import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from components.core import paths
from components.core.errors import InputError
from components.core.files import writing
from components.core.logs import own_logger
from components.core.tensor_files import require_sound, save_stable
from components.data import any_format, dataset, image, normalisation, transforms
from components.data.batch import collate_images
from components.data.dataset import ImageDataset
from components.data.loader import in_order_loader
from components.data.transforms import EvalTransform

Features = NDArray[np.float32]

FOLDER = paths.SCRATCH_DIR / "features"
MAX_BYTES = 4 * 2**30  # of the whole folder; ImageNet's validation images on a ResNet-50 take 0.4 GB
CODE = (any_format, dataset, image, normalisation, transforms)  # makes features, with this file
LIBRARIES = ("torch", "torchvision", "opencv-python-headless", "simplejpeg", "pillow")

_logger = own_logger(__name__)


def extract_features(
    backbone: nn.Module,
    dataset: ImageDataset,
    *,
    batch_size: int,
    num_workers: int,
    device: torch.device | str,
    description: str = "features",
) -> Features:
    """Return features ``(num_images, feature_size)`` in the dataset's order, with a progress bar.

    The backbone maps images ``(batch, 3, height, width)`` to ``(batch, feature_size)``, as the one of
    `components.models.backbones.load_backbone`, or to maps, which come out as they are. It is moved to
    ``device`` and put in eval mode, so that BatchNorm uses its running statistics and no image changes
    another one's features.

    Raises:
        InputError: if an image cannot be read.
    """
    backbone = backbone.to(device).eval()
    loader = in_order_loader(dataset, collate_images, batch_size=batch_size, num_workers=num_workers)
    found: Features = np.empty(0, np.float32)
    done = 0
    with (
        torch.inference_mode(),
        tqdm(total=len(dataset), desc=description, unit="image", mininterval=1.0) as bar,
    ):
        for batch in loader:
            features = backbone(batch["image"].to(device, non_blocking=True)).float().cpu().numpy()
            if not done:  # filled in place: maps of a dataset take gigabytes, once
                found = np.empty((len(dataset), *features.shape[1:]), np.float32)
            found[done : done + len(features)] = features
            done += len(features)
            bar.update(len(features))
    return found


def l2_normalised(features: Features) -> Features:
    """Scale rows ``(num_images, feature_size)`` to unit length; a row of zeros stays as it is."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    normalised: Features = np.divide(features, np.where(lengths > 0, lengths, 1), dtype=np.float32)
    return normalised


def cached_features(
    backbone: nn.Module,
    image_paths: Sequence[Path],
    transform: EvalTransform,
    *,
    batch_size: int,
    num_workers: int,
    device: torch.device | str,
    description: str = "features",
    upright: bool = True,
    folder: Path = FOLDER,
    max_bytes: int = MAX_BYTES,
) -> Features:
    """Return what `extract_features` would of these images, from the cache if it is there.

    Args:
        image_paths: images, in the order of the features.
        upright: turn images as their metadata say.
        folder: of the cache.
        max_bytes: of the whole folder; what was not used for longest goes first.

    Raises:
        InputError: if an image cannot be read.
    """
    backbone = backbone.to(device).eval()
    key = {
        "code": code_digest(),
        "backbone": backbone_digest(backbone),
        "images": images_digest(image_paths, num_workers),
        "transform": {"type": type(transform).__name__, **vars(transform)},
        "upright": upright,
        "batch_size": batch_size,
        "device": torch.device(device).type,
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:40]
    path = folder / f"{name}.safetensors"
    found = _read(path, len(image_paths))
    if found is not None:
        print(f"{description}: {len(found)} images, kept from before in {path}", flush=True)
        return found
    extracted = extract_features(
        backbone,
        ImageDataset(image_paths, transform, upright),
        batch_size=batch_size,
        num_workers=num_workers,
        device=device,
        description=description,
    )
    _keep(path, extracted, max_bytes)
    return extracted


def backbone_digest(backbone: nn.Module) -> str:
    """Return the SHA-256 of a module's structure, as it prints itself, and of its weights and buffers."""
    digest = hashlib.sha256(repr(backbone).encode())
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@functools.cache
def code_digest() -> str:
    """Return the SHA-256 of this file and of the source of `CODE`."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for module in CODE:
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()


def images_digest(image_paths: Sequence[Path], num_workers: int) -> str:
    """Return the SHA-256 over the contents of files, in order, whatever their names.

    Raises:
        InputError: if a file cannot be read.
    """
    digest = hashlib.sha256()
    with ThreadPoolExecutor(max(1, num_workers), "image-hasher") as pool:
        for content in pool.map(_file_digest, image_paths):
            digest.update(content)
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the dataset's folder") from error


def _read(path: Path, num_images: int) -> Features | None:
    """Return what was kept at ``path``; a damaged file is passed over and will be written again."""
    if not path.is_file():
        return None
    try:
        features = load_file(path)["features"]
        require_sound(path)
        if features.dtype != torch.float32 or features.dim() != 2 or len(features) != num_images:
            raise ValueError(f"holds {features.dtype} {tuple(features.shape)}")
        os.utime(path)  # used just now
    except FileNotFoundError:  # another stage has just made room
        return None
    except (safetensors.SafetensorError, KeyError, ValueError, OSError) as error:
        _logger.warning("%s is damaged and was skipped: %s", path, error)
        return None
    return features.numpy()


def _keep(path: Path, features: Features, max_bytes: int) -> None:
    """Write the file and make room; a cache that cannot be written is a pity and no failure."""
    if features.nbytes > max_bytes:
        return
    try:
        with writing(path) as temporary:
            save_stable({"features": torch.from_numpy(features)}, {"format": "virtex-features"}, temporary)
        _make_room(path, max_bytes)
    except OSError as error:
        _logger.warning("%s: features are not kept (%s)", path, error.strerror or error)


def _make_room(newest: Path, max_bytes: int) -> None:
    total, entries = 0, []
    for path in newest.parent.glob("*.safetensors"):
        try:
            status = path.stat()
        except FileNotFoundError:  # another stage is making room as well
            continue
        total += status.st_size
        entries.append((path != newest, status.st_mtime_ns, status.st_size, path))
    for is_other, _, size, path in sorted(entries, key=lambda entry: entry[1]):
        if total <= max_bytes:
            return
        if is_other:
            path.unlink(missing_ok=True)
            total -= size
