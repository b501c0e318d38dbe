import hashlib

import pytest

from components.errors import InputError
from components.redaction import redacted
from components.zoo.files import cache_dir, local_file

CONTENT = bytes(range(256)) * 20
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
    (file_server.folder / "b" / "weights.pth").write_bytes(b"other")
    assert local_file(f"{file_server.url}/b/weights.pth").read_bytes() == b"other"
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
