"""The playground's web server, for its own page on loopback: the page, pictures, and answers about them."""

import asyncio
from collections.abc import Sequence
from importlib import resources

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from components.core.errors import InputError
from components.core.foreign_text import said
from components.core.pictures import spread
from components.data.image import DecodeError, decode, encode_jpeg
from components.playground.models import Answer, Asked, Known, Player

HOSTS = ("127.0.0.1", "localhost")
MAX_BYTES = 50_000_000  # of a picture's file
SHOWN = 24  # validation images to choose from
QUALITY = 90
HEADERS = {  # nothing from elsewhere, nothing for other pages
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Playground:
    """The models and validation images of a page; one question is answered at a time."""

    def __init__(self, players: Sequence[Player], images: Known | None, notices: Sequence[str] = ()) -> None:
        self._players, self._images, self._notices = players, images, notices
        self._turn = asyncio.Lock()

    def app(self) -> Starlette:
        """Return the server; it answers to no other host's name and to no page of another origin."""
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/about", self._about),
                Route("/images/{index:int}", self._image),
                Route("/answer", self._answer, methods=["POST"]),
            ],
            middleware=[
                Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False),
                Middleware(BaseHTTPMiddleware, dispatch=_own_pages_only),
            ],
            exception_handlers={InputError: _refused, DecodeError: _refused, ValidationError: _refused},
        )

    async def _page(self, _: Request) -> Response:
        page = resources.files("components.playground").joinpath("page.html")
        return HTMLResponse(page.read_text(encoding="utf-8"))

    async def _about(self, _: Request) -> Response:
        shown = [] if self._images is None else self._images.indices
        chosen = [shown[row] for row in spread(len(shown), SHOWN)]
        models = [player.name for player in self._players]
        default = Asked().model_dump(exclude={"image", "words"})
        return JSONResponse(
            {"models": models, "images": chosen, "notices": list(self._notices), "default": default}
        )

    async def _image(self, request: Request) -> Response:
        stored = self._stored(request.path_params["index"])
        pixels = await run_in_threadpool(decode, stored)
        return Response(encode_jpeg(pixels, QUALITY), media_type="image/jpeg")

    async def _answer(self, request: Request) -> Response:
        asked = Asked.model_validate(dict(request.query_params))
        data = await _body(request) if asked.image is None else self._stored(asked.image)
        async with self._turn:
            answers = await run_in_threadpool(self._answers, data, asked)
        return JSONResponse([answer.model_dump() for answer in answers])

    def _answers(self, data: bytes, asked: Asked) -> list[Answer]:
        try:
            pixels = decode(data)
        except DecodeError as error:
            raise InputError(f"not an image that can be read ({error})") from error
        return [player.answer(pixels, asked, self._images) for player in self._players]

    def _stored(self, index: int) -> bytes:
        if self._images is None or index not in range(len(self._images.store)):
            raise InputError(f"there is no validation image {index}")
        return self._images.store.get(index).image


async def _own_pages_only(request: Request, answer: RequestResponseEndpoint) -> Response:
    origin = request.headers.get("origin", f"http://{request.headers['host']}")
    if origin != f"http://{request.headers['host']}":
        return PlainTextResponse("pages of another origin may not ask this server\n", 403)
    response = await answer(request)
    response.headers.update(HEADERS)
    return response


async def _refused(_: Request, error: Exception) -> Response:
    message = str(error)
    if isinstance(error, ValidationError):
        faults = (
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".removeprefix(": ")
            for fault in error.errors(include_url=False)
        )
        message = "; ".join(fault.replace("Value error, ", "") for fault in faults)
    return JSONResponse({"error": said(message)}, 422)


async def _body(request: Request) -> bytes:
    """Return a picture's file.

    Raises:
        InputError: there is none, or it is too large.
    """
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BYTES:
            raise InputError(f"the file has more than {MAX_BYTES:,} bytes; make the picture smaller")
    if not data:
        raise InputError("there is no picture: drop one, or choose one of the validation images")
    return bytes(data)
