"""A captioner and a backbone as MLflow's models: what they answer, in a process and through a server."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from components.captioning.checkpoint import open_captioner
from components.captioning.served import SCHEMA_VERSION, save_backbone_model, save_captioner_model, schema
from components.core.errors import InputError
from components.data.image import decode
from components.models.backbones import export_backbone, load_backbone

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, captioner_path: Path, tokenizer_path: Path) -> Path:
    """A captioner's and a backbone's model, one image, and a file beside it that is none."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copy(tokenizer_path, folder / "captions.model")
    shutil.copy(captioner_path, folder / "captioner.safetensors")
    save_captioner_model(folder / "captioner.safetensors", folder / "captioner")
    export_backbone(torchvision.models.resnet18(), folder / "b.safetensors", "resnet18", "virtex")
    save_backbone_model(*load_backbone(folder / "b.safetensors"), folder / "backbone")
    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "images" / "one.png")
    (folder / "images" / "broken.jpg").write_bytes(b"not an image")
    return folder


def requested(folder: Path) -> list[dict[str, str]]:
    """Two good pictures among some that each have another fault."""
    encoded = base64.b64encode((folder / "images" / "one.png").read_bytes()).decode()
    return [
        {"base64": encoded},
        {"base64": "!"},
        {"base64": base64.b64encode(b"text").decode()},
        {"path": "one.png"},
        {"path": "broken.jpg"},
        {"path": "../captions.model"},
        {"path": "absent.png"},
        {},
    ]


def check(folder: Path, answers: list[dict]) -> None:
    errors = [answer["error"] for answer in answers]
    assert [error is None for error in errors] == [True, False, False, True, False, False, False, False]
    for fault, error in zip(
        ("not base64", "not an image", "not an image", "not below", "No such file", "either"),
        [error for error in errors if error],
        strict=True,
    ):
        assert fault in error
    captioner = open_captioner(str(folder / "captioner.safetensors"), "cpu")
    image = captioner.transform(decode((folder / "images" / "one.png").read_bytes()))
    ((expected,),) = captioner.search(image.unsqueeze(0))
    for answer in (answers[0], answers[3]):
        (caption,) = answer["captions"]
        assert caption["caption"] == expected.text
        assert caption["log_probability"] == pytest.approx(expected.log_probability, rel=1e-4)


@pytest.fixture
def environment(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # nothing of the repository is needed
    monkeypatch.setenv("VIRTEX_DEVICE", "cpu")
    monkeypatch.setenv("VIRTEX_SERVED_IMAGES", str(folder / "images"))


def loaded(path: Path):
    import mlflow

    return mlflow.pyfunc.load_model(str(path))


def as_dicts(answers) -> list[dict]:
    return [answer if isinstance(answer, dict) else answer.model_dump() for answer in answers]


def test_a_captioner_answers_and_each_bad_picture_has_its_error(folder, environment):
    model = loaded(folder / "captioner")
    assert model.metadata.metadata == {"schema": SCHEMA_VERSION}
    check(folder, as_dicts(model.predict(requested(folder))))
    assert len(model.predict([{"path": "one.png"}] * 18)) == 18  # more than a batch
    (bad,) = as_dicts(model.predict([{}]))
    assert bad["captions"] is None


def test_a_backbone_gives_features(folder, environment, monkeypatch):
    answers = as_dicts(loaded(folder / "backbone").predict(requested(folder)[:4]))
    assert [len(answer["features"] or ()) for answer in answers] == [512, 0, 0, 512]
    assert answers[0]["features"] == pytest.approx(answers[3]["features"])
    assert answers[0]["captions"] is None


def test_paths_are_served_only_on_request(folder, environment, monkeypatch):
    monkeypatch.delenv("VIRTEX_SERVED_IMAGES")
    (answer,) = as_dicts(loaded(folder / "backbone").predict([{"path": "one.png"}]))
    assert "VIRTEX_SERVED_IMAGES names no folder" in answer["error"]


def test_what_writes_no_captions_is_refused(folder, tmp_path):
    with pytest.raises(InputError):
        save_captioner_model(folder / "b.safetensors", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_schema_in_the_repository_is_that_of_the_model():
    kept = json.loads((REPOSITORY / "components/captioning/served_schema.json").read_text(encoding="utf-8"))
    assert kept == schema(), "write it again, with another SCHEMA_VERSION if clients notice"


@pytest.mark.slow
def test_through_the_server(folder, environment):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder / "captioner")]
    server = subprocess.Popen(
        [*command, "--env-manager", "local", "--port", str(port)],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        start_new_session=True,
    )
    try:
        body = json.dumps({"inputs": requested(folder)}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
        )
        for attempt in range(120):
            try:
                with urllib.request.urlopen(request) as answer:
                    check(folder, json.load(answer)["predictions"])
                    break
            except urllib.error.HTTPError:
                raise
            except OSError:  # not there yet
                assert server.poll() is None
                assert attempt < 119
                time.sleep(1)
    finally:
        os.killpg(server.pid, 15)
        server.wait()
