"""A message when a run ends: JSON to a webhook, or by apprise, which knows chat rooms and mail."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.errors import first_line
from components.core.files import read_json_object
from components.core.logs import own_logger
from components.core.paths import REPORT_DIR
from components.core.redaction import redacted_values
from components.tracking.metrics import numbers
from components.tracking.pipeline_run import Row

# A secret, like most webhooks' addresses: in the environment, not in params.yaml, which MLflow gets to see.
WEBHOOK_VARIABLE = "VIRTEX_WEBHOOK_URL"
_ATTEMPTS = 5
_BACKOFF_SECONDS = 1.0  # doubled with each attempt
_TIMEOUT_SECONDS = (5.0, 15.0)  # to connect, to answer
_BUSY = (429, 500, 502, 503, 504)
_SHOWN_FIGURES = 8

_logger = own_logger(__name__)


def message(
    run: str,
    state: str,
    table: Sequence[Row] = (),
    errors: Mapping[str, str] | None = None,
    results: Mapping[str, float] | None = None,
    links: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Return what is sent, as JSON.

    Args:
        run: its name.
        state: ``completed``, ``failed`` or ``cancelled``.
        table: one row per stage.
        errors: messages of what failed, by stage.
        results: figures of the report, by name; none if this run has no report.
        links: addresses by what they show; those that are None are left out.
    """
    known = {name: link for name, link in (links or {}).items() if link}
    return {
        "text": _text(run, state, errors or {}, results or {}, known),
        "run": run,
        "state": state,
        "host": socket.gethostname(),
        "stages": {str(row["stage"]): row["state"] for row in table},
        "seconds": {str(row["stage"]): row["seconds"] for row in table},
        "errors": dict(errors or {}),
        "results": dict(results or {}),
        "links": known,
    }


def results(root: Path) -> dict[str, float]:
    """Return the report's figures, by name."""
    return numbers(read_json_object(root / REPORT_DIR / "metrics.json"))


def notify(content: Mapping[str, Any]) -> bool:
    """Send to ``VIRTEX_WEBHOOK_URL``; returns whether it was taken.

    A webhook is asked again while it is busy or away. Never raises: a run does not fail because nobody hears
    of it.
    """
    url = os.environ.get(WEBHOOK_VARIABLE)
    if not url:
        return False
    try:
        send = _post if url.lower().startswith(("http://", "https://")) else _by_apprise
        send(url, redacted_values(content))
    except Exception as error:  # says nothing of the address, which may hold a secret
        _logger.warning("%s did not receive the end of the run (%s)", WEBHOOK_VARIABLE, type(error).__name__)
        return False
    return True


@contextlib.contextmanager
def errors_announced(run: str) -> Iterator[None]:
    """Tell the webhook of an exception within it, such as bad parameters, and pass it on."""
    try:
        yield
    except Exception as error:
        notify(message(run, "failed", errors={"run": str(error)}))
        raise


def _post(url: str, content: Mapping[str, Any]) -> None:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    patience = Retry(
        total=_ATTEMPTS - 1,
        backoff_factor=_BACKOFF_SECONDS,
        status_forcelist=_BUSY,
        allowed_methods=None,
        redirect=0,
    )
    with _unlogged("urllib3"), requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=patience))
        answer = session.post(url, json=content, timeout=_TIMEOUT_SECONDS, allow_redirects=False)
    if not answer.ok or answer.is_redirect:
        raise ValueError(f"answered {answer.status_code}")


def _by_apprise(url: str, content: Mapping[str, Any]) -> None:
    import apprise

    kind = apprise.NotifyType.SUCCESS if content["state"] == "completed" else apprise.NotifyType.FAILURE
    title, _, body = str(content["text"]).partition("\n")
    with _unlogged("apprise"), _unlogged("urllib3"):
        receiver = apprise.Apprise()
        if not receiver.add(url) or not receiver.notify(body or title, title, kind):
            raise ValueError("not taken")


@contextlib.contextmanager
def _unlogged(name: str) -> Iterator[None]:
    """Silence this library's warnings within it: they tell the address."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _text(
    run: str, state: str, errors: Mapping[str, str], results: Mapping[str, float], links: Mapping[str, str]
) -> str:
    lines = [f"{run}: {state}"]
    lines += [f"{stage} failed: {first_line(text)}" for stage, text in errors.items()]
    lines += [f"{name}: {value:.4g}" for name, value in list(results.items())[:_SHOWN_FIGURES]]
    lines += [f"{name}: {link}" for name, link in links.items()]
    return "\n".join(lines)
