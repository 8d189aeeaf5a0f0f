"""What the page sends: small JSON objects, read with a limit on their size and on the time that they take."""

from __future__ import annotations

import asyncio
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from latentshift.user_input.bounded_read import parse_json_bounded
from latentshift.user_input.error_text import format_validation_error

MAX_BODY = 2**14  # bytes
_BODY_SECONDS = 15.0

Body = TypeVar("Body", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class EnterBody(_Strict):
    """The secret of the link that a rater opened."""

    token: str = Field(min_length=1, max_length=200)


class AnswerBody(_Strict):
    """An answer: the pair, a side for each question, and how long it took with how many replays."""

    pair: int = Field(ge=1, lt=2**63)
    sides: dict[str, Literal["left", "right", "neither"]] = Field(max_length=100)
    seconds: float | None = Field(None, ge=0, le=1e7, allow_inf_nan=False)
    replays: int | None = Field(None, ge=0, le=10**6)


async def read_body(request: Request, kind: type[Body]) -> Body:
    """Read a request's JSON.

    Raises:
        HTTPException: 415 unless it says that it is JSON (which a form of another site can't), 413 if it is too long,
            408 if it takes too long, 400 if it is not of the kind.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the request must be JSON")
    content = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > MAX_BODY:
                    raise HTTPException(413, f"the request is longer than {MAX_BODY:,} bytes")
    except TimeoutError:
        raise HTTPException(408, "the request did not come in time") from None
    try:
        return kind.model_validate(parse_json_bounded(content.decode(), "the request"))
    except ValidationError as error:
        raise HTTPException(400, format_validation_error(error)) from None
    except ValueError as error:
        raise HTTPException(400, str(error)) from None
