"""Requests of the rater's page as calls of the store. No path in a request becomes a path on the disk.

A rater comes with the secret of the study's link, or of a link of their own, in the fragment of its address, which
browsers send nowhere; the page posts it once, and has a cookie from then on.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from latentshift.study.records import AnswerRefusedError, Assignment, RaterProgress, UnknownTokenError
from latentshift.study.server.headers import SecurityHeaders
from latentshift.study.server.requests import AnswerBody, EnterBody, read_body
from latentshift.study.server.store_thread import StoreThread
from latentshift.study.store import Store

_PAGE = {
    "/": ("index.html", "text/html"),
    "/study.css": ("study.css", "text/css"),
    "/study.js": ("study.js", "text/javascript"),
    "/player.js": ("player.js", "text/javascript"),
    "/server.js": ("server.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_CLIPS = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".png": "image/png",
}
_COOKIE_SECONDS = 180 * 24 * 3600


def study_app(folder: Path, invitation: str) -> ASGIApp:
    """The application of one study.

    Args:
        folder: of the study.
        invitation: the secret of its link.

    Raises:
        FileNotFoundError, ValueError: when it starts, where the folder holds no study.
    """
    return SecurityHeaders(_Study(folder, invitation).app)


class _Study:
    def __init__(self, folder: Path, invitation: str) -> None:
        self._store = StoreThread(folder)
        self._invitation = invitation.encode()
        # Browsers send cookies to all ports of a machine, and keep clips: both are of this study alone.
        self._study = hashlib.sha256(self._invitation).hexdigest()[:12]
        self._cookie = f"study-{self._study}"
        self.app = Starlette(
            routes=[
                *(Route(path, _file_of_page(*file)) for path, file in _PAGE.items()),
                Route("/api/enter", self._enter, methods=["POST"]),
                Route("/api/next", self._next, methods=["POST"]),
                Route("/api/answer", self._answer, methods=["POST"]),
                Route("/clips/{pair:int}/{side}", self._clip),
            ],
            lifespan=self._lifespan,
            exception_handlers={
                HTTPException: _http_error,
                UnknownTokenError: _unknown_rater,
                AnswerRefusedError: _refused,
                sqlite3.OperationalError: _busy,
            },
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self._store.open()
        try:
            yield
        finally:
            await self._store.close()

    async def _enter(self, request: Request) -> Response:
        """Give a rater their cookie: a new rater's for the study's link, unless there is one already."""
        token = (await read_body(request, EnterBody)).token
        if secrets.compare_digest(token.encode("utf-8", "surrogatepass"), self._invitation):
            token = await self._known_cookie(request) or (await self._store.call(Store.add_raters, 1))[0]
        else:
            await self._store.call(Store.rater_id, token)
        response = Response(status_code=204)
        secure = request.url.scheme == "https"
        response.set_cookie(
            self._cookie, token, max_age=_COOKIE_SECONDS, httponly=True, samesite="strict", secure=secure
        )
        return response

    async def _next(self, request: Request) -> Response:
        """The pair to answer now, with the questions and where the rater stands."""
        pair, progress, rater = await self._store.call(_pair_and_progress, self._token(request))
        settings = await self._store.call(lambda store: store.settings)
        return JSONResponse(
            {
                "study": self._study,
                "rater": rater,
                "questions": [{"name": each.name, "text": each.text} for each in settings.questions],
                "cant_tell": settings.cant_tell,
                "answered": progress.answered,
                "available": progress.available,
                "waiting": progress.waiting,
                "pair": None if pair is None else self._described(pair),
            }
        )

    async def _answer(self, request: Request) -> Response:
        token = self._token(request)
        body = await read_body(request, AnswerBody)
        try:
            await self._store.call(
                Store.answer, token, body.pair, body.sides, seconds=body.seconds, replays=body.replays
            )
        except AnswerRefusedError:
            raise
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        return JSONResponse({"stored": True})

    async def _clip(self, request: Request) -> Response:
        """A clip of a pair of this rater, by the pair and the side, so that the address tells nothing."""
        side = request.path_params["side"]
        pair = request.path_params["pair"]
        if side not in ("left", "right") or pair >= 2**63:
            raise HTTPException(404, "there is no such clip")
        try:
            path = await self._store.call(Store.clip_of, self._token(request), pair, side)
        except AnswerRefusedError as error:
            raise HTTPException(404, str(error)) from None
        if not path.is_file():
            raise HTTPException(500, "the clip is missing on the server: please tell whoever sent you here")
        return FileResponse(path, media_type=_CLIPS[path.suffix], headers={"cache-control": "private, max-age=86400"})

    def _described(self, pair: Assignment) -> dict[str, Any]:
        def side(name: Literal["left", "right"], file: str) -> dict[str, str]:
            kind = _CLIPS[Path(file).suffix].partition("/")[0]
            return {"url": f"clips/{pair.id}/{name}?study={self._study}", "kind": kind}

        return {
            "id": pair.id,
            "prompt": pair.prompt,
            "left": side("left", pair.left),
            "right": side("right", pair.right),
        }

    def _token(self, request: Request) -> str:
        token = request.cookies.get(self._cookie)
        if token is None:
            raise UnknownTokenError("open the link that you were sent")
        return token

    async def _known_cookie(self, request: Request) -> str | None:
        try:
            token = self._token(request)
            await self._store.call(Store.rater_id, token)
        except UnknownTokenError:
            return None
        return token


def _pair_and_progress(store: Store, token: str) -> tuple[Assignment | None, RaterProgress, str]:
    return store.next_assignment(token), store.progress_of(token), store.rater_id(token)


def _file_of_page(name: str, media_type: str) -> Any:
    content = (files("latentshift.study") / "page" / name).read_bytes()

    async def file(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return file


def _error(status: int, error: object) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _unknown_rater(request: Request, error: Exception) -> Response:
    return _error(401, error)


async def _refused(request: Request, error: Exception) -> Response:
    return _error(409, error)


async def _busy(request: Request, error: Exception) -> Response:
    return _error(503, f"the study's file can't be written now: {error}")
