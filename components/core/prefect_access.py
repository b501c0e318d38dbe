"""Whether Prefect's server lets this machine in. It tells everybody its health, and no more."""

import os
import urllib.error
import urllib.request
from base64 import b64encode
from http.client import HTTPException
from urllib.parse import unquote, urlsplit

AUTH_VARIABLE = "PREFECT_API_AUTH_STRING"  # USER:PASSWORD
_KEY_VARIABLE = "PREFECT_API_KEY"  # Prefect Cloud's


def question(address: str, path: str, auth: str | None = None) -> urllib.request.Request:
    """Return a request for ``path`` below ``address``, with the credentials that Prefect's client sends.

    Args:
        address: of the API; a user and password in it go before all others.
        path: below it.
        auth: USER:PASSWORD instead of those of the environment.

    Raises:
        ValueError: this is no address.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an address such as http://127.0.0.1:4200/api")
    user, _, place = parts.netloc.rpartition("@")
    words = unquote(user) or auth or os.environ.get(AUTH_VARIABLE)
    key = os.environ.get(_KEY_VARIABLE)
    sent = f"Basic {b64encode(words.encode()).decode()}" if words else f"Bearer {key}" if key else ""
    headers = {"Authorization": sent} if sent else {}
    return urllib.request.Request(f"{parts.scheme}://{place}{parts.path.rstrip('/')}/{path}", headers=headers)


def is_cloud(address: str) -> bool:
    """Return whether this is Prefect Cloud, which has no health or version below a workspace's address."""
    return (urlsplit(address).hostname or "").endswith("prefect.cloud")


def refusal(address: str, seconds: float) -> str:
    """Return what the server says to our credentials, and what to do; empty where it takes them.

    Whatever else is wrong with it is not looked at.
    """
    request = question(address, "admin/version")
    if is_cloud(address) or not _is_refused(request, seconds):
        return ""
    if request.has_header("Authorization"):
        return f"refuses the user or the password; correct {AUTH_VARIABLE}"
    from prefect.settings import get_current_settings  # a profile may hold it

    words = get_current_settings().api.auth_string
    if not words:
        return f"wants a user and a password; set {AUTH_VARIABLE}=USER:PASSWORD"
    if _is_refused(question(address, "admin/version", words.get_secret_value()), seconds):
        return f"refuses the user or the password; correct {AUTH_VARIABLE} in Prefect's profile"
    return ""


def _is_refused(request: urllib.request.Request, seconds: float) -> bool:
    try:
        with urllib.request.urlopen(request, timeout=seconds):
            return False
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except (OSError, HTTPException):
        return False
