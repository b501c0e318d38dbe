"""Tars of a server in a folder of bounded size, which all processes of a machine share.

A tar comes whole, through the downloader of published datasets: one process fetches it, written aside, while
others that want it wait; it then goes by its SHA-256. Those that were used least recently make room. Nothing
in a tar is ever unpickled: of a member the bytes are read, and they are an image or a text.

No library does this; docs/streaming.md says what was tried.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256 as hash_of
from pathlib import Path
from typing import IO
from urllib.parse import quote

import requests

from components import params
from components.core import machine
from components.core.errors import InputError, TemporaryError, first_line, machine_message
from components.core.files import locked, read_json_object, remove, sha256, write_json
from components.core.http import MirrorError, Patience, RefusedError, open_session
from components.sources.download.remote import look_at
from components.sources.download.transfer import Transfer, state_path
from components.sources.readers.types import RemoteTar

GIB = 2**30
_CONNECTIONS = 4  # to fetch one tar over
_TRIES = 2  # of a tar that came and is not what it was
_S3 = "s3://"
_ABSENT = (404, 410)
_DENIED = (401, 403)
_S3_ADVICE = "do AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong to this store, and may they read this?"


class AbsentError(InputError):
    """The server has no such tar."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched into a folder so far: tars, their bytes, and the seconds until each was there."""

    tars: int = 0
    bytes: int = 0
    seconds: float = 0.0


class TarCache:
    """Tars in ``folder``, which never hold more than ``most_bytes``, those on their way included.

    Args:
        folder: on this machine.
        most_bytes: room there.
        patience: with servers.
    """

    def __init__(self, folder: Path, most_bytes: int, patience: Patience | None = None) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self._patience = patience or Patience()

    def new(self, url: str) -> tuple[RemoteTar, IO[bytes]]:
        """Return a tar whose contents nobody knows yet, opened to be read.

        Raises:
            InputError: the server refuses it (AbsentError: has none), it is larger than the folder may be, or
                the folder cannot be used.
            TemporaryError: it could not be fetched.
        """
        with self._naming_folder(), locked(self._lock(url)):
            return self._fetch(url, None)

    def open(self, tar: RemoteTar) -> IO[bytes]:
        """Return a tar opened to be read, fetched where it is not in the folder.

        Raises:
            InputError: as `new`; or it is another one by now.
            TemporaryError: it could not be fetched.
        """
        with self._naming_folder():
            if (file := self._opened(tar)) is not None:
                return file
            with locked(self._lock(tar.url)):
                # or somebody has fetched it meanwhile
                return self._opened(tar) or self._fetch(tar.url, tar)[1]

    def read(self, tar: RemoteTar, offset: int, size: int) -> bytes:
        """Return ``size`` bytes of a tar from ``offset`` on; raises as `open`."""
        with self.open(tar) as file:
            file.seek(offset)
            return file.read(size)

    def forget(self, tar: RemoteTar) -> None:
        """Have a tar whose file is damaged fetched again where it is wanted next."""
        self._path(tar).unlink(missing_ok=True)

    def fetched(self) -> Fetched:
        """Return what was fetched so far, by whatever process."""
        try:
            return Fetched(**read_json_object(self.folder / "fetched.json"))
        except TypeError:
            return Fetched()

    def _opened(self, tar: RemoteTar) -> IO[bytes] | None:
        """Return a tar that is in the folder; None if it is not, or not whole."""
        try:
            file = self._path(tar).open("rb")
        except FileNotFoundError:
            return None
        if os.fstat(file.fileno()).st_size != tar.size:
            file.close()
            return None
        os.utime(file.fileno())  # by which the least recently used are known
        return file

    @contextmanager
    def _naming_folder(self) -> Iterator[None]:
        """Say in which folder the system would not write: a worker's error has no more than its message."""
        try:
            yield
        except OSError as error:
            said = machine_message(error) or str(error)
            raise InputError(
                f"{self.folder}: cannot keep tars: {said}; VIRTEX_STREAMED_DIR may name another folder"
            ) from error

    def _path(self, tar: RemoteTar) -> Path:
        return self.folder / f"{tar.sha256}.tar"

    def _lock(self, url: str) -> Path:
        return self.folder / f"{_key(url)}.lock"

    def _fetch(self, url: str, known: RemoteTar | None) -> tuple[RemoteTar, IO[bytes]]:
        """Bring a tar, whose lock is held, into the folder; open it before others may remove it again."""
        start = time.monotonic()
        for _ in range(_TRIES):
            try:
                session, address = open_server(url, self._patience)
                remote = look_at(session, address, self._patience)
                if remote.size is None:
                    raise RefusedError("the server does not say how large it is", 200)
                if known is not None and remote.size != known.size:
                    break
                part = self._reserved(url, remote.size)
                Transfer(session, remote, part, _CONNECTIONS, self._patience).run(lambda _: None)
            except MirrorError as error:
                kind: type[InputError] = TemporaryError
                said = str(error)
                if isinstance(error, RefusedError):
                    kind = AbsentError if error.status in _ABSENT else InputError
                    if url.startswith(_S3) and error.status in _DENIED:
                        said = f"HTTP {error.status}; {_S3_ADVICE}"
                raise kind(
                    f"{url}: {said} (nothing that was fetched is lost: start again to go on)"
                ) from None
            tar = RemoteTar(url, remote.size, sha256(part))
            if known in (None, tar):
                file = part.open("rb")
                os.replace(part, self._path(tar))
                state_path(part).unlink(missing_ok=True)
                self._count(tar.size, time.monotonic() - start)
                return tar, file
            remove(part)
            remove(state_path(part))
        raise InputError(
            f"{url}: not the tar that the datasets stage has read: it changed on the server, or comes "
            "damaged. Put the former one there, or run `virtex run datasets --force`"
        )

    def _reserved(self, url: str, size: int) -> Path:
        """Make room for a tar; its name while it comes says how much that is."""
        part = self.folder / f"{_key(url)}.{size}.part"
        if size > self.most_bytes:
            raise InputError(
                f"{url}: {size / GIB:.2f} GiB, more than the {self.most_bytes / GIB:.2f} that "
                "stream.cache_gib allows for all tars"
            )
        while not self._make_room(part, size):
            time.sleep(0.1)  # until others have what they fetch
        return part

    def _make_room(self, part: Path, size: int) -> bool:
        with locked(self.folder / "room.lock"):
            coming = {path: int(path.name.split(".")[1]) for path in self.folder.glob("*.part")}
            for path in [path for path in coming if path.name.startswith(f"{part.name.split('.')[0]}.")]:
                del coming[path]
                if path != part:  # a former version, on whose way nobody is: this one's lock is held
                    remove(path)
                    remove(state_path(path))
            tars = sorted((status.st_mtime_ns, status.st_size, path) for path, status in self._tars())
            used = sum(coming.values()) + sum(tar_size for _, tar_size, _ in tars)
            for _, tar_size, path in tars:
                if used + size <= self.most_bytes:
                    break
                path.unlink(missing_ok=True)
                used -= tar_size
            if used + size > self.most_bytes:
                for path in coming:  # of processes that are gone
                    used -= self._forgotten(path, coming[path])
            if used + size <= self.most_bytes:
                part.touch()
                return True
            return False

    def _tars(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.glob("*.tar"):
            try:
                yield path, path.stat()
            except FileNotFoundError:
                continue

    def _forgotten(self, part: Path, size: int) -> int:
        """Remove what nobody fetches any more; return the bytes that this frees."""
        try:
            with locked(self.folder / f"{part.name.split('.')[0]}.lock", wait=False):
                remove(part)
                remove(state_path(part))
                return size
        except BlockingIOError:
            return 0

    def _count(self, num_bytes: int, seconds: float) -> None:
        with locked(self.folder / "room.lock"):
            so_far = self.fetched()
            values = {
                "tars": so_far.tars + 1,
                "bytes": so_far.bytes + num_bytes,
                "seconds": round(so_far.seconds + seconds, 3),
            }
            write_json(self.folder / "fetched.json", values)


def machine_cache() -> TarCache:
    """Return this machine's: in ``VIRTEX_STREAMED_DIR``, as large as params.yaml allows."""
    return _machine_cache(Path.cwd(), machine.streamed_dir())


@cache
def _machine_cache(_workspace: Path, folder: Path) -> TarCache:
    return TarCache(folder, round(params.read_section(params.Stream).cache_gib * GIB))


def _key(url: str) -> str:
    return hash_of(url.encode()).hexdigest()[:24]


def open_server(url: str, patience: Patience) -> tuple[requests.Session, str]:
    """Return a session that may ask for it, and where it lies for HTTP.

    Raises:
        InputError: what the environment says of S3 cannot be used.
    """
    session = open_session(patience, [url])
    if not url.startswith(_S3):
        return session, url
    try:
        from botocore import auth, awsrequest, exceptions  # not for everyone
        from botocore import session as s3
    except ImportError:
        raise InputError(
            f"{url}: needs botocore; install the extra: pip install -c constraints.txt -e '.[stream]'"
        ) from None
    try:
        found = s3.get_session()
        region = found.get_config_variable("region") or "us-east-1"
        endpoint = found.create_client("s3", region_name=region).meta.endpoint_url
        credentials = found.get_credentials()
    except (exceptions.BotoCoreError, ValueError) as error:
        raise InputError(
            f"{url}: {first_line(error)}; correct the variables AWS_... of the environment, or the files "
            "they name"
        ) from None

    class Signature(requests.auth.AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            signed = awsrequest.AWSRequest("GET", request.url)
            auth.S3SigV4Auth(credentials.get_frozen_credentials(), "s3", region).add_auth(signed)
            request.headers.update(dict(signed.headers))
            return request

    if credentials is not None:
        session.auth = Signature()
    return session, f"{endpoint}/{quote(url.removeprefix(_S3))}"
