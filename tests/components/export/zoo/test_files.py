import contextlib
import hashlib
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from components.core.errors import InputError
from components.core.pace import Pace
from components.core.redaction import redacted
from components.export.zoo import files
from components.export.zoo.files import cache_dir, local_file

CONTENT = b"\x80\x02" + bytes(range(256)) * 20
SHA256 = hashlib.sha256(CONTENT).hexdigest()


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
    with pytest.raises(InputError, match=rf"remove .*{path.name} to fetch it anew"):
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
    sent = 0

    def do_GET(self):
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.0 200 OK\r\n")
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
    monkeypatch.setattr(files, "LARGEST_BYTES", 10**7)
    body.pieces = endless(b"\x80" * 10**5)
    with pytest.raises(InputError, match="sends more than 10,000,000 bytes"):
        local_file(body.url)
    assert list(cache_dir().iterdir()) == []


def test_an_endless_body_of_something_else_ends_at_once(body):
    body.pieces = endless(bytes(10**5))
    with pytest.raises(InputError, match="no file of weights"):
        local_file(body.url)
    assert body.sent < 10**8


def test_a_body_that_is_too_slow(body, monkeypatch):
    monkeypatch.setattr(files, "Pace", partial(Pace, window_seconds=0.2))
    body.pieces = endless(b"\x80", 0.01)
    with pytest.raises(InputError, match="too slow"):
        local_file(body.url)


def test_headers_that_never_end(body, monkeypatch):
    monkeypatch.setattr(files, "BEGIN_SECONDS", 0.5)
    body.headers_slowly = True
    with pytest.raises(InputError, match="no answer within 0 seconds"):
        local_file(body.url)


def test_a_file_that_says_it_is_too_large(file_server, url, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_BYTES", 10)
    with pytest.raises(InputError, match="weights have 10 at most"):
        local_file(url)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>", "a web page and not the file"),
        (b"\xef\xbb\xbf\n <html>", "a web page and not the file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "pointer of Git LFS"),
        (b"", "is empty"),
        (b'{"message": "Not Found"}', "no file of weights"),
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
