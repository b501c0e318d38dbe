"""VirTex backbones through torch.hub, with torch and torchvision alone.

    torch.hub.load(REPO, "resnet50", pretrained=True)                     # the authors' weights
    torch.hub.load(REPO, "resnet50", weights="virtex_torchvision.pth")    # of `virtex export`
    torch.hub.load(REPO, "resnet50", weights="https://host/x.pth#sha256=...")

Every entry point gives a torchvision ResNet whose ``fc`` is the identity: images
``(batch, 3, height, width)``, RGB, normalised with ImageNet's mean and standard deviation, to features
``(batch, 2048)``, or ``(batch, 512)`` of resnet18 and resnet34. (In VirTex's public code ``avgpool`` is
the identity too, so that torchvision flattens the feature map; ``model.avgpool = torch.nn.Identity()`` gives
that.) What is downloaded stays in ``virtex`` below `torch.hub.get_dir`, and is read with
``weights_only=True``.
"""

import hashlib
import os
import pathlib
import pickle
import urllib.parse
from typing import Any as _Any  # what has no underscore and can be called, torch.hub lists

import torch
import torchvision
from torch import nn

dependencies = ["torch", "torchvision"]

WEIGHTS_VARIABLE = "VIRTEX_WEIGHTS_URL"  # a path or URL instead of the authors'; {name} in it is filled in
CHECKSUM = "#sha256="
# The authors' addresses (kdexd/virtex at 49cb37b), which come without checksums.
PUBLISHED = {
    "bicaptioning_R_50_L1_H2048": "https://www.dropbox.com/s/mbeeso8wyieq8wy/bicaptioning_R_50_L1_H2048.pth?dl=1",
    "bicaptioning_R_50W2X_L1_H1024": "https://www.dropbox.com/s/5o198ux709r6376/bicaptioning_R_50W2X_L1_H1024.pth?dl=1",
    "bicaptioning_R_101_L1_H1024": "https://www.dropbox.com/s/bb74jubt68cpn80/bicaptioning_R_101_L1_H1024.pth?dl=1",
}
PREFIXES = ("visual.cnn.", "module.visual.cnn.", "")  # of a whole VirTex model, or of the backbone alone


def resnet50(
    pretrained: bool = False, weights: str | None = None, progress: bool = True, **options: _Any
) -> nn.Module:
    """Build ResNet-50 of the paper's best model: bicaptioning on COCO Captions, L1 H2048 (VOC07 88.7 mAP).

    Args:
        pretrained: load the weights at VIRTEX_WEIGHTS_URL if that is set, or else the authors'.
        weights: a path or URL to load instead; ``#sha256=...`` after it is compared with the file's.
        progress: show the progress of the download.
        options: of ``torchvision.models.resnet50``.
    """
    return _resnet("resnet50", "bicaptioning_R_50_L1_H2048", pretrained, weights, progress, options)


def wide_resnet50_2(
    pretrained: bool = False, weights: str | None = None, progress: bool = True, **options: _Any
) -> nn.Module:
    """Build ResNet-50 of double width (w2x): bicaptioning, L1 H1024 (VOC07 88.5 mAP). See `resnet50`."""
    return _resnet("wide_resnet50_2", "bicaptioning_R_50W2X_L1_H1024", pretrained, weights, progress, options)


def resnet101(
    pretrained: bool = False, weights: str | None = None, progress: bool = True, **options: _Any
) -> nn.Module:
    """Build ResNet-101 of bicaptioning, L1 H1024 (VOC07 88.7 mAP). See `resnet50`."""
    return _resnet("resnet101", "bicaptioning_R_101_L1_H1024", pretrained, weights, progress, options)


def resnet34(
    pretrained: bool = False, weights: str | None = None, progress: bool = True, **options: _Any
) -> nn.Module:
    """Build ResNet-34, for your own weights: the authors have published none, nor a VOC07 mAP.

    See `resnet50`.
    """
    return _resnet("resnet34", None, pretrained, weights, progress, options)


def resnet18(
    pretrained: bool = False, weights: str | None = None, progress: bool = True, **options: _Any
) -> nn.Module:
    """Build ResNet-18, the demo's, for your own weights: the authors have published none, nor a VOC07 mAP.

    See `resnet50`.
    """
    return _resnet("resnet18", None, pretrained, weights, progress, options)


def _resnet(
    architecture: str,
    name: str | None,
    pretrained: bool,
    weights: str | None,
    progress: bool,
    options: dict[str, _Any],
) -> nn.Module:
    model: nn.Module = torchvision.models.get_model(architecture, weights=None, **options)
    model.fc = nn.Identity()
    if pretrained or weights:
        configured = os.environ.get(WEIGHTS_VARIABLE, "").replace("{name}", name or architecture)
        source = str(weights or configured or PUBLISHED.get(name or "", ""))
        if not source:
            raise ValueError(
                f"{architecture}: the authors have published no weights of it; give yours as `weights`, "
                f"a path or URL, or set {WEIGHTS_VARIABLE}"
            )
        state = _trunk(_read(_local_file(source, progress), source), source)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise RuntimeError(f"{source}: not the weights of a {architecture}: {error}") from error
    return model


def _local_file(source: str, progress: bool) -> pathlib.Path:
    place, _, checksum = source.partition(CHECKSUM)
    if CHECKSUM in source and len(checksum) != 64:
        raise ValueError(f"{source}: expected 64 hexadecimal digits after {CHECKSUM}")
    path = pathlib.Path(place)
    if place.startswith(("http://", "https://")):
        file_name = os.path.basename(urllib.parse.urlsplit(place).path) or "weights"
        path = pathlib.Path(
            torch.hub.get_dir(), "virtex", f"{hashlib.sha256(place.encode()).hexdigest()[:12]}-{file_name}"
        )
        if not path.is_file():
            _download(place, path, checksum, progress)
            return path
    if not path.is_file():
        raise FileNotFoundError(f"{place}: no such file; `weights` is a path or an http(s) URL")
    if checksum and hashlib.sha256(path.read_bytes()).hexdigest() != checksum.lower():
        raise RuntimeError(f"{path}: its SHA-256 is not {checksum}; remove it, or correct the checksum")
    return path


def _download(url: str, path: pathlib.Path, checksum: str, progress: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Written aside, checked, then renamed.
        torch.hub.download_url_to_file(url, str(path), checksum.lower() or None, progress)
    except (OSError, RuntimeError) as error:
        raise RuntimeError(
            f"{url}: cannot be fetched ({error}); fetch the file by hand and give its path as `weights`, or "
            f"set {WEIGHTS_VARIABLE} to a path or another URL"
        ) from error


def _read(path: pathlib.Path, source: str) -> dict[str, _Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise RuntimeError(
            f"{source}: {path} is no whole file of plain weights as torch.save writes it; remove it and "
            "fetch it again, or make one with `virtex export --format torchvision`"
        ) from error
    if not isinstance(content, dict):
        raise RuntimeError(f"{source}: expected a dict of tensors, found a {type(content).__name__}")
    return next((content[key] for key in ("model", "state_dict") if key in content), content)


def _trunk(state: dict[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    """Return torchvision's names without the classifier, from a whole model or a backbone."""
    prefix = next((prefix for prefix in PREFIXES if f"{prefix}conv1.weight" in state), None)
    if prefix is None:
        raise RuntimeError(f"{source}: no ResNet in it; it has {', '.join(list(state)[:3])}")
    names = [name for name in state if name.startswith(prefix) and not name.startswith(f"{prefix}fc.")]
    return {name.removeprefix(prefix): state[name] for name in names}
