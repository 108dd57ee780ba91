"""The native TensorRT backend against stand-ins for TensorRT and CUDA (stand_ins.py).

What cannot be seen here: that the real libraries take these calls, any number, any speed. That is
for `make test-gpu`.
"""

from __future__ import annotations

from pathlib import Path

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
    model.backend.close()
    assert not cuda.events
    assert not cuda.pinned


def test_another_number_of_iterations_is_captured_anew(
    planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model = load(planned)
    for iterations in (1, 2, 2, 1):
        expected = Model.load(planned, "cpu").invert(picture, iterations)
        made = model.invert(picture, iterations)
        assert difference(made.output, expected.output) <= TOLERANCE["fp32"]
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
    model.backend.close()
    model.backend.close()
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


def test_inputs_with_defaults_are_refused(
    planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    """TensorRT has built their defaults in: a picture without the edit would be a wrong one."""
    backend = load(planned).backend
    weights = backend.run("weights", {"codes": backend.upload(np.zeros((1, 7, 17), np.float32))})
    latents = backend.upload(np.zeros((1, 8, 16), np.float32))
    feeds = {"latents": latents, **weights, "style_offsets": latents}
    with pytest.raises(BackendError, match="generator cannot be fed style_offsets; use --backend"):
        backend.run("generator", feeds)


def test_plans_of_the_bundle_are_verified(planned: Path) -> None:
    Bundle.open(planned).verify()
