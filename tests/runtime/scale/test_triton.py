"""Triton: a model repository on a real server, and pytriton's server in front of a model.

These need a Triton server, which nvidia-pytriton carries: it runs on CPUs and has the Python
backend alone, so graphs of the repository run through a stand-in of its ONNX Runtime backend.
"""

from __future__ import annotations

import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hyperstyle_rt import Inversion, Model
from hyperstyle_rt.imaging.pictures import read_picture

pytest.importorskip("pytriton", reason="the extra `triton` is not installed")

import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from triton_servers import Ports, free_ports, put_stand_ins, status, triton
from tritonclient.utils import InferenceServerException

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = "portraits"


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with Model.load(BUNDLE, "cpu", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [read_picture(ROOT / "examples" / f"portrait_{n}.png") for n in range(3)]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx", reason="the extra `export` is not installed")
    from hyperstyle_export.triton.config import Instances
    from hyperstyle_export.triton.repository import write_repository
    from hyperstyle_rt.formats.bundle import Bundle
    from hyperstyle_rt.formats.bundle_lookup import find_bundle

    directory = tmp_path_factory.mktemp("triton") / "models"
    instances = Instances(loops=1)
    write_repository(Bundle.open(find_bundle(BUNDLE)), directory, "fp32", instances, False)
    put_stand_ins(directory)
    return directory


def as_inputs(client: Any, **arrays: Any) -> list[Any]:
    inputs = []
    for name, array in arrays.items():
        array = np.asarray(array)
        kinds = {"f": "FP32", "u": "UINT8", "i": "INT32", "O": "BYTES"}
        each = client.InferInput(name, list(array.shape), kinds[array.dtype.kind])
        each.set_data_from_numpy(array)
        inputs.append(each)
    return inputs


def names(*texts: str | bytes) -> np.ndarray:
    return np.array([t.encode() if isinstance(t, str) else t for t in texts], np.object_)


def invert(client: Any, kind: Any, picture: np.ndarray, iterations: int = 1) -> Any:
    count = np.array([iterations], np.int32)
    return client.infer(f"{BUNDLE}_invert", as_inputs(kind, picture=picture, iterations=count))


def edit(client: Any, kind: Any, inversion: bytes, **amounts: float) -> np.ndarray:
    answer = client.infer(
        f"{BUNDLE}_edit",
        as_inputs(
            kind,
            inversion=names(inversion),
            directions=names(*amounts),
            amounts=np.array([*amounts.values()], np.float32),
        ),
    )
    return np.asarray(answer.as_numpy("rendering"))


def check_inversion(answer: Any, expected: Inversion) -> bytes:
    """Check an answer against the Python API; gives its inversion file."""
    assert np.array_equal(answer.as_numpy("latents"), expected.latents)
    assert np.array_equal(answer.as_numpy("codes"), expected.codes)
    assert np.array_equal(answer.as_numpy("rendering"), expected.image)
    content = bytes(answer.as_numpy("inversion")[0])
    data = replace(Inversion.from_bytes(content).data, computed=expected.computed)
    assert Inversion(data).to_bytes() == expected.to_bytes()
    return content


def check_served(ports: Ports, model: Model, pictures: list[np.ndarray]) -> None:
    """What every server of ours must do."""
    for kind, url in (
        (http_client, f"127.0.0.1:{ports.http}"),
        (grpc_client, f"127.0.0.1:{ports.grpc}"),
    ):
        client = kind.InferenceServerClient(url)
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready(f"{BUNDLE}_invert") and client.is_model_ready(f"{BUNDLE}_edit")
        expected = model.invert(pictures[0], 2)
        content = check_inversion(invert(client, kind, pictures[0], 2), expected)
        edited = edit(client, kind, content, smile=2.0)
        assert np.array_equal(edited, model.edit(expected, {"smile": 2.0}).image)

        rgba = np.zeros((8, 8, 4), np.uint8)
        with pytest.raises(InferenceServerException, match=r"shape.*picture|picture.*shape"):
            invert(client, kind, rgba)
        with pytest.raises(InferenceServerException, match=r"data-?type"):
            client.infer(
                f"{BUNDLE}_invert", as_inputs(kind, picture=np.zeros((8, 8, 3), np.float32))
            )
        with pytest.raises(InferenceServerException, match="no direction 'grin'"):
            edit(client, kind, content, grin=1.0)
        with pytest.raises(InferenceServerException, match="is not a safetensors file"):
            edit(client, kind, b"no inversion", smile=1.0)
        assert np.array_equal(edit(client, kind, content, smile=2.0), edited)  # it still works
        client.close()
    assert status(f"http://127.0.0.1:{ports.http}/v2/health/live") == 200
    with urllib.request.urlopen(f"http://127.0.0.1:{ports.metrics}/metrics") as answer:
        metrics = answer.read().decode()
    assert f'nv_inference_request_success{{model="{BUNDLE}_invert",version="1"}}' in metrics


def test_a_repository_gives_what_python_gives(
    repository: Path, model: Model, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    with triton(repository, tmp_path) as ports:
        check_served(ports, model, pictures)
        kind, url = grpc_client, f"127.0.0.1:{ports.grpc}"
        client = kind.InferenceServerClient(url)
        whole = client.infer(f"{BUNDLE}_invert", as_inputs(kind, picture=pictures[1]))
        check_inversion(whole, model.invert(pictures[1]))  # with the gradient steps of its own way
        with pytest.raises(InferenceServerException, match="no method 'pti'"):
            client.infer(
                f"{BUNDLE}_invert", as_inputs(kind, picture=pictures[1], method=names("pti"))
            )


@pytest.fixture(scope="module")
def pytriton(model: Model) -> Iterator[Ports]:
    from hyperstyle_rt.scale.triton.pytriton_server import TritonAddress, serving

    ports = free_ports()
    address = TritonAddress(http=ports.http, grpc=ports.grpc, metrics=ports.metrics)
    with serving(model, address):
        deadline = time.monotonic() + 60
        while status(f"http://127.0.0.1:{ports.http}/v2/health/ready") != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield ports


def test_pytriton_gives_what_python_gives(
    pytriton: Ports, model: Model, pictures: list[np.ndarray]
) -> None:
    check_served(pytriton, model, pictures)


@pytest.mark.slow
def test_four_clients_get_500_right_answers(
    pytriton: Ports, model: Model, pictures: list[np.ndarray]
) -> None:
    inversions = [model.invert(picture, 1) for picture in pictures]
    amounts = [-2.0, 0.5, 2.0]
    edits = [[model.edit(each, {"smile": a}).image for a in amounts] for each in inversions]
    files = [each.to_bytes() for each in inversions]

    def work(number: int) -> int:
        kind = http_client if number % 2 else grpc_client
        port = pytriton.http if number % 2 else pytriton.grpc
        client = kind.InferenceServerClient(f"127.0.0.1:{port}")
        for step in range(125):
            which, amount = (number + step) % 3, step % 3
            if step % 5 == 0:
                check_inversion(invert(client, kind, pictures[which]), inversions[which])
            else:
                made = edit(client, kind, files[which], smile=amounts[amount])
                assert np.array_equal(made, edits[which][amount])
        client.close()
        return 125

    with ThreadPoolExecutor(4) as clients:
        assert sum(clients.map(work, range(4))) == 500


@pytest.mark.slow
def test_what_the_server_adds_to_an_answer(
    pytriton: Ports, model: Model, pictures: list[np.ndarray]
) -> None:
    """Milliseconds, medians of 50, of one client after the call itself in Python."""
    inversion = model.invert(pictures[0], 1)
    content = inversion.to_bytes()

    def milliseconds(call: Callable[[], object]) -> float:
        call()
        taken = []
        for _ in range(50):
            started = time.perf_counter()
            call()
            taken.append(1e3 * (time.perf_counter() - started))
        return statistics.median(taken)

    def edit_in_python() -> object:
        return model.edit(Inversion.from_bytes(content), {"smile": 2.0}).image

    edited = milliseconds(edit_in_python)
    inverted = milliseconds(lambda: model.invert(pictures[0], 1).to_bytes())
    for kind, port in ((http_client, pytriton.http), (grpc_client, pytriton.grpc)):
        client = kind.InferenceServerClient(f"127.0.0.1:{port}")
        edits = milliseconds(partial(edit, client, kind, content, smile=2.0)) - edited
        inversions = milliseconds(partial(invert, client, kind, pictures[0])) - inverted
        client.close()
        name = kind.__name__.rpartition(".")[2]
        print(f"{name}: an edit {edited:.1f} + {edits:.1f} ms, ", end="")
        print(f"an inversion {inverted:.1f} + {inversions:.1f} ms")
        assert edits < 50 and inversions < 50
