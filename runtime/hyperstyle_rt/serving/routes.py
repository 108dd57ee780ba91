"""The routes of version 1 of the service."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Annotated, Any

from fastapi import (
    APIRouter,
    File,
    Form,
    Header,
    HTTPException,
    Path,
    Request,
    Response,
    UploadFile,
)
from fastapi.responses import StreamingResponse

from ..errors import HyperStyleError, PictureError
from ..formats.inversion_file import MAX_FILE_SIZE
from ..formats.methods import MAX_ITERATIONS
from ..imaging.films import FILM_SUFFIXES
from ..imaging.picture_files import parse_picture
from ..inverting.preparing import Align
from ..optimising.names import MAX_STEPS
from . import schemas
from .jobs import (
    NOTHING,
    AdaptJob,
    EditJob,
    InterpolateJob,
    InvertJob,
    Media,
    OpenJob,
    Progress,
    SweepJob,
    check_amounts,
    preset_after,
)
from .service import Service
from .store import DONE, FAILED, Kept, facts_of
from .uploads import film_format, fractions_of, read_upload

router = APIRouter(prefix="/v1")

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
_PICTURES = {
    "content": {kind: {} for kind in ("image/png", "image/jpeg", "image/webp")},
    "description": "The picture.",
}
_MEDIA = {
    "content": {
        kind: {} for kind in (*_PICTURES["content"], "image/gif", "video/mp4", "video/webm")
    },
    "description": "The picture or film.",
}

InversionId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{22}$", description="Of an inversion.")]
Prefer = Annotated[
    str | None,
    Header(description="`respond-async`: answer at once, with 202; RFC 7240."),
]


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
    _check_pixels(content, service.settings.limits.pixels)
    preset = preset_after(method, then, service.bundle.manifest)
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
    "/inversions/{id}/picture", response_class=Response, responses={200: _PICTURES, **PROBLEMS}
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
    return _media(await service_of(request).do(job))


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


@router.post("/inversions/{id}/edits", response_class=Response, responses={200: _MEDIA, **PROBLEMS})
async def edit(request: Request, id: InversionId, wanted: schemas.EditRequest) -> Response:
    """Edit a face along directions: a picture, or with `sweep` a film."""
    service, file = service_of(request), file_of(request, id)
    names = [*wanted.amounts, *([wanted.sweep.direction] if wanted.sweep else [])]
    try:
        check_amounts(dict.fromkeys(names, 0.0), service.directions)
    except HyperStyleError as error:
        raise HTTPException(422, str(error)) from None
    if wanted.sweep is None:
        job = EditJob(file=file, amounts=wanted.amounts, format=wanted.format, size=wanted.size)
        return _media(await service.do(job))
    sweep = wanted.sweep
    fractions = fractions_of(sweep.frames, service.settings.limits.frames, sweep.back)
    frames = tuple(
        {**wanted.amounts, sweep.direction: sweep.start + (sweep.stop - sweep.start) * fraction}
        for fraction in fractions
    )
    film = SweepJob(
        file=file,
        amounts=frames,
        format=film_format(wanted.film),
        rate=wanted.rate,
        size=wanted.size,
    )
    return _media(await service.do(film))


@router.post("/interpolations", response_class=Response, responses={200: _MEDIA, **PROBLEMS})
async def interpolate(request: Request, wanted: schemas.InterpolationRequest) -> Response:
    """Give what lies between two faces: a picture with `fraction`, else a film."""
    service = service_of(request)
    ends = file_of(request, wanted.first), file_of(request, wanted.second)
    still = wanted.fraction is not None
    job = InterpolateJob(
        first=ends[0],
        second=ends[1],
        fractions=(wanted.fraction,)
        if wanted.fraction is not None
        else fractions_of(wanted.frames, service.settings.limits.frames, back=False),
        format=wanted.format if still else film_format(wanted.film),
        rate=wanted.rate,
        size=wanted.size,
    )
    return _media(await service.do(job))


@router.post("/adaptations", response_class=Response, responses={200: _PICTURES, **PROBLEMS})
async def adapt(request: Request, wanted: schemas.AdaptationRequest) -> Response:
    """Render a face with a fine-tuned generator, one that the service was started with."""
    job = AdaptJob(
        file=file_of(request, wanted.inversion),
        bundle=wanted.bundle,
        seed=wanted.noise_seed,
        format=wanted.format,
        size=wanted.size,
    )
    return _media(await service_of(request).do(job))


@router.get("/bundles", responses=PROBLEMS)
async def bundles(request: Request) -> list[schemas.BundleDocument]:
    """Describe the bundle that is served: its methods, directions and adapted generators."""
    from pathlib import Path as FilePath

    from ..imaging.films import check_film
    from ..optimising.presets import PRESETS
    from ..optimising.running import missing_graphs

    service = service_of(request)
    manifest = service.bundle.manifest
    films = []
    for suffix in FILM_SUFFIXES:
        try:
            check_film(FilePath(f"film{suffix}"))
            films.append(suffix[1:])
        except PictureError:
            continue
    height, width = manifest.image_size
    return [
        schemas.BundleDocument(
            name=manifest.name,
            digest=service.bundle.digest,
            domain=manifest.domain,
            license=manifest.license,
            height=height,
            width=width,
            methods=[
                schemas.MethodDocument(
                    name=name,
                    iterations=method.iterations,
                    is_default=name == manifest.default_method,
                )
                for name, method in manifest.methods.items()
            ],
            gradient_steps=[
                name
                for name, preset in PRESETS.items()
                if not missing_graphs(manifest, preset.stages)
            ],
            then=manifest.then,
            directions=[
                schemas.DirectionDocument(name=name, unit=direction.unit)
                for name, direction in service.directions.items()
            ],
            adapted=list(service.settings.model.adapted),
            films=films,
        )
    ]


async def _begun(
    request: Request, kept: Kept, response: Response, prefer: str | None
) -> dict[str, Any]:
    """Answer to a new inversion, at once or when it is done."""
    service = service_of(request)
    response.headers["location"] = f"/v1/inversions/{kept.id}"
    if prefer is not None and "respond-async" in prefer:
        response.status_code = 202
        response.headers["preference-applied"] = "respond-async"
        return facts_of(kept)
    if not await _waited(request, service.ended(kept)):
        service.store.remove(kept.id)  # nobody else knows its id
        return {}
    if kept.state == FAILED:
        service.store.remove(kept.id)
        headers = {"retry-after": "5"} if kept.status == 503 else None
        raise HTTPException(kept.status, kept.problem, headers)
    return facts_of(kept)


async def _waited(request: Request, event: Coroutine[Any, Any, None]) -> bool:
    """Wait for something, as long as the client does; whether it has come."""
    task = asyncio.ensure_future(event)
    try:
        while not (await asyncio.wait([task], timeout=1))[0]:
            if await request.is_disconnected():
                return False
        return True
    finally:
        task.cancel()


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


def _check_pixels(content: bytes, limit: int) -> None:
    """Refuse what is no picture, or too large a one, by its header."""
    from pathlib import Path as FilePath

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


def _media(media: Media) -> Response:
    return Response(media.content, media_type=media.type)
