"""Secrets out of whatever is printed, logged, stored or sent: one rule for all of it.

A URL loses its user, its password and its query, in which servers take keys; the value of an environment
variable that by its name holds a secret becomes ``***`` wherever it stands.
"""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
_END = r"\s'\"<>`|"
# The user's part reaches to the last @ before a path; a query to the fragment, without punctuation after it.
_USER = re.compile(rf"({_SCHEME})[^/?#{_END}]*@")
_QUERY = re.compile(rf"({_SCHEME}[^?#{_END}]*)\?[^#{_END}]*?(?=[,;:.)\]}}]*(?:[#{_END}]|$))")
_SECRET_NAME = re.compile(r"TOKEN|PASSWORD|PASSWD|SECRET|API_KEY|AUTH_STRING|ACCESS_KEY|WEBHOOK")
_SHORTEST = 6  # characters; a shorter value is a word like any other


def redacted(text: str) -> str:
    """Return ``text`` without secrets."""
    if "://" in text:
        text = _QUERY.sub(r"\1", _USER.sub(r"\1", text))
    for secret in _known_secrets():
        text = text.replace(secret, "***")
    return text


def redacted_values(value: Any) -> Any:
    """Do the same for all texts in mappings and lists."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {key: redacted_values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(redacted_values, value))
    return value


def _known_secrets() -> list[str]:
    """Return the values of the environment, as they are and as URLs write them; the longest first."""
    values = {v for name, v in os.environ.items() if _SECRET_NAME.search(name)}
    values |= {v.partition(":")[2] for name, v in os.environ.items() if name.endswith("AUTH_STRING")}
    values = {v for v in values if len(v) >= _SHORTEST}
    return sorted(values | {quote(value, safe="") for value in values}, key=len, reverse=True)
