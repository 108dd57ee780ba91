"""Routes: what is rendered of inversions, and the bundle that renders them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, File, Form, HTTPException, Request, Response, UploadFile
from pydantic import Json

from ..errors import HyperStyleError
from . import schemas
from .asking import (
    MEDIA,
    PICTURES,
    PROBLEMS,
    InversionId,
    check_pixels,
    done_job,
    done_of,
    file_of,
    media_response,
    service_of,
)
from .description import describe_bundle
from .render_jobs import (
    AdaptJob,
    EditJob,
    InterpolateJob,
    PasteJob,
    SweepJob,
    check_directions,
)
from .service import Service
from .uploads import film_format, fractions_of, read_upload

router = APIRouter(prefix="/v1")


@router.post("/inversions/{id}/edits", response_class=Response, responses={200: MEDIA, **PROBLEMS})
async def edit(request: Request, id: InversionId, wanted: schemas.EditRequest) -> Response:
    """Edit a face along directions: a picture, or with `sweep` a film."""
    service, file = service_of(request), file_of(request, id)
    names = [*wanted.amounts, *([wanted.sweep.direction] if wanted.sweep else [])]
    _check_directions(service, names)
    if wanted.sweep is None:
        job = EditJob(file=file, amounts=wanted.amounts, format=wanted.format, size=wanted.size)
        return media_response(await done_job(request, job))
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
    return media_response(await done_job(request, film))


@router.post(
    "/inversions/{id}/pastings", response_class=Response, responses={200: PICTURES, **PROBLEMS}
)
async def paste(
    request: Request,
    id: InversionId,
    photo: Annotated[UploadFile, File(description="The photo that was inverted.")],
    amounts: Annotated[
        Json[schemas.Amounts] | None, Form(description="As JSON: direction to amount.")
    ] = None,  # FastAPI takes a default as it is: text would not be read as JSON
    format: Annotated[schemas.PictureFormat, Form()] = "jpeg",
) -> Response:
    """Set a face, edited or not, back into its photo, whose metadata is kept."""
    service, kept = service_of(request), done_of(request, id)
    content = await read_upload(photo, service.settings.limits.body_bytes)
    check_pixels(content, service.settings.limits.pixels)
    amounts = amounts or {}
    _check_directions(service, amounts)
    assert kept.result is not None
    job = PasteJob(
        file=kept.result.file,
        photo=content,
        amounts=amounts,
        digest=kept.result.facts.get("picture"),
        format=format,
    )
    return media_response(await done_job(request, job))


@router.post("/interpolations", response_class=Response, responses={200: MEDIA, **PROBLEMS})
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
    return media_response(await done_job(request, job))


@router.post("/adaptations", response_class=Response, responses={200: PICTURES, **PROBLEMS})
async def adapt(request: Request, wanted: schemas.AdaptationRequest) -> Response:
    """Render a face with a fine-tuned generator, one that the service was started with."""
    job = AdaptJob(
        file=file_of(request, wanted.inversion),
        bundle=wanted.bundle,
        seed=wanted.noise_seed,
        format=wanted.format,
        size=wanted.size,
    )
    return media_response(await done_job(request, job))


@router.get("/bundles", responses=PROBLEMS)
async def bundles(request: Request) -> list[schemas.BundleDocument]:
    """Describe the bundle that is served: its methods, directions and adapted generators."""
    return [describe_bundle(service_of(request))]


def _check_directions(service: Service, names: Iterable[str]) -> None:
    try:
        check_directions(names, service.directions)
    except HyperStyleError as error:
        raise HTTPException(422, str(error)) from None
