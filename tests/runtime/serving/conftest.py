"""A service on the bundle portraits, with a real worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.serving.settings import Keeping, Limits, ModelSettings, ServiceSettings

fastapi = pytest.importorskip("fastapi", reason="the extra `serve` is not installed")


@pytest.fixture(scope="package")
def settings() -> ServiceSettings:
    return ServiceSettings(
        model=ModelSettings(bundle=find_bundle("portraits"), threads=1),
        limits=Limits(body_bytes=1 << 20, pixels=1 << 20, body_seconds=0.5, waiting=2, frames=20),
        keeping=Keeping(most=4),
    )


@pytest.fixture(scope="package")
def client(settings: ServiceSettings) -> Iterator[object]:
    from fastapi.testclient import TestClient
    from hyperstyle_rt.serving.http import create_app
    from hyperstyle_rt.serving.service import Service

    service = Service(settings)
    service.pool.start()
    with TestClient(create_app(service), base_url="http://localhost") as client:
        yield client
