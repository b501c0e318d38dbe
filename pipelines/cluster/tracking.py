"""The MLflow server that the machines share. Credentials never travel: each machine has its own."""

import os
import urllib.error
import urllib.request
from collections.abc import Mapping

from components.core.errors import InputError
from components.tracking.store import public_uri, tracking_uri

_VARIABLE = "MLFLOW_TRACKING_URI"
_SECONDS = 10.0


def shared_tracking_uri() -> str | None:
    """The address of the flow's server for the workers; None if it holds a password, and each needs its own.

    Raises:
        InputError: the flow's store is a file of this machine.
    """
    uri = tracking_uri()
    if not uri.startswith(("http://", "https://")):
        raise InputError(
            f"several machines need one MLflow server: set {_VARIABLE}=http://HOST:5000 to one that all "
            "of them reach; docs/teams.md says how to start it"
        )
    return public_uri(uri)


def tracking_variables(sent: Mapping[str, str]) -> dict[str, str]:
    """For the environment of a stage: the worker's own setting goes before the flow's."""
    uri = os.environ.get(_VARIABLE) or sent.get(_VARIABLE)
    return {_VARIABLE: uri} if uri else {}


def sent_variables(uri: str | None) -> dict[str, str]:
    """What the flow sends of it."""
    return {_VARIABLE: uri} if uri else {}


def require_tracking(sent: str | None) -> None:
    """Refuse a machine that does not reach the server it would use.

    Raises:
        InputError: there is none, or nothing answers.
    """
    uri = os.environ.get(_VARIABLE) or sent
    if not uri or not uri.startswith(("http://", "https://")):
        raise InputError(f"no MLflow server: set {_VARIABLE} where the worker runs")
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it is there, and may want a password
    except OSError as error:
        reason = getattr(error, "reason", error)
        shown = public_uri(uri) or f"the address in {_VARIABLE}"
        raise InputError(f"MLflow at {shown} does not answer there ({reason})") from error
