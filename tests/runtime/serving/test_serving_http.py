"""The routes, against a real worker on the bundle portraits."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from face_pictures import in_a_photo, known_faces
from hyperstyle_rt import Inversion, Model
from hyperstyle_rt.imaging.pictures import decode_picture, encode_picture

PORTRAIT = Path(__file__).parents[3] / "examples" / "portrait_0.png"
SECOND = PORTRAIT.with_name("portrait_1.png")


def upload(client: Any, content: bytes, prefer: str = "", **form: Any) -> Any:
    headers = {"prefer": prefer} if prefer else {}
    files = {"picture": ("../../etc/passwd", content)}
    return client.post("/v1/inversions", files=files, data=form, headers=headers)


def decoded(content: bytes) -> np.ndarray:
    return decode_picture(content, Path("answer"))


@pytest.fixture(scope="module")
def done(client: Any) -> dict[str, Any]:
    answer = upload(client, PORTRAIT.read_bytes())
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/inversions/{document['id']}"
    return document


@pytest.fixture(scope="module")
def expected() -> Inversion:
    with Model.load("portraits", threads=1) as model:
        return model.invert(PORTRAIT)


def test_an_inversion_is_the_commands_own(
    client: Any, done: dict[str, Any], expected: Inversion
) -> None:
    at = f"/v1/inversions/{done['id']}"
    assert (done["state"], done["method"], done["iterations"]) == ("done", "hyperstyle", 5)
    assert done["computed"]["precision"] == "fp32"
    assert client.get(at).json() == done
    assert client.get(f"{at}/file").content == expected.to_bytes()
    assert (decoded(client.get(f"{at}/picture").content) == expected.image).all()
    crop = client.get(f"{at}/crop")
    assert (decoded(crop.content) == decoded(PORTRAIT.read_bytes())).all()
    assert crop.headers["cache-control"] == "no-store"


def test_formats_and_sizes(client: Any, done: dict[str, Any]) -> None:
    answer = client.get(
        f"/v1/inversions/{done['id']}/picture", params={"format": "webp", "size": 64}
    )
    assert answer.headers["content-type"] == "image/webp"
    assert decoded(answer.content).shape == (64, 64, 3)


def test_edits_are_the_models_own(client: Any, done: dict[str, Any], expected: Inversion) -> None:
    answer = client.post(
        f"/v1/inversions/{done['id']}/edits", json={"amounts": {"smile": 2.0, "age": -1.0}}
    )
    with Model.load("portraits", threads=1) as model:
        edited = model.edit(expected, {"smile": 2.0, "age": -1.0}).image
    assert (decoded(answer.content) == edited).all()


def test_a_sweep_is_a_film(client: Any, done: dict[str, Any]) -> None:
    body = {"sweep": {"direction": "yaw", "frames": 3}, "film": "gif", "size": 32}
    answer = client.post(f"/v1/inversions/{done['id']}/edits", json=body)
    assert answer.headers["content-type"] == "image/gif"
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(answer.content))
    assert (image.n_frames, image.size) == (4, (32, 32))  # there and back


def test_interpolation_and_a_file_that_comes_back(client: Any, done: dict[str, Any]) -> None:
    file = client.get(f"/v1/inversions/{done['id']}/file").content
    again = client.post("/v1/inversion-files", files={"file": ("x", file)})
    assert again.status_code == 201
    assert again.json()["has_crop"] is False
    assert client.get(f"/v1/inversions/{again.json()['id']}/crop").status_code == 404
    pair = {"first": done["id"], "second": again.json()["id"]}
    between = client.post("/v1/interpolations", json={**pair, "fraction": 0.5})
    whole = client.get(f"/v1/inversions/{done['id']}/picture")
    assert (decoded(between.content) == decoded(whole.content)).all()
    film = client.post("/v1/interpolations", json={**pair, "frames": 2, "film": "gif"})
    assert film.content.startswith(b"GIF89a")


def test_progress_is_told(client: Any) -> None:
    answer = upload(client, SECOND.read_bytes(), "respond-async", then="refine", steps=2)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    lines = client.get(f"/v1/inversions/{answer.json()['id']}/events").text.splitlines()
    kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert kinds == ["crop", *["iteration"] * 5, *["step"] * 2, "done"]
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data")]
    assert data[1]["picture"].startswith("data:image/jpeg;base64,")
    assert data[-2]["loss"] < data[-3]["loss"]
    assert data[-1]["settings"]["optimise"] == [{"preset": "refine", "steps": 2}]


def test_the_bundle_is_described(client: Any) -> None:
    (bundle,) = client.get("/v1/bundles").json()
    assert (bundle["name"], bundle["height"]) == ("portraits", 128)
    assert {"name": "smile", "unit": "half of a full smile"} in bundle["directions"]
    assert "pti" in bundle["gradient_steps"]
    assert "idinvert" not in bundle["gradient_steps"]
    assert "gif" in bundle["films"]


def test_what_is_kept_is_bounded_and_can_be_forgotten(client: Any) -> None:
    file = client.get(
        f"/v1/inversions/{upload(client, PORTRAIT.read_bytes(), iterations=0).json()['id']}/file"
    )
    ids = [
        client.post("/v1/inversion-files", files={"file": ("x", file.content)}).json()["id"]
        for _ in range(5)
    ]
    statuses = [client.get(f"/v1/inversions/{id}").status_code for id in ids]
    assert statuses == [404, 200, 200, 200, 200]
    assert client.delete(f"/v1/inversions/{ids[-1]}").status_code == 204
    assert client.delete(f"/v1/inversions/{ids[-1]}").status_code == 404


def test_health_and_metrics(client: Any) -> None:
    assert client.get("/health").json()["status"] == "ok"
    text = client.get("/metrics").text
    assert 'hyperstyle_requests_total{method="GET",route="/health",status="200"}' in text
    assert 'hyperstyle_job_seconds_count{job="invert",outcome="done"}' in text


def test_the_document_describes_every_route(client: Any) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/health",
        "/metrics",
        "/v1/adaptations",
        "/v1/bundles",
        "/v1/interpolations",
        "/v1/inversion-files",
        "/v1/inversions",
        "/v1/inversions/{id}",
        "/v1/inversions/{id}/crop",
        "/v1/inversions/{id}/edits",
        "/v1/inversions/{id}/events",
        "/v1/inversions/{id}/file",
        "/v1/inversions/{id}/pastings",
        "/v1/inversions/{id}/picture",
    }
    assert document["components"]["schemas"]["EditRequest"]["examples"]


def png(height: int, width: int) -> bytes:
    return encode_picture(Path("x.png"), np.zeros((height, width, 3), np.uint8))


GOOD = PORTRAIT.read_bytes()
BAD_UPLOADS = {
    "nothing": (b"", {}, 422, "empty"),
    "text": (b"hello", {}, 422, "not a picture"),
    "page": (b"<!doctype html><html></html>", {}, 422, "web page"),
    "cut short": (GOOD[: len(GOOD) // 2], {}, 422, "cut short"),
    "a bomb": (png(2000, 2000), {}, 422, "2000 x 2000 pixels"),
    "no such method": (GOOD, {"method": "nope"}, 422, "no method 'nope'"),
    "a path as method": (GOOD, {"method": "../../etc/passwd"}, 422, "method"),
    "no such preset": (GOOD, {"then": "nope"}, 422, "no preset 'nope'"),
    "a preset that it cannot": (GOOD, {"then": "idinvert"}, 422, "encoder_term"),
    "too many iterations": (GOOD, {"iterations": "101"}, 422, "iterations"),
    "iterations in words": (GOOD, {"iterations": "five"}, 422, "iterations"),
    "steps of nothing": (GOOD, {"steps": "40"}, 422, "name some with `then`"),
    "negative steps": (GOOD, {"then": "refine", "steps": "-1"}, 422, "steps"),
    "alignment": (GOOD, {"align": "perhaps"}, 422, "align"),
    "face": (GOOD, {"face": "all"}, 422, "face"),
    "a face that is not there": (GOOD, {"align": "always", "face": "7"}, 422, "face"),
}


@pytest.mark.parametrize("case", BAD_UPLOADS)
def test_bad_uploads_get_a_sentence(client: Any, case: str) -> None:
    content, form, status, says = BAD_UPLOADS[case]
    answer = upload(client, content, **form)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]


BAD_BODIES: dict[str, tuple[Any, int, str]] = {
    "no JSON": (b"{", 422, "JSON"),
    "a list": (b"[]", 422, ""),
    "another field": ({"amount": {}}, 422, "amount"),
    "no such direction": ({"amounts": {"smle": 1}}, 422, "no direction 'smle'"),
    "huge": ({"amounts": {"smile": 1e9}}, 422, "smile"),
    "infinite": (b'{"amounts": {"smile": Infinity}}', 422, "smile"),
    "text": ({"amounts": {"smile": "much"}}, 422, "smile"),
    "format": ({"format": "exe"}, 422, "format"),
    "size": ({"size": 100_000}, 422, "size"),
    "a film of nothing": ({"film": "gif"}, 422, "sweep"),
    "an endless film": ({"sweep": {"direction": "smile", "frames": 10_000}}, 422, "frames"),
    "one frame": ({"sweep": {"direction": "smile", "frames": 1}}, 422, "frames"),
    "many directions": ({"amounts": {f"d{n}": 1 for n in range(99)}}, 422, "32"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_bad_edits_get_a_sentence(client: Any, done: dict[str, Any], case: str) -> None:
    body, status, says = BAD_BODIES[case]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(
        f"/v1/inversions/{_alive(client, done)}/edits",
        content=content,
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]


@pytest.mark.parametrize("id", ["A" * 22, "short", "..%2f..%2fetc%2fpasswd"])
def test_unknown_inversions(client: Any, id: str) -> None:
    assert client.get(f"/v1/inversions/{id}/file").status_code in (404, 422)
    assert client.post(f"/v1/inversions/{id}/edits", json={}).status_code in (404, 405, 422)


def test_an_unknown_adapted_bundle(client: Any, done: dict[str, Any]) -> None:
    body = {"inversion": _alive(client, done), "bundle": "toon"}
    answer = client.post("/v1/adaptations", json=body)
    assert (answer.status_code, "toon" in answer.json()["detail"]) == (422, True)


def _alive(client: Any, done: dict[str, Any]) -> str:
    """An inversion that is still kept: the store of these tests is small."""
    if client.get(f"/v1/inversions/{done['id']}").status_code == 404:
        done |= upload(client, PORTRAIT.read_bytes(), iterations=0).json()
    return str(done["id"])


def test_a_face_goes_back_into_its_photo_alone(client: Any) -> None:
    face = in_a_photo(known_faces()[0], (600, 500), np.array([240.0, 300.0]), 300, 10)
    photo = encode_picture(Path("x.png"), face.picture)
    document = upload(client, photo, iterations=1).json()
    assert document["in_photo"]
    at = f"/v1/inversions/{document['id']}/pastings"
    form = {"amounts": '{"smile": 2}', "format": "png"}
    answer = client.post(at, files={"photo": ("x", photo)}, data=form)
    pasted = decoded(answer.content)
    changed = (pasted != face.picture).any(2)
    assert changed[200:400, 140:340].mean() > 0.9
    assert not changed[:60].any()
    plain = client.post(at, files={"photo": ("x", photo)}, data={"format": "png"})
    assert plain.status_code == 200, plain.text
    assert (decoded(plain.content) != pasted).any(), "without amounts it is not edited"
    other = client.post(at, files={"photo": ("x", PORTRAIT.read_bytes())}, data=form)
    assert (other.status_code, "another photo" in other.json()["detail"]) == (422, True)
    bad = client.post(at, files={"photo": ("x", photo)}, data={"amounts": "much"})
    assert (bad.status_code, "amounts" in bad.json()["detail"]) == (422, True)
