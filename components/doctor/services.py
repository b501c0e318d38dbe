"""What the pipeline talks to: the DVC remote, the MLflow and Prefect servers."""

import os
import sqlite3
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.redaction import redacted
from components.doctor.finding import Finding, Sections, attention, broken, fine, fine_unless
from components.tracking.database import ADVICE, database_fault
from components.tracking.store import public_uri, tracking_uri

PATIENCE_SECONDS = 20.0
PROBE = b"written by virtex doctor; may be removed"


def dvc(_: Sections) -> Iterator[Finding]:
    """Open the repository, write to each of its remotes and read from it."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with Repo(".") as repo:
            names = sorted(repo.config["remote"])
            if not names:
                found = "no remote: outputs are kept on this disk only"
                yield fine("DVC", found)
            for name in names:
                yield _remote(repo, name)
    except (DvcException, SCMError) as error:
        yield broken("DVC", str(error), "run `virtex doctor` in the repository's root folder")


def _remote(repo: Any, name: str) -> Finding:
    place = repo.config["remote"][name].get("url", "")
    title = f"DVC remote {name}"
    advice = f"`dvc push -r {name}` and `dvc pull` will fail until its address and credentials are right"
    fault = _in_time(lambda: _write_and_read(repo, name))
    found = f"{place}: {fault}" if fault else f"{place}, read and written"
    return fine_unless(title, found, advice, is_doubtful=bool(fault))


def _write_and_read(repo: Any, name: str) -> None:
    from dvc.fs import get_cloud_fs

    cls, config, folder = get_cloud_fs(repo.config, name=name)
    remote = cls(**config)
    probe = remote.join(folder, f"doctor-{uuid.uuid4().hex}")
    existed = remote.exists(folder)
    remote.makedirs(folder, exist_ok=True)
    try:
        remote.pipe_file(probe, PROBE)
        if remote.cat_file(probe) != PROBE:
            raise OSError("it returned other bytes than were written")
    finally:
        if remote.exists(probe):
            remote.rm_file(probe)
        if not existed and remote.protocol == "local":
            os.rmdir(folder)


def _in_time(work: Callable[[], None]) -> str | None:
    """Return why the work failed, or that it did not end in time; None if it went well."""
    faults: list[str] = []

    def attempt() -> None:
        try:
            work()
        except Exception as error:  # every kind of remote has exceptions of its own
            faults.append(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:200])

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    if thread.is_alive():
        return f"no answer in {PATIENCE_SECONDS:.0f} s"
    return faults[0] if faults else None


def mlflow(_: Sections) -> Iterator[Finding]:
    uri = tracking_uri()
    if uri.startswith("http"):
        shown = public_uri(uri) or "the server of MLFLOW_TRACKING_URI"
        meaning = "runs go on, and are not recorded"
        yield _server("MLflow", "MLFLOW_TRACKING_URI", shown, uri, meaning)
        return
    if not uri.startswith("sqlite:///"):
        yield fine("MLflow", f"a store of the kind {uri.partition(':')[0]}, not looked into")
        return
    database = Path(uri.removeprefix("sqlite:///"))
    folder = database.parent
    try:
        fault = database_fault(database) if database.exists() else None
    except InputError as error:
        yield attention("MLflow", str(error).removesuffix(f"; {ADVICE}"), ADVICE)
        return
    except sqlite3.Error as error:
        yield attention("MLflow", f"{database}: {error}", "close what holds it, or make it readable")
        return
    if fault:
        yield attention("MLflow", f"{database} {fault}", "nothing: the next run makes it anew")
    else:
        is_writable = os.access(folder, os.W_OK)
        found = f"its database is in {folder}" if is_writable else f"{folder} cannot be written to"
        advice = "make it writable, or set MLFLOW_TRACKING_URI"
        yield fine_unless("MLflow", found, advice, is_doubtful=not is_writable)


def prefect(_: Sections) -> Iterator[Finding]:
    api = os.environ.get("PREFECT_API_URL")
    if api:
        meaning = "`virtex run` needs it; `dvc repro` does not"
        yield _server("Prefect", "PREFECT_API_URL", api, api, meaning)
    else:
        yield fine("Prefect", "no server is named; a temporary one is started when needed")


def _server(name: str, variable: str, shown: str, address: str, meaning: str) -> Finding:
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=5):
            return fine(name, redacted(f"{shown} answers"))
    except urllib.error.HTTPError as error:
        reason = f"{error.code} {error.reason}"
    except OSError as error:
        reason = str(getattr(error, "reason", error))
    found = redacted(f"{shown} does not answer ({reason}): {meaning}")
    return attention(name, found, f"start it, or unset {variable}")
