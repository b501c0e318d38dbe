"""Whether Prefect's server answers, before a flow and during it: Prefect itself retries for minutes.

A flow's own part, its stages, needs no server and is never ended here; Prefect's part before and after it is.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException

from components.core.errors import EXIT_INTERRUPTED, InputError, first_line
from components.core.prefect_access import is_cloud, question, refusal
from components.core.process import ENDING
from components.core.redaction import redacted
from pipelines.process import Stop
from pipelines.workspace import clear_holder

ADDRESS_VARIABLE = "PREFECT_API_URL"
_ANSWER_SECONDS = 15.0
_REFUSAL_SECONDS = 5.0
_PREFECT_MODULES = ("httpx", "httpcore", "prefect", "websockets", "anyio")
_ADVICE = "start that Prefect server or unset the variable, so that `virtex run` uses one of its own"
_LOOK_SECONDS = 2.0
_LOST_LOOKS = 2  # in a row without an answer
_PATIENCE_SECONDS = 10.0  # for Prefect to end by itself once somebody has asked to stop


def require_server(address: str, is_stopped: Callable[[], bool] = lambda: False) -> None:
    """Ask the server at ``address`` whether it is well and lets us in; returns at once when ``is_stopped``.

    Raises:
        InputError: it is not, wants another password, or does not answer within seconds.
    """
    reason = _in_time(lambda: _fault(address), _ANSWER_SECONDS, is_stopped)
    if reason:
        raise InputError(_told(address, f"{reason}; {_ADVICE}"))
    seconds = 6 * _REFUSAL_SECONDS  # Prefect's import, which its profile may take, is part of it
    refused = _in_time(lambda: refusal(address, _REFUSAL_SECONDS), seconds, is_stopped)
    if refused and refused != _silent(seconds):  # which the run itself will see
        raise InputError(_told(address, refused))


def _told(address: str, reason: str) -> str:
    return f"{ADDRESS_VARIABLE}={redacted(address)}: {reason}"


def _in_time(ask: Callable[[], str], seconds: float, is_stopped: Callable[[], bool]) -> str:
    """Return what ``ask`` says, in a thread that nobody need wait for: servers may trickle bytes."""
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), name="server-question", daemon=True)
    thread.start()
    limit = time.monotonic() + seconds
    while thread.is_alive() and time.monotonic() < limit:
        if is_stopped():
            return ""
        thread.join(0.1)
    return answers[0] if answers else _silent(seconds)


def _fault(address: str) -> str:
    """Return what is wrong with the server, empty if nothing is."""
    try:
        with urllib.request.urlopen(question(address, "health"), timeout=_ANSWER_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        # Prefect Cloud asks for a key, and answers other things below a workspace's address.
        is_there = error.code in (401, 403) or (error.code == 404 and is_cloud(address))
        return "" if is_there else f"answers HTTP {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return _silent(_ANSWER_SECONDS) if isinstance(reason, TimeoutError) else f"no answer ({reason})"


def _silent(seconds: float) -> str:
    return f"no answer within {seconds:.0f} seconds"


@contextlib.contextmanager
def server_watched(stop: Stop, outcome: Callable[[], int]) -> Iterator[None]:
    """Let neither a silent server nor a signal wait for Prefect's patience within it, where a flow is called.

    Where Prefect does not come to its end the process ends here, with one line: Prefect catches whatever is
    raised, and asks its server again.

    Args:
        stop: the command's; a flow's own part has another, and sees to itself.
        outcome: says what became of the stages, and gives the exit status of a process that ends here.
    """
    outside = signal.getsignal(signal.SIGINT)  # another handler is in force while stages are at work
    over = threading.Event()
    address = os.environ.get(ADDRESS_VARIABLE, "")

    def look() -> str:
        return _in_time(lambda: _fault(address), _ANSWER_SECONDS, over.is_set)

    def watch(was_signalled: Callable[[], bool]) -> None:
        silent, asked, since = 0, False, 0.0
        while not over.wait(_LOOK_SECONDS):
            asked = was_signalled() or stop.is_set() or asked
            if signal.getsignal(signal.SIGINT) is not outside:
                silent, since = 0, 0.0
                continue
            since = since or (time.monotonic() if asked else 0.0)
            if since and time.monotonic() - since >= _PATIENCE_SECONDS:
                _leave("stopped, without waiting for Prefect's server", lambda: EXIT_INTERRUPTED)
            reason = "" if asked else look()
            silent = silent + 1 if reason else 0
            if silent >= _LOST_LOOKS:
                _leave(_told(address, f"{reason}; {_ADVICE}"), outcome)

    with _signals_seen() as was_signalled:
        threading.Thread(target=watch, args=(was_signalled,), name="server-watch", daemon=True).start()
        try:
            yield
        except Exception as error:
            said = str(error)
            if not type(error).__module__.startswith(_PREFECT_MODULES) and "API" not in said:
                raise
            refused = refusal(address, _REFUSAL_SECONDS)
            reason = look() or f"refused what it was asked for ({first_line(said)})"
            _leave(_told(address, refused or f"{reason}; {_ADVICE}"), outcome)
        finally:
            over.set()


@contextlib.contextmanager
def _signals_seen() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether a signal came since it was last asked, whoever handles them.

    Prefect's own handler of SIGTERM asks the server first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    reading, writing = socket.socketpair()
    for end in (reading, writing):
        end.setblocking(False)
    before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)

    def was_signalled() -> bool:
        with contextlib.suppress(OSError):
            return bool(set(reading.recv(4096)) & set(ENDING))
        return False

    try:
        yield was_signalled
    finally:
        signal.set_wakeup_fd(before)
        reading.close()
        writing.close()


def _leave(message: str, outcome: Callable[[], int]) -> None:
    status = 1
    with contextlib.suppress(Exception):
        status = outcome()
        clear_holder()
    with contextlib.suppress(OSError):
        print(f"virtex: error: {message}", file=sys.stderr, flush=True)
        sys.stdout.flush()
    os._exit(status)
