import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.core.http import Patience, open_session
from components.sources.download.dataset import Checked, Wanted, fetch_file, with_mirrors
from components.sources.download.transfer import state_path

from .conftest import HURRIED, Handler, Served, Server, stall, times

PIECE = 64 * 2**10
DATA = os.urandom(300_000)  # four whole pieces and a part of one
NAME = "photos.zip"


def wanted(*servers: str, size: int | None = len(DATA), data: bytes = DATA) -> Wanted:
    return Wanted(NAME, with_mirrors([], NAME, servers), size, hashlib.md5(data).hexdigest())


def fetch(folder: Path, file: Wanted, patience: Patience = HURRIED) -> Checked:
    session = open_session(patience, file.urls)
    return fetch_file(file, folder, session, connections=3, patience=patience, piece_bytes=PIECE)


def cut(handler: Handler) -> None:
    """Half of what was asked for, then the connection is closed."""
    served = handler.server.owner.files[handler.path]  # type: ignore[attr-defined]
    start, end = handler.span(served)
    if start is None or end is None:
        handler.answer(200, DATA[: len(DATA) // 2], served, length=len(DATA))
    else:
        body = DATA[start : end + 1]
        handler.answer(
            206, body[: len(body) // 2], served, f"bytes {start}-{end}/{len(DATA)}", length=len(body)
        )


def assert_whole(folder: Path, checked: Checked) -> None:
    assert checked.path == folder / NAME
    assert checked.path.read_bytes() == DATA
    assert checked.size == len(DATA)
    assert checked.sha256 == hashlib.sha256(DATA).hexdigest()
    assert [path.name for path in folder.iterdir()] == [NAME], "nothing is left over"


def test_a_file_comes_in_pieces_and_only_once(tmp_path: Path, server: Server) -> None:
    server.files[f"/{NAME}"] = Served(DATA)
    assert_whole(tmp_path, fetch(tmp_path, wanted(server.url)))
    assert sorted(server.ranges_asked()) == sorted(
        f"bytes={start}-{min(start + PIECE, len(DATA)) - 1}" for start in range(0, len(DATA), PIECE)
    )
    server.requests.clear()
    assert_whole(tmp_path, fetch(tmp_path, wanted(server.url)))
    assert not server.requests


def test_dropped_connections_are_taken_up_where_they_broke(tmp_path: Path, server: Server) -> None:
    server.files[f"/{NAME}"] = Served(DATA, faults=[times(4, cut)])
    assert_whole(tmp_path, fetch(tmp_path, wanted(server.url)))
    middles = [asked for asked in server.ranges_asked() if int(re.findall(r"\d+", asked)[0]) % PIECE]
    assert len(middles) == 4, "each cut piece goes on from its middle"


def test_a_server_that_ignores_ranges_gives_all_in_one_go(tmp_path: Path, server: Server) -> None:
    server.files[f"/{NAME}"] = Served(DATA, ranges=False, faults=[times(1, cut)])
    assert_whole(tmp_path, fetch(tmp_path, wanted(server.url)))
    assert not server.ranges_asked()
    assert len(server.requests) == 3  # a look, a cut, all of it


@pytest.mark.parametrize(
    ("etag", "age", "in_pieces"),
    [('W/"weak"', 10**6, False), (None, 10**6, True), (None, 5, False), (None, None, False)],
)
def test_pieces_need_a_strong_validator(
    tmp_path: Path, server: Server, etag: str | None, age: float | None, in_pieces: bool
) -> None:
    changed = None if age is None else time.time() - age
    server.files[f"/{NAME}"] = Served(DATA, etag=etag, changed=changed)
    assert_whole(tmp_path, fetch(tmp_path, wanted(server.url)))
    assert bool(server.ranges_asked()) == in_pieces


def test_a_file_that_changes_meanwhile_is_fetched_anew(tmp_path: Path, server: Server) -> None:
    served = server.files[f"/{NAME}"] = Served(b"x" * len(DATA), etag='"old"')

    def change(_: Handler) -> bool:
        if len(server.ranges_asked()) == 3:
            served.data, served.etag = DATA, '"new"'
        return False

    served.faults.append(change)
    assert_whole(tmp_path, fetch(tmp_path, wanted(server.url)))


def test_wrong_bytes_send_to_the_next_mirror(tmp_path: Path, server: Server) -> None:
    server.files[f"/wrong/{NAME}"] = Served(b"x" * len(DATA))
    server.files[f"/short/{NAME}"] = Served(DATA[:-1])
    server.files[f"/right/{NAME}"] = Served(DATA)
    mirrors = [f"{server.url}/{name}" for name in ("absent", "wrong", "short", "right")]
    assert_whole(tmp_path, fetch(tmp_path, wanted(*mirrors)))
    assert not any(path.startswith("/short") and asked != "bytes=0-0" for path, asked, _ in server.requests)


def test_all_reasons_are_named_when_no_mirror_gives_it(tmp_path: Path, server: Server) -> None:
    server.files[f"/wrong/{NAME}"] = Served(b"x" * len(DATA))
    server.files[f"/page/{NAME}"] = Served(
        DATA, faults=[lambda h: h.answer(200, b"<html>", Content_Type="text/html") is None]
    )
    server.files[f"/login/{NAME}"] = Served(DATA, faults=[lambda h: h.answer(401, b"") is None])
    mirrors = [f"{server.url}/{name}" for name in ("absent", "wrong", "page", "login")]
    dead = "http://127.0.0.1:1"
    with pytest.raises(InputError) as raised:
        fetch(tmp_path, wanted(*mirrors, dead))
    message = str(raised.value)
    for expected in (
        "HTTP 404",
        "MD5 checksum",
        "a web page",
        "a token",
        "Connection refused",
        str(tmp_path),
    ):
        assert expected in message
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("lie", ["longer", "shorter", "elsewhere", "unspoken", "compressed"])
def test_lies_are_not_believed(tmp_path: Path, server: Server, lie: str) -> None:
    served = Served(DATA)

    def answer(handler: Handler) -> bool:
        start, end = handler.span(served)
        if (start, end) in ((0, 0), (None, None)):
            return False
        assert start is not None
        assert end is not None
        body, span = DATA[start : end + 1], f"bytes {start}-{end}/{len(DATA)}"
        if lie == "longer":  # promises more than was asked for, and sends it
            handler.answer(206, body + b"x", served, span)
        elif lie == "shorter":  # promises less than it says it sends
            handler.answer(206, body[:1], served, span)
        elif lie == "elsewhere":
            handler.answer(206, body, served, f"bytes {start + 1}-{end + 1}/{len(DATA)}")
        elif lie == "unspoken":
            handler.answer(206, body, served)
        else:
            handler.answer(206, body, served, span, Content_Encoding="gzip")
        return True

    served.faults.append(answer)
    server.files[f"/lying/{NAME}"] = served
    server.files[f"/right/{NAME}"] = Served(DATA)
    assert_whole(tmp_path, fetch(tmp_path, wanted(f"{server.url}/lying", f"{server.url}/right")))


def test_a_wrong_length_without_ranges_is_noticed(tmp_path: Path, server: Server) -> None:
    lying = Served(DATA, ranges=False)
    lying.faults.append(lambda h: h.answer(200, DATA[:1000], lying, length=len(DATA)) is None)
    server.files[f"/lying/{NAME}"] = lying
    with pytest.raises(InputError, match="gave up, and it cannot be resumed there"):
        fetch(tmp_path, wanted(f"{server.url}/lying"))


def test_redirects_are_followed(tmp_path: Path, server: Server) -> None:
    server.files[f"/{NAME}"] = Served(DATA)
    server.files[f"/moved/{NAME}"] = Served(
        DATA, faults=[lambda h: h.answer(302, b"", Location=f"{server.url}/{NAME}") is None]
    )
    assert_whole(tmp_path, fetch(tmp_path, wanted(f"{server.url}/moved")))


def test_a_busy_server_is_waited_for(tmp_path: Path, server: Server) -> None:
    busy = times(1, lambda h: h.answer(429, b"", Retry_After="1"), but_look=False)
    ill = times(1, lambda h: h.answer(503, b""))
    server.files[f"/{NAME}"] = Served(DATA, faults=[busy, ill])
    start = time.monotonic()
    assert_whole(tmp_path, fetch(tmp_path, wanted(server.url)))
    assert time.monotonic() - start >= 1, "Retry-After is kept"


def test_a_server_that_stays_busy_is_left(tmp_path: Path, server: Server) -> None:
    server.files[f"/{NAME}"] = Served(DATA, faults=[lambda h: h.answer(503, b"") is None])
    with pytest.raises(InputError, match="HTTP 503"):
        fetch(tmp_path, wanted(server.url))


def test_a_silent_server_is_asked_again(tmp_path: Path, server: Server) -> None:
    server.files[f"/{NAME}"] = Served(DATA, ranges=False, faults=[times(1, stall)])
    assert_whole(tmp_path, fetch(tmp_path, wanted(server.url)))


def test_a_size_that_nobody_published_comes_from_the_server(tmp_path: Path, server: Server) -> None:
    server.files[f"/{NAME}"] = Served(DATA)
    assert_whole(tmp_path, fetch(tmp_path, wanted(server.url, size=None)))


def test_without_a_checksum_a_zip_archive_must_be_whole(tmp_path: Path, server: Server) -> None:
    server.files[f"/{NAME}"] = Served(DATA)
    with pytest.raises(InputError, match="not a whole zip archive"):
        fetch(tmp_path, Wanted(NAME, (f"{server.url}/{NAME}",)))


def test_a_zip_archive_of_wrong_bytes_is_refused_and_removed(tmp_path: Path, server: Server) -> None:
    with zipfile.ZipFile(tmp_path / "whole.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", "".join(str(number * 7919) for number in range(5000)))
    data = bytearray((tmp_path / "whole.zip").read_bytes())
    data[60:200] = bytes(255 - byte for byte in data[60:200])  # no deflate stream any more
    server.files[f"/{NAME}"] = Served(bytes(data))
    with pytest.raises(InputError, match="not a whole zip archive"):
        fetch(tmp_path / "to", Wanted(NAME, (f"{server.url}/{NAME}",)))
    assert not list((tmp_path / "to").iterdir())


def test_a_file_put_there_by_hand_is_checked_and_kept(tmp_path: Path, server: Server) -> None:
    (tmp_path / NAME).write_bytes(DATA)
    assert_whole(tmp_path, fetch(tmp_path, wanted(server.url)))
    (tmp_path / NAME).write_bytes(DATA[::-1])
    with pytest.raises(InputError, match=rf"{NAME}: has the MD5 checksum .*; remove it or put the right one"):
        fetch(tmp_path, wanted(server.url))
    assert (tmp_path / NAME).read_bytes() == DATA[::-1]
    assert not server.requests


PROGRAM = """
import sys
from pathlib import Path
from components.sources.download.dataset import Wanted, fetch_file
from components.core.http import Patience, open_session
url, folder, piece = sys.argv[1:]
fetch_file(Wanted("photos.zip", (url,)), Path(folder), open_session(Patience()), 2, piece_bytes=int(piece))
"""


def test_a_killed_process_is_taken_up_where_it_was(tmp_path: Path, server: Server) -> None:
    served = server.files[f"/{NAME}"] = Served(DATA)
    hold = times(10**6, lambda h: time.sleep(30))
    served.faults.append(lambda h: len(server.ranges_asked()) > 2 and hold(h))
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, f"{server.url}/{NAME}", str(tmp_path), str(PIECE)],
        stdout=subprocess.DEVNULL,
    )
    part = tmp_path / f"{NAME}.part"
    try:
        deadline = time.monotonic() + 60
        while _num_pieces(part) != 2:
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    served.faults.clear()
    before = set(server.ranges_asked()[:2])
    server.requests.clear()
    assert_whole(tmp_path, fetch(tmp_path, wanted(server.url)))
    assert not before & set(server.ranges_asked())
    assert len(server.ranges_asked()) == 3


def _num_pieces(part: Path) -> int:
    try:
        return len(json.loads(state_path(part).read_text())["pieces"])
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("change", ["etag", "url", "state"])
def test_pieces_of_another_version_are_never_joined(tmp_path: Path, server: Server, change: str) -> None:
    served = server.files[f"/{NAME}"] = Served(b"x" * len(DATA), etag='"old"')
    served.faults.append(lambda h: len(server.ranges_asked()) > 3 and h.answer(404, b"") is None)
    with pytest.raises(InputError):
        fetch(tmp_path, wanted(server.url))
    part = tmp_path / f"{NAME}.part"
    assert _num_pieces(part) >= 1
    served.faults.clear()
    served.data = DATA
    url = server.url
    if change == "etag":
        served.etag = '"new"'
    elif change == "url":
        server.files[f"/other/{NAME}"] = served
        url = f"{server.url}/other"
    else:
        state_path(part).write_text("{")
    assert_whole(tmp_path, fetch(tmp_path, wanted(url)))


def test_the_token_goes_to_the_hosts_the_user_named_and_to_nobody_else(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTEX_DOWNLOAD_TOKEN", "secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    port = server.http.server_address[1]
    (tmp_path / ".netrc").write_text("machine localhost login me password mine\n")
    (tmp_path / ".netrc").chmod(0o600)
    elsewhere = f"http://localhost:{port}"  # another origin than 127.0.0.1
    server.files[f"/{NAME}"] = Served(DATA)
    server.files[f"/moved/{NAME}"] = Served(
        DATA, faults=[lambda h: h.answer(302, b"", Location=f"{elsewhere}/{NAME}") is None]
    )
    fetch(tmp_path, wanted(f"{server.url}/moved"))
    assert {(path, token) for path, _, token in server.requests} == {
        (f"/moved/{NAME}", "Bearer secret"),
        (f"/{NAME}", None),
    }
    server.requests.clear()
    session = open_session(HURRIED, token_urls=[server.url])
    fetch_file(wanted(elsewhere), tmp_path / "again", session, patience=HURRIED)
    assert {token for _, _, token in server.requests} == {None}


def drip(handler: Handler) -> bool:
    """A byte now and then, as of a file that is served whole."""
    asked = handler.headers.get("Range")
    if asked == "bytes=0-0":
        return False
    start, end = handler.span(handler.server.owner.files[handler.path])  # type: ignore[attr-defined]
    handler.send_response(206 if asked else 200)
    if start is not None:
        handler.send_header("Content-Range", f"bytes {start}-{end}/{len(DATA)}")
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.02)
    return True


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_sends_a_byte_now_and_then_is_left(
    tmp_path: Path, server: Server, ranges: bool
) -> None:
    server.files[f"/{NAME}"] = Served(DATA, ranges=ranges, faults=[drip])
    impatient = replace(HURRIED, window_seconds=0.3)
    with pytest.raises(InputError, match="too slow"):
        fetch(tmp_path, wanted(server.url), impatient)


def test_headers_that_never_end_are_not_awaited(tmp_path: Path, server: Server) -> None:
    def headers(handler: Handler) -> bool:
        with contextlib.suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                handler.wfile.write(b"X")
                time.sleep(0.02)
        return True

    server.files[f"/{NAME}"] = Served(DATA, faults=[headers])
    impatient = Patience(0.2, 0.2, attempts=1, backoff_seconds=0.01, longest_seconds=0)
    with pytest.raises(InputError, match="no answer within"):
        fetch(tmp_path, wanted(server.url), impatient)


def test_a_file_that_is_far_too_large_is_not_fetched(tmp_path: Path, server: Server) -> None:
    """By its size where the server says one, else once too much has come."""
    server.files[f"/{NAME}"] = Served(DATA)
    file = replace(wanted(server.url, size=None), most_bytes=1000)
    with pytest.raises(InputError, match="expected 1,000 at most"):
        fetch(tmp_path, file)
    server.files[f"/{NAME}"].faults = [unsized]
    with pytest.raises(InputError, match="sends more than the 1,000 bytes expected"):
        fetch(tmp_path, file)


def unsized(handler: Handler) -> bool:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(DATA)
    handler.close_connection = True
    return True
