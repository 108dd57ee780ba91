"""The application: routes, guards, page, and its start and end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from .. import __version__
from . import inversion_routes, rendering_routes, schemas
from .guards import Guard
from .metrics import CONTENT_TYPE
from .service import Service

PAGE = Path(__file__).with_name("page")


def create_app(service: Service) -> FastAPI:
    """The ASGI application of a service whose pool was started; it stops it in the end."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.stop()

    app = FastAPI(
        title="hyperstyle-rt",
        version=__version__,
        description="Invert pictures into a generator, edit and render them.",
        license_info={"name": "MIT"},
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(inversion_routes.router)
    app.include_router(rendering_routes.router)
    app.add_exception_handler(RequestValidationError, _refuse_invalid)
    access = service.settings.access
    app.add_middleware(
        Guard,
        access=access,
        limits=service.settings.limits,
        count=service.metrics.count_request,
    )
    if access.origins:
        # Around the guard: a browser asks for leave before it sends the token, and lets scripts
        # read a refusal only if it says that they may.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=access.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "prefer"],
            expose_headers=["location", "retry-after"],
        )
    _add_health(app, service)
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get(
        "/health", responses={503: {"model": schemas.Health, "description": "No worker is ready."}}
    )
    async def health(response: Response) -> schemas.Health:
        """Tell whether the service works."""
        state = service.pool.state
        response.status_code = 200 if state.ready else 503
        return schemas.Health(
            status="ok" if state.ready else "degraded",
            version=__version__,
            workers=state.ready,
            waiting=state.waiting,
        )

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters, in Prometheus' text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _refuse_invalid(_request: Request, error: Exception) -> JSONResponse:
    """One sentence of what pydantic has found, the first thing of it; never what was sent."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    text = str(first["msg"]).removeprefix("Value error, ")
    return JSONResponse({"detail": f"{place}: {text}" if place else text}, 422)
