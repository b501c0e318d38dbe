"""Small models in the layouts of other people's files, and a server to fetch them from."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn

from components import params
from components.objectives.build import ModelConfig, build_objective


def small_config(objective: str, backbone: str = "resnet18", **head: object) -> ModelConfig:
    section = {
        "hidden_size": 64,
        "num_layers": 2,
        "attention_heads": None,
        "feedforward_size": None,
        "norm": "post",
        "dropout": 0.1,
        "max_caption_length": 12,
    }
    return ModelConfig(
        backbone=params.Backbone(name=backbone, zero_init_residual=True),
        textual_head=params.TextualHead.model_validate(section | head),
        objective=params.Objective.model_validate({"name": objective}),
        vocab_size=81 if objective == "multilabel_classification" else 50,
    )


@pytest.fixture(scope="session")
def small_model() -> Callable[..., nn.Module]:
    """A model whose BatchNorm has seen something, by the arguments of `small_config`."""

    def build(*names: str, **head: object) -> nn.Module:
        torch.manual_seed(1)
        objective = build_objective(small_config(*names, **head)).train()
        with torch.no_grad():
            objective.visual(torch.randn(2, 3, 64, 64))
        return objective.eval()

    return build


class Server:
    """Serves a folder on the loopback interface, and counts what it is asked for.

    Attributes:
        folder: what it serves.
        requests: paths, in order.
        promise: bytes more than it sends that its answers claim to have.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.promise = 0
        self.url = ""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    served = Server(folder)

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests.append(self.path)
            super().do_GET()

        def send_header(self, keyword: str, value: str) -> None:
            more = served.promise if keyword == "Content-Length" else 0
            super().send_header(keyword, str(int(value) + more) if more else value)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        served.url = f"http://127.0.0.1:{httpd.server_address[1]}"
        yield served
        httpd.shutdown()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
