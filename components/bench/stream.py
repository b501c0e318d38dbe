"""Batches from a store, from tars on this disk and from tars of a local server, in turn in one run."""

import io
import multiprocessing
import os
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

from components.bench.data import AUGMENTATION, QUICK, Size, prepare, read_ours
from components.bench.drawn import draw_photographs
from components.bench.timing import Comparison, Work, in_turn
from components.core.files import remove
from components.data.record import StoreForm
from components.data.store import CaptionStore
from components.sources.download.tar_cache import machine_cache
from components.sources.readers.own.dataset import read_own
from components.sources.readers.own.sample import OwnSettings
from components.sources.readers.types import CaptionedImage

__all__ = ["FULL", "QUICK", "run"]

FULL = Size(images=256, batches=8)
TARS = 8
BASELINE, HERE, COLD, WARM = (
    "store",
    "tars on this disk",
    "a server's tars, fetched anew",
    "a server's tars, kept",
)


def run(size: Size, rounds: int) -> list[Comparison]:
    """Measure images per second on the clock; the baseline is our loader on the store.

    The server is Python's, on this machine, and takes some of its processor; a network would be slower.
    """
    augmentation = AUGMENTATION.model_copy(update={"crop_size": size.crop_size})
    with tempfile.TemporaryDirectory() as name, _kept_in(Path(name, "streamed")) as kept:
        folder = Path(name)
        pictures = draw_photographs(folder, size.images, size.height, size.width)
        tars = folder / "tars"
        tars.mkdir()
        for number in range(TARS):
            _write_tar(tars / f"{number}.tar", pictures[number::TARS])
        with _served(tars) as url:
            settings = OwnSettings(val_fraction=1 / size.images)
            here = read_own(tars, "here", settings, folder / "here", False).splits["train"]
            there = read_own(f"{url}/{{0..{TARS - 1}}}.tar", "there", settings, folder / "there", False)
            places = StoreForm(in_tars=True)
            tokenizer, stores = prepare(folder, here, {BASELINE: StoreForm(), HERE: places})
            (folder / "server").mkdir()
            _, served = prepare(folder / "server", there.splits["train"], {WARM: places})

            def read(store: CaptionStore, in_tars: bool) -> None:
                read_ours(store, tokenizer, augmentation, size, in_tars=in_tars)

            def read_anew() -> None:
                remove(kept)
                read(served[WARM], True)

            works: list[Work] = [partial(read, stores[BASELINE], False), partial(read, stores[HERE], True)]
            works += [read_anew, partial(read, served[WARM], True)]
            baseline, *ours = in_turn(works, rounds)
            read_anew()
            fetched = machine_cache().fetched()
    return [
        Comparison(
            f"{size.width}x{size.height} to {size.crop_size} px batches, {what}",
            size.batch * size.batches,
            "images",
            "wall",
            baseline,
            times,
            figures={"tars": TARS, "fetched": fetched.tars, "MB": round(fetched.bytes / 1e6, 1)}
            if what == COLD
            else {},
        )
        for what, times in zip((HERE, COLD, WARM), ours, strict=True)
    ]


def _write_tar(path: Path, pictures: Sequence[CaptionedImage]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for picture in pictures:
            tar.add(picture.path, picture.path.name)
            text = "\n".join(picture.captions).encode()
            member = tarfile.TarInfo(f"{picture.path.stem}.txt")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))


@contextmanager
def _kept_in(folder: Path) -> Iterator[Path]:
    """Have tars of servers kept in a folder of our own."""
    name = "VIRTEX_STREAMED_DIR"
    before = os.environ.get(name)
    os.environ[name] = str(folder)
    try:
        yield folder
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serve a folder from a process of its own; yield its URL."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=_serve, args=(folder, theirs), daemon=True)
    server.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        server.terminate()
        server.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that end before a tar does: its first byte is asked for alone."""


def _serve(folder: Path, port: Connection) -> None:
    with _Server(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        port.send(server.server_address[1])
        server.serve_forever()
