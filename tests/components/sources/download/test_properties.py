"""A server that cuts, lies, changes and refuses in any order: the file is whole, or absent."""

import contextlib
import hashlib
import itertools
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st
from properties import both_sizes

from components.core.errors import InputError, TemporaryError
from components.sources.download.dataset import Wanted, fetch_file

from .conftest import HURRIED, Handler, Served, Server

FILES = (bytes(range(256)) * 40, bytes(range(255, -1, -1)) * 40, bytes(range(256)) * 39)
PATIENCE = replace(HURRIED, attempts=2, backoff_seconds=0.001, longest_seconds=0.01)
PIECE = 4096

# Each answers a request, or leaves it to the server, by its number.
FAULTS: dict[str, Callable[..., object]] = {
    "cut": lambda h, served: h.answer(206, served.data[:10], served, "bytes 0-9/10240", length=4096),
    "other range": lambda h, served: h.answer(206, served.data[5:9], served, "bytes 5-8/10240"),
    "range of letters": lambda h, served: h.answer(206, b"x", served, "bytes a-b/c"),
    "range of many digits": lambda h, served: h.answer(206, b"x", served, f"bytes 0-0/{'9' * 5000}"),
    "vast": lambda h, served: h.answer(206, b"x", served, f"bytes 0-0/{10**17}"),
    "more than asked": lambda h, served: h.answer(206, served.data * 2, served, "bytes 0-4095/10240"),
    "busy": lambda h, served: h.answer(503, b""),
    "gone": lambda h, served: h.answer(404, b""),
    "page": lambda h, served: h.answer(200, b"<html>", Content_Type="text/html"),
    "short": lambda h, served: h.answer(200, served.data[:100], served, length=10240),
    "wrong bytes": lambda h, served: h.answer(200, b"\0" * 10240, served),
    "empty": lambda h, served: h.answer(200, b"", served),
}
STEP = st.sampled_from(["well", "well", "change", "weak", "no ranges", *FAULTS])


@pytest.mark.parametrize("is_known", [True, False], ids=["published", "unknown"])
@both_sizes(25, 600)
def test_whole_or_absent(server: Server, profile: settings, is_known: bool) -> None:
    @profile
    @given(st.lists(STEP, max_size=12), st.integers(1, 3))
    @example(["empty", "range of letters"], 1)
    @example(["range of many digits"], 1)
    def check(steps: list[str], tries: int) -> None:
        files = iter([*FILES[1:], *FILES] * 4)
        served = Served(FILES[0])
        plan, versions = iter(steps), itertools.count(1)

        def fault(handler: Handler) -> bool:
            step = next(plan, "well")
            if step == "change":
                served.data, served.etag = next(files), f'"{next(versions)}"'
            elif step == "weak":
                served.etag = f"W/{served.etag}"
            elif step == "no ranges":
                served.ranges = False
            elif step in FAULTS:
                FAULTS[step](handler, served)
                return True
            return False

        served.faults.append(fault)
        server.files["/file.bin"] = served
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file.bin"
            digest = hashlib.md5(FILES[0]).hexdigest()
            published: dict[str, Any] = {"size": len(FILES[0]), "md5": digest}
            facts = published if is_known else {"most_bytes": 20_000}
            wanted = Wanted("file.bin", (f"{server.url}/file.bin",), **facts)
            for _ in range(tries):
                with contextlib.suppress(TemporaryError, InputError), requests.Session() as session:
                    checked = fetch_file(wanted, Path(folder), session, 2, PATIENCE, PIECE)
                    assert checked.size == path.stat().st_size
            if path.exists():
                content = path.read_bytes()
                assert content == FILES[0] if is_known else content in (*FILES, b"\0" * 10240, b"<html>", b"")

    check()
