"""Fixtures for all tests."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dvc.logger  # noqa: F401  # its log handlers keep the stream they find at import: not one test's capture
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))  # for what tests of several folders share

os.environ.setdefault(
    "MLFLOW_LOGGING_LEVEL", "WARNING"
)  # as the product has it, before anything imports MLflow

# A shell's background job ignores interrupts, under nohup hangups too, and hands that down; tests send both.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A flow that ran in this process leaves exit hooks of Prefect's threads behind. In a forked child (a data
# loader's worker) those threads do not exist, the hooks raise, and a child that did well exits with 1.
os.register_at_fork(after_in_child=threading._threading_atexits.clear)  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files of integration tests first: after a long one at the end, the other process waits for it."""
    long = {item.path for item in items if item.get_closest_marker("integration")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True)
def large_files_go(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove what a test leaves in files above a megabyte: 9 GB of networks and caches in a whole run.

    Databases stay: MLflow keeps those of its process open.
    """
    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    for place, _, names in os.walk(folder) if folder else ():
        for path in (Path(place, name) for name in names if not name.endswith(".db")):
            with contextlib.suppress(OSError):
                if not path.is_symlink() and path.stat().st_size > 1 << 20:
                    path.unlink()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The real-data pack beside the checkout (or at ``VIRTEX_SHARED``); skips where it is absent."""
    folder = Path(os.environ.get("VIRTEX_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"no real-data pack at {folder} (set VIRTEX_SHARED)")
    return folder


class FileServer:
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
def file_server(tmp_path: Path) -> Iterator[FileServer]:
    folder = tmp_path / "served"
    folder.mkdir()
    served = FileServer(folder)

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
