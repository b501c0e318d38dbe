import hashlib
import io
import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from components.core.errors import InputError, TemporaryError
from components.core.files import locked
from components.sources.download.tar_cache import AbsentError, TarCache
from components.sources.readers.types import RemoteTar

from .conftest import HURRIED, Handler, Served, Server, times


def tar(server: Server, name: str, size: int = 1000, **served: object) -> RemoteTar:
    """Put a file on the server; any bytes will do."""
    data = hashlib.sha256(name.encode()).digest() * (size // 32) + bytes(size % 32)
    server.files[f"/{name}"] = Served(data, etag=f'"{name}"', **served)  # type: ignore[arg-type]
    return RemoteTar(f"{server.url}/{name}", size, hashlib.sha256(data).hexdigest())


def cache(folder: Path, most_bytes: int = 2500) -> TarCache:
    return TarCache(folder / "streamed", most_bytes, HURRIED)


def cut(handler: Handler) -> None:
    served = handler.server.owner.files[handler.path]  # type: ignore[attr-defined]
    handler.answer(206, served.data[:400], served, f"bytes 0-{999}/1000", length=1000)


def kept(cached: TarCache) -> set[str]:
    return {path.stem for path in cached.folder.glob("*.tar")}


def test_a_tar_comes_once_and_the_least_recently_used_make_room(tmp_path: Path, server: Server) -> None:
    cached = cache(tmp_path)
    one, two, three = (tar(server, name) for name in ("one.tar", "two.tar", "three.tar"))
    found, file = cached.new(one.url)
    with file:
        assert (found, file.read()) == (one, server.files["/one.tar"].data)
    cached.open(two).close()
    assert cached.read(one, 32, 8) == server.files["/one.tar"].data[32:40]
    assert kept(cached) == {one.sha256, two.sha256}
    os.utime(cached.folder / f"{one.sha256}.tar", (1, 1))
    cached.open(one).close()
    os.utime(cached.folder / f"{two.sha256}.tar", (1, 1))
    cached.open(three).close()
    assert kept(cached) == {one.sha256, three.sha256}
    assert (cached.fetched().tars, cached.fetched().bytes) == (3, 3000)
    assert not list(cached.folder.glob("*.part*"))


def read_one(folder: Path, wanted: RemoteTar) -> None:
    assert len(cache(folder).read(wanted, 0, wanted.size)) == wanted.size


def test_processes_that_want_the_same_tar_fetch_it_once(tmp_path: Path, server: Server) -> None:
    wanted = tar(server, "one.tar")
    context = multiprocessing.get_context("fork")
    readers = [context.Process(target=read_one, args=(tmp_path, wanted)) for _ in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(20)
    assert [reader.exitcode for reader in readers] == [0, 0, 0]
    assert len(server.ranges_asked()) == 1


def test_a_cut_answer_is_asked_for_again(tmp_path: Path, server: Server) -> None:
    wanted = tar(server, "one.tar", faults=[times(1, cut)])
    assert cache(tmp_path).read(wanted, 990, 10) == server.files["/one.tar"].data[990:]


def test_a_server_that_answers_the_first_byte_with_more_is_used(tmp_path: Path, server: Server) -> None:
    whole = times(
        1, lambda h: h.answer(206, bytes(1000), Served(b"", '"one.tar"'), "bytes 0-999/1000"), False
    )
    wanted = tar(server, "one.tar", faults=[whole])
    assert cache(tmp_path).read(wanted, 990, 10) == server.files["/one.tar"].data[990:]


def test_a_server_that_is_gone_and_a_tar_that_is_absent_are_named(tmp_path: Path, server: Server) -> None:
    absent, gone = f"{server.url}/absent.tar", tar(server, "one.tar")
    with pytest.raises(InputError, match=r"/absent\.tar: HTTP 404") as refused:
        cache(tmp_path).new(absent)
    assert not isinstance(refused.value, TemporaryError)
    gone = RemoteTar("http://127.0.0.1:9/one.tar", gone.size, gone.sha256)
    with pytest.raises(TemporaryError, match=r"http://127\.0\.0\.1:9/one\.tar: .*start again to go on"):
        cache(tmp_path).open(gone)


def test_a_tar_that_changed_or_comes_damaged_is_refused(tmp_path: Path, server: Server) -> None:
    wanted = tar(server, "one.tar")
    server.files["/one.tar"].data = bytes(1000)
    with pytest.raises(InputError, match=r"/one\.tar: not the tar that the datasets stage has read"):
        cache(tmp_path).open(wanted)
    assert len(server.ranges_asked()) == 2  # once more, in case it was damaged on its way
    server.files["/one.tar"].data = bytes(900)
    with pytest.raises(InputError, match="not the tar that the datasets stage has read"):
        cache(tmp_path).open(wanted)
    assert len(server.ranges_asked()) == 2
    assert not [path for path in cache(tmp_path).folder.iterdir() if path.suffix in (".tar", ".part")]


def test_the_rest_of_a_former_version_makes_room(tmp_path: Path, server: Server) -> None:
    cached, one = cache(tmp_path, 1500), tar(server, "one.tar")
    cached.open(one).close()
    cached.forget(one)
    [lock] = [path for path in cached.folder.glob("*.lock") if path.stem != "room"]
    former = lock.with_name(f"{lock.stem}.900.part")
    former.touch()
    fetching = threading.Thread(target=lambda: cached.open(one).close(), daemon=True)
    fetching.start()
    fetching.join(20)
    assert not fetching.is_alive()
    assert kept(cached) == {one.sha256}
    assert not former.exists()


def test_a_file_that_was_cut_is_fetched_again(tmp_path: Path, server: Server) -> None:
    cached, one = cache(tmp_path), tar(server, "one.tar")
    cached.open(one).close()
    os.truncate(cached.folder / f"{one.sha256}.tar", 500)
    assert cached.read(one, 0, 1000) == server.files["/one.tar"].data


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, server: Server) -> None:
    (tmp_path / "streamed").touch()
    for ask in (cache(tmp_path).open, lambda one: cache(tmp_path).new(one.url)):
        with pytest.raises(InputError, match=r"streamed: cannot keep tars: .*; VIRTEX_STREAMED_DIR may name"):
            ask(tar(server, "one.tar"))


@pytest.mark.parametrize(
    ("status", "kind"), [(401, InputError), (404, AbsentError), (410, AbsentError), (429, TemporaryError)]
)
def test_a_refusal_is_told_from_absence_and_from_what_passes(
    tmp_path: Path, server: Server, status: int, kind: type[InputError]
) -> None:
    one = tar(server, "one.tar", faults=[lambda handler: handler.answer(status, b"", None) or True])
    with pytest.raises(InputError, match=f"HTTP {status}") as refused:
        cache(tmp_path).new(one.url)
    assert type(refused.value) is kind


def test_what_is_larger_than_the_folder_may_be_is_refused_before_it_comes(
    tmp_path: Path, server: Server
) -> None:
    large = tar(server, "large.tar", 3000)
    with pytest.raises(InputError, match=r"large\.tar: .* stream\.cache_gib allows"):
        cache(tmp_path).open(large)
    assert not server.ranges_asked()


def test_room_for_what_others_fetch_is_kept_and_that_of_crashed_processes_taken(
    tmp_path: Path, server: Server
) -> None:
    cached, one = cache(tmp_path), tar(server, "one.tar")
    coming = cached.folder / f"{'0' * 24}.2000.part"
    coming.parent.mkdir()
    coming.touch()
    fetched = threading.Event()

    def fetch() -> None:
        cached.open(one).close()
        fetched.set()

    with locked(cached.folder / f"{'0' * 24}.lock"):
        threading.Thread(target=fetch, daemon=True).start()
        assert not fetched.wait(0.3)
        assert coming.exists()
    assert fetched.wait(10)
    assert not coming.exists()


def test_s3_requests_are_signed_with_keys_from_the_environment(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "hidden-words",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    pytest.importorskip("botocore", reason="the extra `stream` is not installed")
    there = tar(server, "bucket/a b/one.tar")
    server.files["/bucket/a%20b/one.tar"] = server.files["/bucket/a b/one.tar"]
    wanted = RemoteTar("s3://bucket/a b/one.tar", there.size, there.sha256)
    assert cache(tmp_path).read(wanted, 0, 4) == server.files["/bucket/a b/one.tar"].data[:4]
    signatures = {signature for _, _, signature in server.requests}
    assert all(one and one.startswith("AWS4-HMAC-SHA256 Credential=someone/") for one in signatures)
    held = io.BytesIO(b"".join(path.read_bytes() for path in cache(tmp_path).folder.iterdir()))
    assert b"hidden-words" not in held.getvalue()
    denied = times(1, lambda handler: handler.answer(403, b"<Code>SignatureDoesNotMatch</Code>"), False)
    tar(server, "bucket/two.tar", faults=[denied])
    with pytest.raises(
        InputError, match=r"^s3://bucket/two\.tar: HTTP 403; do AWS_ACCESS_KEY_ID and"
    ) as refused:
        cache(tmp_path).new("s3://bucket/two.tar")
    assert not isinstance(refused.value, TemporaryError)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"AWS_PROFILE": "nobody"}, "nobody"),
        ({"AWS_ENDPOINT_URL": "no address"}, "Invalid endpoint: no address"),
        ({"AWS_ACCESS_KEY_ID": "someone"}, "missing: AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_an_environment_that_s3_cannot_use_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], said: str
) -> None:
    pytest.importorskip("botocore", reason="the extra `stream` is not installed")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    nothing = str(tmp_path / "none")
    for name, value in {
        "AWS_CONFIG_FILE": nothing,
        "AWS_SHARED_CREDENTIALS_FILE": nothing,
        **environment,
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=rf"^s3://photos/one\.tar: .*{said}.*; correct the variables AWS_"):
        cache(tmp_path).new("s3://photos/one.tar")
