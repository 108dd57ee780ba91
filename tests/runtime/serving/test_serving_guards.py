"""Who is let in, and what of a request's body: no worker is needed for that."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.serving.guards import Guard
from hyperstyle_rt.serving.settings import (
    Access,
    Limits,
    ServiceSettings,
    check_access,
    is_loopback,
)
from malformed import GOOD

TOKEN = "0123456789abcdef-token"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Reads the whole body, then answers."""
    from starlette.exceptions import HTTPException
    from starlette.responses import PlainTextResponse

    try:
        while (await receive()).get("more_body"):
            pass
    except HTTPException as error:
        await PlainTextResponse(error.detail, error.status_code)(scope, receive, send)
    else:
        await PlainTextResponse("ok")(scope, receive, send)


def ask(
    access: Access,
    path: str = "/v1/bundles",
    *,
    body: Any = (),
    server: tuple[str, int] = ("127.0.0.1", 8000),
    **headers: str,
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of the answer; the body's parts come after so many seconds."""
    parts, sent = list(body), []
    named = {"host": "localhost:8000", **headers}

    async def receive() -> dict[str, Any]:
        if not parts:
            return {"type": "http.request", "body": b"", "more_body": False}
        seconds, content = parts.pop(0)
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": content, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "server": server,
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in named.items()],
    }
    limits = Limits(body_bytes=1 << 20, body_seconds=0.2)
    guard = Guard(application, access, limits, lambda *_counted: None)
    asyncio.run(guard(scope, receive, send))
    answer = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], answer, b"".join(m.get("body", b"") for m in sent[1:]).decode()


@pytest.mark.parametrize(
    ("path", "authorization", "status"),
    [
        ("/v1/bundles", "", 401),
        ("/v1/bundles", "Bearer wrong", 401),
        ("/v1/bundles", TOKEN, 401),
        ("/v1/bundles", f"Bearer {TOKEN}", 200),
        ("/metrics", "", 401),
        ("/openapi.json", "", 401),
        ("/health", "", 200),
        ("/", "", 200),
        ("/app.js", "", 200),
    ],
)
def test_token(path: str, authorization: str, status: int) -> None:
    given = {"authorization": authorization} if authorization else {}
    answer = ask(Access(token=TOKEN), path, **given)
    assert answer[0] == status
    assert (answer[1].get("www-authenticate") == "Bearer") == (status == 401)


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:8000", "", 200),
        ("127.0.0.1:8000", "", 200),
        ("[::1]:8000", "", 200),
        ("evil.example", "", 403),
        ("127.0.0.1.evil.example", "", 403),
        ("localhost:8000", "http://localhost:8000", 200),
        ("localhost:8000", "http://evil.example", 403),
        ("localhost:8000", "null", 403),
        ("localhost:8000", "http://[", 403),
        ("[", "", 403),
        ("localhost:8000", "https://friend.example", 200),
    ],
)
def test_other_sites_are_kept_out(host: str, origin: str, status: int) -> None:
    given = {"host": host} | ({"origin": origin} if origin else {})
    assert ask(Access(origins=("https://friend.example",)), **given)[0] == status


def test_scripts_of_a_site_that_is_let_in_can_send_the_token(settings: ServiceSettings) -> None:
    testclient = pytest.importorskip("fastapi.testclient")
    from hyperstyle_rt.serving.http import create_app
    from hyperstyle_rt.serving.service import Service

    site = "https://friend.example"
    asked = replace(settings, access=Access(token=TOKEN, origins=(site,)))
    client = testclient.TestClient(create_app(Service(asked)), base_url="http://localhost")
    # What a browser asks first; it sends the token only if it is told that it may.
    wishes = {"access-control-request-method": "POST"}
    wishes["access-control-request-headers"] = "authorization,content-type"
    first = client.options("/v1/interpolations", headers={"origin": site, **wishes})
    assert (first.status_code, first.headers["access-control-allow-origin"]) == (200, site)
    assert "authorization" in first.headers["access-control-allow-headers"].lower()
    for headers, status in (({}, 401), ({"authorization": f"Bearer {TOKEN}"}, 200)):
        answer = client.get("/v1/bundles", headers={"origin": site, **headers})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == site, "or no script can read it"
    other = client.options(
        "/v1/interpolations", headers={"origin": "https://evil.example", **wishes}
    )
    assert other.status_code == 400
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    ("address", "status"),
    [("127.0.0.1", 200), ("127.0.1.1", 200), ("::1", 200), ("10.0.0.5", 403), ("fe80::1", 403)],
)
def test_a_service_for_this_machine_alone_is_not_reached_by_others(
    address: str, status: int
) -> None:
    """Ray Serve listens where its own file says, and everywhere if that says nothing."""
    server = (address, 8000)
    answer = ask(Access(), server=server)
    assert answer[0] == status
    assert (address in answer[2]) == (status == 403)
    access = Access(host="0.0.0.0", token=TOKEN)
    assert ask(access, server=server, authorization=f"Bearer {TOKEN}")[0] == 200


@pytest.mark.parametrize("prefix", ["", "/faces", "/a/b"])
def test_under_a_prefix_the_token_is_asked_for_as_without(
    prefix: str, settings: ServiceSettings
) -> None:
    """Ray Serve's `route_prefix` is a part of the path, and stands in `root_path` as well."""
    testclient = pytest.importorskip("fastapi.testclient")
    from hyperstyle_rt.serving.http import create_app
    from hyperstyle_rt.serving.service import Service

    app = create_app(Service(replace(settings, access=Access(token=TOKEN))))
    client = testclient.TestClient(app, base_url="http://localhost", root_path=prefix)
    for path in ("/v1/bundles", "/metrics", "/openapi.json"):
        assert client.get(f"{prefix}{path}").status_code == 401
        token = {"authorization": f"Bearer {TOKEN}"}
        assert client.get(f"{prefix}{path}", headers=token).status_code == 200
    assert client.get(f"{prefix}/v1/bundles").headers["cache-control"] == "no-store"
    assert client.get(f"{prefix}/app.js").status_code == 200
    files, headers = {"picture": ("x", GOOD)}, token | {"prefer": "respond-async"}
    begun = client.post(f"{prefix}/v1/inversions", files=files, headers=headers)
    assert begun.headers["location"] == f"{prefix}/v1/inversions/{begun.json()['id']}"


def test_a_service_for_others_answers_to_any_name() -> None:
    access = Access(host="0.0.0.0", token=TOKEN)
    assert ask(access, host="faces.example", authorization=f"Bearer {TOKEN}")[0] == 200


def test_bodies_are_bounded() -> None:
    access = Access()
    part = bytes(300_000)
    assert ask(access, body=[(0, part)] * 3)[0] == 200
    assert ask(access, body=[(0, part)] * 4)[0] == 413
    status, headers, says = ask(access, content_length=str(100 << 20))
    assert (status, headers["connection"]) == (413, "close")
    assert "1 MiB" in says
    assert ask(access, content_length="much")[0] == 400
    assert ask(access, body=[(0.15, b"slow")] * 4)[0] == 408


def test_headers_of_every_answer() -> None:
    for path in ("/", "/v1/bundles", "/health"):
        headers = ask(Access(), path)[1]
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert ask(Access(), "/v1/bundles")[1]["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("faces.example", False),
    ],
)
def test_public_addresses(host: str, local: bool) -> None:
    assert is_loopback(host) == local
    if local:
        check_access(Access(host=host), allow_remote=False)
        return
    with pytest.raises(HyperStyleError, match="--allow-remote"):
        check_access(Access(host=host, token=TOKEN), allow_remote=False)
    with pytest.raises(HyperStyleError, match="HYPERSTYLE_RT_TOKEN"):
        check_access(Access(host=host), allow_remote=True)
    check_access(Access(host=host, token=TOKEN), allow_remote=True)


def test_a_token_that_could_be_guessed() -> None:
    with pytest.raises(HyperStyleError, match="guessed"):
        check_access(Access(token="secret"), allow_remote=False)


@pytest.mark.parametrize(
    "token", [f"{TOKEN}\n", f" {TOKEN}", f"{TOKEN}é", f"{TOKEN}…", f"a\t{TOKEN}"]
)
def test_a_token_that_no_client_can_send(token: str) -> None:
    with pytest.raises(HyperStyleError, match="printable ASCII"):
        check_access(Access(token=token), allow_remote=False)
    check_access(Access(token="a pass phrase of words"), allow_remote=False)
