"""What the routes share: the inversions that requests are about, and how they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path as FilePath
from typing import Annotated, Any, TypeVar

from fastapi import HTTPException, Path, Request, Response

from ..errors import HyperStyleError
from ..imaging.picture_files import parse_picture
from . import schemas
from .jobs import Job, Media
from .service import Service
from .store import DONE, FAILED, Kept

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Problem, "description": says}
    for status, says in {
        400: "The body cannot be parsed.",
        401: "The token is missing or wrong.",
        403: "A script of another web site asks.",
        404: "There is no such inversion, or not any more.",
        408: "The body comes too slowly.",
        409: "The inversion is not done yet.",
        410: "The inversion was given up.",
        413: "The body is too large.",
        422: "What is asked for cannot be done; the sentence says why.",
        429: "The queue is full; Retry-After says when to try again.",
        500: "A fault of this program; its log says more.",
        503: "The workers died of this, or none is ready.",
        504: "It took longer than is allowed.",
    }.items()
}
PICTURES = {
    "content": {kind: {} for kind in ("image/png", "image/jpeg", "image/webp")},
    "description": "The picture.",
}
MEDIA = {
    "content": {
        kind: {} for kind in (*PICTURES["content"], "image/gif", "video/mp4", "video/webm")
    },
    "description": "The picture or film.",
}

GONE = 499
"""Status of a request whose client did not wait for the answer; nginx's. Nobody gets it."""

T = TypeVar("T")

InversionId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{22}$", description="Of an inversion.")]


def service_of(request: Request) -> Service:
    """The service that a request is for."""
    service: Service = request.app.state.service
    return service


def kept_of(request: Request, id: str) -> Kept:
    """An inversion by its id; 404 if there is none."""
    kept = service_of(request).store.get(id)
    if kept is None:
        raise HTTPException(404, "there is no such inversion, or not any more; invert it again")
    return kept


def done_of(request: Request, id: str) -> Kept:
    """An inversion that is done; 409 if it is not yet, its own problem if it has failed."""
    kept = kept_of(request, id)
    if kept.state == FAILED:
        raise HTTPException(kept.status, kept.problem)
    if kept.state != DONE:
        raise HTTPException(409, "the inversion is not done yet; wait for it")
    return kept


def file_of(request: Request, id: str) -> bytes:
    """The inversion file of an inversion that is done."""
    result = done_of(request, id).result
    assert result is not None
    return result.file


def check_pixels(content: bytes, limit: int) -> None:
    """Refuse what is no picture, or too large a one, by its header."""
    try:
        file = parse_picture(content, FilePath("the picture"))
    except HyperStyleError as error:
        raise HTTPException(422, str(error)) from None
    if file.width * file.height > limit:
        raise HTTPException(
            422,
            f"the picture has {file.width} x {file.height} pixels, and this service takes "
            f"{limit:,}; scale it down first",
        )


class ClientGone(HTTPException):
    """The client did not wait for the answer."""

    def __init__(self) -> None:
        super().__init__(GONE, "the client has gone")


async def while_waited(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await something, as long as the client does: nobody else tells that it has gone.

    Raises
    ------
    ClientGone
        If it has; what was awaited is cancelled then.
    """
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=1))[0]:
            if await request.is_disconnected():
                raise ClientGone
        return task.result()
    finally:
        task.cancel()


async def done_job(request: Request, job: Job) -> Any:
    """Have a job done, as long as the client waits for what it gives.

    Raises
    ------
    HTTPException
        As `Service.do`, and where the client has gone.
    """
    return await while_waited(request, service_of(request).do(job))


def media_response(media: Media) -> Response:
    """A picture or film as an answer."""
    return Response(media.content, media_type=media.type)
