"""Weights by name, path or URL; downloads from a server of ours; what is in a file."""

import contextlib
import hashlib
import itertools
import pickle
import threading
import time
from collections import OrderedDict
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from components.core.errors import InputError
from components.core.redaction import redacted
from components.core.tensor_files import save_stable
from components.export.zoo import weights
from components.export.zoo.weights import cache_dir, local_file, open_weights, read_tensors

CONTENT = b"\x80\x02" + bytes(range(256)) * 20
SHA256 = hashlib.sha256(CONTENT).hexdigest()
STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def test_a_published_model_comes_from_its_address(
    file_server, small_model, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "bicaptioning_R_50_L1_H2048"
    torch.save({"model": small_model("bicaptioning").state_dict()}, file_server.folder / f"{name}.pth")
    served = replace(weights.ZOO[name], url=f"{file_server.url}/{name}.pth")
    monkeypatch.setitem(weights.ZOO, name, served)
    assert "visual.cnn.conv1.weight" in open_weights(name)
    with pytest.raises(InputError, match="SHA-256"):
        open_weights(f"{name}#sha256={'0' * 64}")


def test_a_damaged_file_that_was_fetched_says_how_to_be_rid_of_it(file_server) -> None:
    (file_server.folder / "x.pth").write_bytes(b"\x80\x02gone")
    with pytest.raises(InputError, match=r"-x\.pth: not a file of plain weights.*remove the file"):
        open_weights(f"{file_server.url}/x.pth")


def test_neither_a_file_nor_a_model() -> None:
    with pytest.raises(InputError, match=r"published model .did you mean `bicaptioning_R_50_L1_H512`"):
        open_weights("bicaptioning_R_50_L1_H511")
    with pytest.raises(InputError, match=r"models/x\.pth: no such file"):
        open_weights("models/x.pth")


def test_a_file_of_a_plain_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(1)}, "weights")
    assert list(open_weights("weights")) == ["a"]


@pytest.fixture
def url(file_server):
    (file_server.folder / "weights.pth").write_bytes(CONTENT)
    return f"{file_server.url}/weights.pth?dl=1"


def test_a_url_is_fetched_once(file_server, url):
    path = local_file(url)
    assert path.read_bytes() == CONTENT
    assert path.parent == cache_dir()
    assert path.name.endswith("-weights.pth")
    assert local_file(f"{url}#sha256={SHA256.upper()}") == path
    assert file_server.requests == ["/weights.pth?dl=1"]


def test_another_url_of_the_same_name_is_another_file(file_server, url):
    (file_server.folder / "b").mkdir()
    (file_server.folder / "b" / "weights.pth").write_bytes(b"\x80other")
    assert local_file(f"{file_server.url}/b/weights.pth").read_bytes() == b"\x80other"
    assert local_file(url).read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(url):
    with pytest.raises(InputError, match=f"SHA-256 is {SHA256}, not {'0' * 64}"):
        local_file(f"{url}#sha256={'0' * 64}")
    assert list(cache_dir().iterdir()) == []


def test_a_cached_file_is_checked_too(url):
    path = local_file(url)
    path.write_bytes(b"damaged since")
    with pytest.raises(InputError, match=rf"remove .*{path.name} to fetch it again"):
        local_file(f"{url}#sha256={SHA256}")


def test_a_connection_that_ends_early_leaves_nothing(file_server, url):
    file_server.promise = 10
    with pytest.raises(InputError, match="ended 10 bytes early"):
        local_file(url)
    assert list(cache_dir().iterdir()) == []


@pytest.mark.parametrize("path", ["/absent.pth", ""])
def test_what_cannot_be_fetched_says_what_to_do(file_server, path):
    address = file_server.url + path if path else "http://127.0.0.1:9/weights.pth"
    with pytest.raises(InputError, match=r"cannot be fetched .*fetch it by hand"):
        local_file(address)


def test_what_is_told_to_others_holds_no_secrets():
    signed = "https://me:word@host:8443/a/x.pth?dl=1&signature=s#sha256=ab"
    assert redacted(signed) == "https://host:8443/a/x.pth#sha256=ab"
    assert redacted("models/a?b@c.pth") == "models/a?b@c.pth"


def test_paths(tmp_path):
    path = tmp_path / "mine.pth"
    with pytest.raises(InputError, match=r"mine\.pth: no such file"):
        local_file(str(path))
    path.write_bytes(CONTENT)
    assert local_file(str(path)) == path
    assert local_file(f"{path}#sha256={SHA256}") == path
    with pytest.raises(InputError, match="SHA-256"):
        local_file(f"{path}#sha256={'a' * 64}")
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        local_file(f"{path}#sha256=abc")


class Body(BaseHTTPRequestHandler):
    """Sends what ``pieces`` gives, without saying how much it is."""

    pieces = staticmethod(lambda: iter(()))
    headers_slowly = False
    answers = itertools.repeat(b"200 OK")
    sent = 0

    def do_GET(self):
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.0 " + next(self.answers) + b"\r\n")
            while self.headers_slowly:
                self.wfile.write(b"X")
                time.sleep(0.05)
            self.wfile.write(b"\r\n")
            for piece in self.pieces():
                self.wfile.write(piece)
                type(self).sent += len(piece)

    def log_message(self, *_):
        pass


@pytest.fixture
def body():
    handler = type("Handler", (Body,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        httpd.daemon_threads = True
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        handler.url = f"http://127.0.0.1:{httpd.server_address[1]}/weights.pth"
        yield handler
        httpd.shutdown()


def endless(piece, seconds=0.0):
    def pieces():
        while True:
            time.sleep(seconds)
            yield piece

    return staticmethod(pieces)


def test_an_endless_body_ends_at_the_bound(body, monkeypatch):
    monkeypatch.setattr(weights, "LARGEST_BYTES", 10**7)
    body.pieces = endless(b"\x80" * 10**5)
    with pytest.raises(InputError, match="sends more than 10,000,000 bytes"):
        local_file(body.url)
    assert list(cache_dir().iterdir()) == []


def test_an_endless_body_of_something_else_ends_at_once(body):
    body.pieces = endless(bytes(10**5))
    with pytest.raises(InputError, match="not a file of weights"):
        local_file(body.url)
    assert body.sent < 10**8


def test_a_body_that_is_too_slow(body, monkeypatch):
    monkeypatch.setattr(weights, "PATIENCE", replace(weights.PATIENCE, window_seconds=0.2))
    body.pieces = endless(b"\x80", 0.01)
    with pytest.raises(InputError, match="too slow"):
        local_file(body.url)


def test_headers_that_never_end(body, monkeypatch):
    times = {"connect_seconds": 0.1, "read_seconds": 0.3, "attempts": 1, "longest_seconds": 0}
    monkeypatch.setattr(weights, "PATIENCE", replace(weights.PATIENCE, **times))
    body.headers_slowly = True
    with pytest.raises(InputError, match="no answer within 0 seconds"):
        local_file(body.url)


def test_a_busy_server_is_asked_again(body):
    body.answers = iter([b"503 Busy", b"200 OK"])
    body.pieces = staticmethod(lambda: iter([CONTENT]))
    assert local_file(body.url).read_bytes() == CONTENT


def test_a_file_that_says_it_is_too_large(file_server, url, monkeypatch):
    monkeypatch.setattr(weights, "LARGEST_BYTES", 10)
    with pytest.raises(InputError, match="expected at most 10 of weights"):
        local_file(url)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>", "a web page and not the file"),
        (b"\xef\xbb\xbf\n <html>", "a web page and not the file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "pointer of Git LFS"),
        (b"", "is empty"),
        (b'{"message": "Not Found"}', "not a file of weights"),
    ],
)
def test_what_is_saved_as_weights_and_is_none(file_server, tmp_path, content, said):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        local_file(str(path))
    (file_server.folder / "model.pth").write_bytes(content)
    with pytest.raises(InputError, match=said):
        local_file(f"{file_server.url}/model.pth")
    assert not any(cache_dir().glob("*-model.pth"))


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"model": OrderedDict(STATE), "iteration": 500000, "optimizer": {"state": {}, "param_groups": []}},
        {"state_dict": STATE, "epoch": 200, "arch": "resnet50"},
    ],
)
def test_state_dicts_wherever_they_are(tmp_path: Path, content: dict) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert {name: tensor.tolist() for name, tensor in read_tensors(tmp_path / "x.pth").items()} == {
        name: tensor.tolist() for name, tensor in STATE.items()
    }


def test_files_of_old_torch_and_safetensors(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(STATE, tmp_path / "x.safetensors")
    for name in ("old.pth", "x.safetensors"):
        assert torch.equal(read_tensors(tmp_path / name)["a.weight"], STATE["a.weight"])


def test_a_flipped_bit_in_a_file_of_ours_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_stable(STATE, {}, path)
    assert torch.equal(read_tensors(path)["a.weight"], STATE["a.weight"])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.safetensors: damaged"):
        read_tensors(path)


class Harm:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("harm"),))


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": STATE, "extra": Harm()}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"x\.pth: not a file of plain weights"):
        read_tensors(tmp_path / "x.pth")
    assert not Path("harm").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a file of plain weights"),
        (b"<html>sign in</html>", "not a file of plain weights"),
        (pickle.dumps({"a": 1}), "expected a state dict|not a file of plain weights"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_tensors(tmp_path / "x.pth")
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "found a list"),
        ({"model": {"a": torch.ones(1), "b": "text"}}, "found b"),
        ({}, "found nothing"),
        ({"epoch": 3, "net": STATE}, "found epoch, net"),
    ],
)
def test_other_contents(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match=message):
        read_tensors(tmp_path / "x.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    torch.save(STATE | {"c.weight": torch.tensor([1.0, value]), "steps": torch.tensor(3)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"1 of 4 tensors hold values that are NaN or infinite.*c\.weight"):
        read_tensors(tmp_path / "x.pth")
