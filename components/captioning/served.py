"""A captioner or a backbone as a model that MLflow serves: pictures in, captions or features out.

MLflow keeps a copy of this file in the model, beside weights and code, and runs it when the model is loaded;
nothing is unpickled. Requests and answers are those of ``served_schema.json``.
"""

import base64
import binascii
import os
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import torch
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pydantic import BaseModel, create_model
from torch import Tensor, nn

import components
from components.captioning.checkpoint import PUBLISHED_TRANSFORM, open_captioner
from components.core import machine
from components.core.errors import InputError
from components.core.files import writing
from components.data.image import DecodeError, decode
from components.data.transforms import EvalTransform
from components.models.backbones import export_backbone, load_backbone

SCHEMA_VERSION = "1"  # of the three classes below; a change that a client notices makes another one
IMAGES_VARIABLE = "VIRTEX_SERVED_IMAGES"
_CAPTIONER, _BACKBONE = "captioner", "backbone"
_BATCH, _BEAM_SIZE = 16, 5  # images; of the paper's public code


class Picture(BaseModel):
    """One of the two: a file's bytes in base64, or a path below the folder of VIRTEX_SERVED_IMAGES."""

    base64: str | None = None
    path: str | None = None


class ServedCaption(BaseModel):
    """A caption with its natural log-probability, summed over the tokens."""

    caption: str
    log_probability: float


class Answer(BaseModel):
    """What a picture has: captions of a captioner, features of a backbone, or why it has neither."""

    captions: list[ServedCaption] | None = None
    features: list[float] | None = None
    error: str | None = None


Write = Callable[[Tensor], list[Answer]]


class Served(PythonModel):
    """The model, whichever of the two was saved. A picture that cannot be read has an error in its place."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the weights."""
        path, config = Path(context.artifacts["weights"]), context.model_config or {}
        opened = _open_captioner if config["kind"] == _CAPTIONER else _open_backbone
        self._transform, self._write = opened(path)

    def predict(
        self, context: PythonModelContext, model_input: list[Picture], params: dict[str, Any] | None = None
    ) -> list[Answer]:
        """Answer each picture, in order."""
        answers: list[Answer] = []
        for start in range(0, len(model_input), _BATCH):
            seen = [self._seen(picture) for picture in model_input[start : start + _BATCH]]
            images = [image for image in seen if isinstance(image, Tensor)]
            written = iter(self._write(torch.stack(images)) if images else ())
            answers += [next(written) if isinstance(s, Tensor) else Answer(error=s) for s in seen]
        return answers

    def _seen(self, picture: Picture) -> Tensor | str:
        try:
            return self._transform(decode(_bytes(picture)))
        except DecodeError as error:
            return f"not an image that can be read ({error})"
        except OSError as error:
            return f"{picture.path}: cannot be read ({error.strerror})"
        except InputError as error:
            return str(error)


def save_captioner_model(weights: Path, path: Path) -> None:
    """Write a captioner's file as a model of MLflow's, a folder.

    Raises:
        InputError: it is no file that captions alone.
    """
    open_captioner(str(weights), "cpu")
    _save(weights, path, _CAPTIONER)


def save_backbone_model(cnn: nn.Module, about: Mapping[str, str], path: Path) -> None:
    """Write a backbone as a model of MLflow's, a folder; ``about`` is its file's metadata."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "backbone.safetensors")
        export_backbone(cnn, weights, about["architecture"], about.get("source", ""), about)
        _save(weights, path, _BACKBONE)


def _save(weights: Path, path: Path, kind: str) -> None:
    needed = [line for line in metadata.requires("virtex-pipeline") or () if "extra ==" not in line]
    with writing(path) as temporary:
        mlflow.pyfunc.save_model(
            str(temporary),
            python_model=__file__,
            artifacts={"weights": str(weights)},
            code_paths=[str(Path(components.__file__ or "").parent)],
            pip_requirements=needed,
            model_config={"kind": kind},
            metadata={"schema": SCHEMA_VERSION},
        )


def _open_captioner(path: Path) -> tuple[EvalTransform, Write]:
    captioner = open_captioner(str(path), machine.device_name())

    def write(images: Tensor) -> list[Answer]:
        found = captioner.search(images, _BEAM_SIZE)
        return [
            Answer(captions=[ServedCaption(caption=c.text, log_probability=c.log_probability) for c in best])
            for best in found
        ]

    return captioner.transform, write


def _open_backbone(path: Path) -> tuple[EvalTransform, Write]:
    device = machine.device_name()
    backbone = load_backbone(path)[0].to(device)

    def write(images: Tensor) -> list[Answer]:
        with torch.inference_mode():
            return [Answer(features=row) for row in backbone(images.to(device)).tolist()]

    return PUBLISHED_TRANSFORM, write


def _bytes(picture: Picture) -> bytes:
    """Return the file.

    Raises:
        InputError: not exactly one of the two is given; text that is no base64; a path elsewhere.
    """
    if (picture.base64 is None) == (picture.path is None):
        raise InputError("give either base64 or path")
    if picture.base64 is not None:
        try:
            return base64.b64decode(picture.base64, validate=True)
        except binascii.Error as error:
            raise InputError(f"not base64 ({error})") from None
    folder = os.environ.get(IMAGES_VARIABLE)
    if not folder:
        raise InputError(f"paths are not served: {IMAGES_VARIABLE} names no folder; send base64")
    path = Path(folder, picture.path or "").resolve()
    if not path.is_relative_to(Path(folder).resolve()):
        raise InputError(f"{picture.path}: not below the folder of {IMAGES_VARIABLE}")
    return path.read_bytes()


def schema() -> dict[str, Any]:
    """Return the JSON schemas of a request to /invocations and of its answer, as the repository has them."""
    request = create_model("Request", inputs=(list[Picture], ...))
    answer = create_model("Response", predictions=(list[Answer], ...))
    return {
        "version": SCHEMA_VERSION,
        "request": request.model_json_schema(),
        "response": answer.model_json_schema(),
    }


mlflow.models.set_model(Served())
