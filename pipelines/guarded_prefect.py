"""Prefect's server, for pages of its own: a web page of somebody else can neither read nor drive it.

Prefect's own server answers whatever name a browser calls it by, and pages of all origins. This factory, for
uvicorn, imports nothing of this project: the container of the team's server has this file alone.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
HOSTS_VARIABLE = "VIRTEX_PREFECT_HOSTS"  # further names that it may be called by, with commas

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Guard:
    """Refuses requests by other host names (a page can let its own name point here) and of other origins.

    An origin is allowed if it is one of the allowed names at the port that is asked, as the server's own
    pages are; programs send none.
    """

    def __init__(self, app: Any, hosts: tuple[str, ...]) -> None:
        self._app = app
        self._hosts = frozenset((*_LOOPBACK, *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = self._fault(scope) if scope["type"] in ("http", "websocket") else None
        if reason is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": f"{reason}\n".encode()})

    def _fault(self, scope: Scope) -> str | None:
        found = {"host": [""], "origin": []}
        for name, value in scope["headers"]:
            key = name.decode("latin-1")
            if key in found:
                found[key] = [*filter(None, found[key]), value.decode("latin-1")]
        host, port = _place(f"//{found['host'][0]}")
        if len(found["host"]) > 1 or host not in self._hosts:
            return f"this server is not called {host or 'nothing'}; {HOSTS_VARIABLE} names more hosts"
        for origin in found["origin"]:
            if _place(origin) not in {(name, port) for name in self._hosts}:
                return "pages of another origin may not ask this server"
        return None


def _place(address: str) -> tuple[str, int | None]:
    """Return host, in lower case, and port; nothing for what is no address."""
    try:
        parts = urlsplit(address)
        return (parts.hostname or "").lower(), parts.port
    except ValueError:
        return "", None


def create_app() -> Guard:
    """Return the server that the environment describes, behind the guard."""
    from prefect.server.api.server import create_app as create_prefect

    hosts = (name.strip().lower() for name in os.environ.get(HOSTS_VARIABLE, "").split(","))
    return Guard(create_prefect(), tuple(filter(None, hosts)))
