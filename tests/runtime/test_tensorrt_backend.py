"""The native TensorRT backend against stand-ins for TensorRT and CUDA (stand_ins.py).

What cannot be seen here: that the real libraries take these calls, any number, any speed. That is
for `make test-gpu`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hyperstyle_rt import BackendError, Model
from hyperstyle_rt.formats.bundle import Bundle
from stand_ins import VERSION, StandInCuda

# ONNX Runtime on both sides, but with other options; in fp16 it leaves out other roundings.
TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3}

ITERATION = ["run hypernet", "run weights", "run generator"]
START = ["run encoder", "run weights", "run generator"]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def load(planned: Path, precision: str = "fp32") -> Model:
    return Model.load(planned, "tensorrt", precision=precision)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_inversions_are_those_of_the_graphs(
    precision: str, planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    """Although the engines list their outputs backwards."""
    ours, expected = (
        load(planned, precision),
        Model.load(planned, "cpu", precision=precision),
    )
    for shown in (picture, picture[::-1]):
        mine, theirs = ours.invert(shown, 3), expected.invert(shown, 3)
        for name in ("latents", "codes", "output"):
            assert difference(getattr(mine, name), getattr(theirs, name)) <= TOLERANCE[precision]
        assert mine.data.bundle_digest == theirs.data.bundle_digest
    assert ours.backend.provider == f"TensorRT {VERSION}-sm89-{precision} on NVIDIA L4"


def test_plain_path_gives_what_the_graph_gives(
    planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model = load(planned)
    seen: list[int] = []
    plain = model.invert(picture, 3, on_iteration=lambda number, *_: seen.append(number))
    assert "launch" not in cuda.calls
    assert seen == [1, 2, 3]
    captured = model.invert(picture, 3)
    assert "launch" in cuda.calls
    assert np.array_equal(plain.output, captured.output)
    assert np.array_equal(plain.codes, captured.codes)


def test_the_loop_is_captured_once_and_replayed(
    planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model = load(planned)
    model.invert(picture, 2)
    begin, end = cuda.calls.index("begin capture"), cuda.calls.index("end capture")
    loop = [*START, *ITERATION, *ITERATION]
    assert [c for c in cuda.calls[:begin] if c.startswith("run")] == loop  # warm-up
    assert cuda.calls[begin + 1 : end] == loop  # and nothing else: no copy, no wait, no memory
    cuda.calls.clear()
    model.invert(picture[:, ::-1], 2)
    copies = ["synchronise", "H2D"] * 2  # picture and zero codes
    results = ["D2H", "synchronise"] * 3  # latents, codes, image
    assert cuda.calls == [*copies, "D2D", "D2D", "launch", *results]


def test_stopping_gives_what_the_loop_on_the_cpu_gives(
    planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model, expected = load(planned), Model.load(planned, "cpu")
    counts = set()
    for until in (0.0, 1e-3, 1e-2, 0.1, 2.0):
        mine, theirs = model.invert(picture, 6, until), expected.invert(picture, 6, until)
        assert mine.iterations == theirs.iterations
        assert difference(mine.output, theirs.output) <= TOLERANCE["fp32"]
        assert difference(mine.codes, theirs.codes) <= TOLERANCE["fp32"]
        counts.add(mine.iterations)
    assert {2, 6} <= counts
    assert model.invert(picture, 1, 2.0).iterations == 1
    assert model.invert(picture, 0, 2.0).iterations == 0


def test_the_device_does_not_wait_while_the_host_compares(
    planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    """The next hypernetwork is queued before the copy of a reconstruction is waited for."""
    model = load(planned)
    model.invert(picture, 3, 2.0)
    cuda.calls.clear()
    model.invert(picture, 3, 2.0)  # stops after two: the second moves by less than that
    calls = [call for call in cuda.calls if call != "synchronise"]
    compared = ["D2H", "record event", "run hypernet", "wait for event"]
    generated = ["run weights", "run generator"]
    first = ["H2D", "H2D", *START, "run hypernet"]
    assert calls == [*first, *generated, *compared, *generated, *compared, *["D2H"] * 3]
    assert cuda.calls.count("synchronise") == 5  # of the two uploads and the three results
    assert len(cuda.events) == 1
    model.close()
    assert not cuda.events
    assert not cuda.pinned


def test_another_number_of_iterations_is_captured_anew(
    planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model = load(planned)
    for iterations in (1, 2, 2, 1):
        expected = Model.load(planned, "cpu").invert(picture, iterations)
        inversion = model.invert(picture, iterations)
        assert difference(inversion.output, expected.output) <= TOLERANCE["fp32"]
    assert cuda.calls.count("begin capture") == 3
    assert cuda.executables == 1


def test_the_generator_reads_the_very_buffers_the_weights_were_written_to(
    planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    load(planned).invert(picture, 2)
    runs = [(r, w) for r, w in cuda.weights_seen if r in ("weights", "generator")]
    for (first, written), (second, read) in zip(runs[::2], runs[1::2], strict=True):
        assert (first, second) == ("weights", "generator")
        assert written == read
        assert len(written) == 7


def test_memory_does_not_grow_and_is_freed(
    planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model = load(planned)
    inversion = model.invert(picture, 2)
    model.render(inversion)
    blocks = len(cuda.device)
    for _ in range(5):
        inversion = model.invert(picture, 2)
        model.render(inversion)
        model.invert(picture, 1, on_iteration=lambda *_: None)
    assert len(cuda.device) <= blocks + 5  # of the plain path, taken once
    grown = len(cuda.device)
    for _ in range(5):
        model.invert(picture, 2)
        model.invert(picture, 1, on_iteration=lambda *_: None)
    assert len(cuda.device) == grown
    model.close()
    model.close()
    assert not cuda.device
    assert not cuda.pinned
    assert cuda.executables == 0


def test_a_buffer_outlives_the_replay_of_a_graph(
    planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    """The memory a graph writes to is its own: nothing that is held may lie there."""
    model = load(planned)
    model.invert(picture, 2)
    arrays = [np.full((1, 7, 17), value, np.float32) for value in range(20)]
    held = [model.backend.upload(array) for array in arrays]
    model.invert(picture, 2)
    for buffer, array in zip(held, arrays, strict=True):
        assert np.array_equal(model.backend.download(buffer), array)


def test_one_face_serves_a_batch(planned: Path, cuda: StandInCuda, picture: np.ndarray) -> None:
    model = load(planned)
    inversion = model.invert(picture, 1)
    batch = np.stack([inversion.latents, inversion.latents * 0.5])
    expected = Model.load(planned, "cpu").synthesise(inversion, batch)
    cuda.calls.clear()
    assert difference(model.synthesise(inversion, batch), expected) <= TOLERANCE["fp32"]
    assert [c for c in cuda.calls if c.startswith("run")] == ["run weights", "run generator"]
    with pytest.raises(BackendError, match=r"generator does not take latents .* smaller batches"):
        model.render(inversion, np.stack([inversion.latents] * 9))


def test_styles_and_noise_are_inputs_of_a_graph_of_their_own(
    planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    """A plan has no inputs with default values: TensorRT would build the defaults in."""
    model, expected = load(planned), Model.load(planned, "cpu")
    inversion = model.invert(picture, 1)
    inputs = model.bundle.manifest.optional_inputs
    assert inputs is not None
    styles = np.full((1, inputs.style_channels), 0.1, np.float32)
    cuda.calls.clear()
    ours, theirs = (m.synthesise(inversion, styles=styles) for m in (model, expected))
    assert "run styled_generator" in cuda.calls
    assert difference(ours, theirs) <= TOLERANCE["fp32"]
    assert difference(ours, model.synthesise(inversion)) > 1e-3


# ------------------------------------------------------------------ the backend's own surface


def zeros(backend: Any, signature: Any) -> dict[str, Any]:
    """Uploaded zeros for all inputs of a graph, a batch of one."""
    return {
        name: backend.upload(np.zeros([length or 1 for length in spec.shape], np.float32))
        for name, spec in signature.inputs.items()
    }


def test_signatures_are_those_of_the_graphs(planned: Path, cuda: StandInCuda) -> None:
    ours, theirs = load(planned).backend, Model.load(planned, "cpu").backend
    for role in Bundle.open(planned).manifest.graphs:
        mine, expected = ours.signature(role), theirs.signature(role)
        assert mine.inputs == expected.inputs
        assert mine.outputs == expected.outputs


@pytest.mark.parametrize("name", ["tensorrt", "cpu"])
def test_what_a_graph_does_not_take_is_refused_at_the_door(
    name: str, planned: Path, cuda: StandInCuda
) -> None:
    backend = Model.load(planned, name).backend
    good = zeros(backend, backend.signature("hypernet"))
    small = backend.upload(np.zeros((1, 7, 16), np.float32))
    flat = backend.upload(np.zeros((7, 17), np.float32))
    empty = backend.upload(np.zeros((0, 7, 17), np.float32))
    cuda.calls.clear()
    for change, sentence in (
        (
            {"codes": small},
            r"takes codes as float32 \[N,7,17\], not as float32 \[1,7,16\]",
        ),
        ({"codes": flat}, r"takes codes as float32 \[N,7,17\], not as float32 \[7,17\]"),
        ({"codes": empty}, r"hypernet takes codes as .* not as float32 \[0,7,17\]; convert it"),
        ({"codes": np.zeros((1, 7, 17))}, "hypernet takes codes as a buffer, not as ndarray"),
        ({"image": small}, "graph hypernet has no input image, only target, reconstruction, codes"),
    ):
        with pytest.raises(BackendError, match=sentence):
            backend.run("hypernet", {**good, **change})
    del good["reconstruction"]
    with pytest.raises(BackendError, match="graph hypernet needs the input reconstruction, which"):
        backend.run("hypernet", good)
    assert not any(call.startswith("run") for call in cuda.calls)


def test_another_type_is_refused_at_the_door(planned: Path, cuda: StandInCuda) -> None:
    """Kernels of the fp16 graphs do not fit the fp32 generator."""
    half = Model.load(planned, "tensorrt", precision="fp16").backend
    kernels = half.run("weights", zeros(half, half.signature("weights")))
    backend = load(planned).backend
    good = zeros(backend, backend.signature("generator"))
    with pytest.raises(BackendError, match=r"generator takes weight\S+ as float32 .* float16 \["):
        backend.run("generator", {**good, **kernels})


def test_any_chain_of_graphs_is_recorded(planned: Path, cuda: StandInCuda) -> None:
    """The backend is told no method: it records whatever the work does with its inputs."""
    backend = load(planned).backend
    first, second = (np.full((1, 7, 17), value, np.float32) for value in (0.0, 0.5))
    latents = np.random.default_rng(0).standard_normal((1, 8, 16), np.float32)

    def work(inputs: dict[str, Any]) -> dict[str, Any]:
        kernels = backend.run("weights", {"codes": inputs["codes"]})
        rendered = backend.run("generator", {"latents": inputs["latents"], **kernels})
        return {"picture": rendered["rendering"], "codes": inputs["codes"]}

    def inputs(codes: np.ndarray) -> dict[str, Any]:
        return {"codes": backend.upload(codes), "latents": backend.upload(latents)}

    expected = {
        key: backend.download(work(inputs(key_codes))["picture"])
        for key, key_codes in (("first", first), ("second", second))
    }
    recording = backend.record(work, inputs(first))
    for key, codes in (("second", second), ("first", first), ("second", second)):
        cuda.calls.clear()
        replayed = recording.replay(inputs(codes))
        assert not any(call.startswith("run") for call in cuda.calls)
        assert np.array_equal(backend.download(replayed["picture"]), expected[key])
        assert np.array_equal(backend.download(replayed["codes"]), codes)
    with pytest.raises(BackendError, match="takes the inputs it was made with"):
        recording.replay({"codes": backend.upload(first)})
    blocks = len(cuda.device)
    recording.release()
    recording.release()
    with pytest.raises(BackendError, match="was released"):
        recording.replay(inputs(first))
    for _ in range(3):  # in the memory of the one that was released
        other = backend.record(work, inputs(first))
        other.release()
    other = backend.record(work, inputs(first))
    assert cuda.executables == 1
    assert len(cuda.device) <= blocks + 2
    backend.close()
    assert cuda.executables == 0
    assert not cuda.device
    with pytest.raises(BackendError, match="closed; load it again"):
        other.replay({})


def test_work_that_fails_leaves_the_stream_usable(planned: Path, cuda: StandInCuda) -> None:
    backend = load(planned).backend
    codes = {"codes": backend.upload(np.zeros((1, 7, 17), np.float32))}
    calls = []

    def work(inputs: dict[str, Any]) -> dict[str, Any]:
        calls.append(cuda.recording)
        if cuda.recording is not None:
            raise BackendError("no")
        return backend.run("weights", inputs)

    with pytest.raises(BackendError, match="no"):
        backend.record(work, codes)
    assert len(calls) == 2
    assert cuda.recording is None
    assert backend.run("weights", codes)


def test_sessions_share_engines_and_nothing_else(
    planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model = load(planned)
    expected = model.invert(picture, 1)
    loaded = list(sys.modules["tensorrt"].deserialised)
    results: list[Any] = []
    with model.session() as session:
        assert session.backend is not model.backend
        results.append(session.invert(picture, 1))
        results.append(model.invert(picture, 1))
        blocks = len(cuda.device)
    assert len(cuda.device) < blocks
    assert sys.modules["tensorrt"].deserialised == loaded
    for result in results:
        assert np.array_equal(result.output, expected.output)
    with pytest.raises(BackendError, match="closed"):
        session.invert(picture, 1)
    model.close()
    with pytest.raises(BackendError, match="closed"):
        model.invert(picture, 1)
    assert not cuda.device


def test_nothing_of_cuda_is_touched_in_a_forked_child(
    planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    """A context of CUDA works in its process only; what happens in a child is done here at once."""
    model = load(planned)
    with model.session() as session:
        session.invert(picture, 1)
        device, executables = dict(cuda.device), cuda.executables
        for backend in (session.backend, model.backend):
            backend._native.abandon()
        model.backend._engines._native.abandon()
        cuda.calls.clear()
        with pytest.raises(BackendError, match="loaded before the process forked"):
            session.invert(picture, 1)
    model.close()
    assert cuda.calls == []
    assert (cuda.device, cuda.executables) == (device, executables)


def test_plans_of_the_bundle_are_verified(planned: Path) -> None:
    Bundle.open(planned).verify()
