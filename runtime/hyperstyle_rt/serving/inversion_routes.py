"""Routes: inversions, from the picture to the file."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Header, HTTPException, Request, Response, UploadFile
from fastapi.responses import StreamingResponse

from ..formats.inversion_file import MAX_FILE_SIZE
from ..formats.methods import MAX_ITERATIONS
from ..inverting.preparing import Align
from ..optimising.names import MAX_STEPS
from . import schemas
from .asking import (
    PICTURES,
    PROBLEMS,
    ClientGone,
    InversionId,
    check_pixels,
    done_job,
    done_of,
    file_of,
    kept_of,
    media_response,
    service_of,
    while_waited,
)
from .jobs import NOTHING, InvertJob, OpenJob, Progress, preset_after
from .render_jobs import EditJob
from .service import Service
from .store import FAILED, Kept, facts_of
from .uploads import read_upload

router = APIRouter(prefix="/v1")

Prefer = Annotated[
    str | None,
    Header(description="`respond-async`: answer at once, with 202; RFC 7240."),
]


@router.post(
    "/inversions",
    status_code=201,
    response_model=schemas.InversionDocument,
    response_model_exclude_none=True,
    responses={202: {"model": schemas.InversionDocument}, **PROBLEMS},
)
async def invert(
    request: Request,
    response: Response,
    picture: Annotated[UploadFile, File(description="A photo, or an aligned crop.")],
    method: Annotated[schemas.Name | None, Form(description="Of the bundle.")] = None,
    iterations: Annotated[int | None, Form(ge=0, le=MAX_ITERATIONS)] = None,
    then: Annotated[
        schemas.Name | None,
        Form(description=f"Preset of the gradient steps that follow, or `{NOTHING}`."),
    ] = None,
    steps: Annotated[int | None, Form(ge=0, le=MAX_STEPS)] = None,
    align: Annotated[Align, Form()] = "auto",
    face: Annotated[
        str, Form(pattern=r"^(largest|[0-9]{1,4})$", description="largest, or a number from 0.")
    ] = "largest",
    prefer: Prefer = None,
) -> dict[str, Any]:
    """Invert a picture.

    Answers when it is done; with `Prefer: respond-async` at once, and `GET
    /v1/inversions/{id}/events` tells how it goes on.
    """
    service = service_of(request)
    content = await read_upload(picture, service.settings.limits.body_bytes)
    check_pixels(content, service.settings.limits.pixels)
    preset = preset_after(method, then, service.bundle.manifest)
    if preset is None and steps is not None:
        raise HTTPException(
            422, "`steps` are of gradient steps, and none follow here; name some with `then`"
        )
    job = InvertJob(
        picture=content,
        method=method,
        iterations=iterations,
        then=then,
        steps=steps,
        align=align,
        face=face,
        takes_minutes=preset is not None,
    )
    return await _begun(request, service.begin(job), response, prefer)


@router.post(
    "/inversion-files",
    status_code=201,
    response_model=schemas.InversionDocument,
    response_model_exclude_none=True,
    responses={202: {"model": schemas.InversionDocument}, **PROBLEMS},
)
async def open_file(
    request: Request,
    response: Response,
    file: Annotated[UploadFile, File(description="NAME.safetensors of `invert`.")],
    prefer: Prefer = None,
) -> dict[str, Any]:
    """Go on with an inversion that was made and saved before, here or elsewhere."""
    service = service_of(request)
    limit = min(MAX_FILE_SIZE, service.settings.limits.body_bytes)
    job = OpenJob(await read_upload(file, limit))
    return await _begun(request, service.begin(job), response, prefer)


@router.get(
    "/inversions/{id}",
    response_model=schemas.InversionDocument,
    response_model_exclude_none=True,
    responses=PROBLEMS,
)
async def describe(request: Request, id: InversionId) -> dict[str, Any]:
    """Tell how an inversion is, and with what it was found."""
    return facts_of(kept_of(request, id))


@router.delete("/inversions/{id}", status_code=204, responses=PROBLEMS)
async def forget(request: Request, id: InversionId) -> None:
    """Forget an inversion; one that is not done is given up."""
    if not service_of(request).store.remove(id):
        raise HTTPException(404, "there is no such inversion, or not any more")


@router.get(
    "/inversions/{id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **PROBLEMS},
)
async def events(request: Request, id: InversionId) -> StreamingResponse:
    """Server-sent events: `crop`, `iteration`, `step`; at the end `done` or `failed`.

    Data is JSON: `number`, `loss`, `notice`, and `picture` as a data URL where there is one.
    """
    kept = kept_of(request, id)
    stream = _event_stream(service_of(request), kept)
    return StreamingResponse(stream, media_type="text/event-stream")


@router.get(
    "/inversions/{id}/picture", response_class=Response, responses={200: PICTURES, **PROBLEMS}
)
async def picture(
    request: Request,
    id: InversionId,
    format: schemas.PictureFormat = "png",
    size: schemas.Size | None = None,
) -> Response:
    """Give the reconstruction."""
    kept = done_of(request, id)
    assert kept.result is not None
    if format == "png" and size is None:
        return Response(kept.result.picture, media_type="image/png")
    job = EditJob(file=kept.result.file, amounts={}, format=format, size=size)
    return media_response(await done_job(request, job))


@router.get(
    "/inversions/{id}/crop",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **PROBLEMS},
)
async def crop(request: Request, id: InversionId) -> Response:
    """Give what was inverted: the aligned face."""
    kept = done_of(request, id)
    if kept.result is None or kept.result.crop is None:
        raise HTTPException(404, "this inversion came as a file, which does not hold its input")
    return Response(kept.result.crop, media_type="image/png")


@router.get(
    "/inversions/{id}/file",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}, **PROBLEMS},
)
async def inversion_file(request: Request, id: InversionId) -> Response:
    """Give the inversion file, which the command line, Python and C read, too."""
    headers = {"content-disposition": 'attachment; filename="inversion.safetensors"'}
    return Response(file_of(request, id), media_type="application/octet-stream", headers=headers)


async def _begun(
    request: Request, kept: Kept, response: Response, prefer: str | None
) -> dict[str, Any]:
    """Answer to a new inversion, at once or when it is done."""
    service = service_of(request)
    prefix = request.scope.get("root_path", "")  # that the whole application stands under
    response.headers["location"] = f"{prefix}/v1/inversions/{kept.id}"
    if prefer is not None and "respond-async" in prefer:
        response.status_code = 202
        response.headers["preference-applied"] = "respond-async"
        return facts_of(kept)
    try:
        await while_waited(request, service.ended(kept))
    except ClientGone:
        service.store.remove(kept.id)  # nobody else knows its id
        raise
    if kept.state == FAILED:
        service.store.remove(kept.id)
        headers = {"retry-after": "5"} if kept.status == 503 else None
        raise HTTPException(kept.status, kept.problem, headers)
    return facts_of(kept)


async def _event_stream(service: Service, kept: Kept) -> AsyncIterator[str]:
    async for progress in service.progress_of(kept):
        yield ": still at work\n\n" if progress is None else _event(progress)
    yield f"event: {kept.state}\ndata: {json.dumps(facts_of(kept))}\n\n"


def _event(progress: Progress) -> str:
    data: dict[str, Any] = {"number": progress.number}
    for name in ("loss", "notice"):
        value = getattr(progress, name)
        data |= {} if value is None else {name: value}
    if progress.picture is not None:
        data["picture"] = f"data:image/jpeg;base64,{base64.b64encode(progress.picture).decode()}"
    return f"event: {progress.kind}\ndata: {json.dumps(data)}\n\n"
