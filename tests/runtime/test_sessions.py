"""A model is shared by threads, sent to processes, and gives its memory back."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import shutil
import tempfile
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hyperstyle_rt import BackendError, BundleError, Inversion, Model
from hyperstyle_rt.imaging.pictures import write_picture


@pytest.fixture
def model(tiny_bundle: Path) -> Model:
    return Model.load(tiny_bundle, "cpu", threads=1)


@pytest.fixture
def pictures(picture: np.ndarray, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{n}.png" for n in range(6)]
    for number, path in enumerate(paths):
        write_picture(path, np.roll(picture, 7 * number, axis=1))
    return paths


# Threads


def test_threads_share_a_model(model: Model, pictures: list[Path]) -> None:
    alone = [model.invert(path, 3) for path in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda path: model.invert(path, 3), 3 * pictures))
    for one, other in zip(3 * alone, together, strict=True):
        assert np.array_equal(one.codes, other.codes)
        assert np.array_equal(one.output, other.output)


def test_a_session_does_what_its_model_does(model: Model, picture: np.ndarray) -> None:
    expected = model.invert(picture, 2)
    with model.session() as session:
        inversion = session.invert(picture, 2)
        assert np.array_equal(inversion.output, expected.output)
        assert np.array_equal(session.render(inversion), expected.image)
        assert session.directions == model.directions
    with pytest.raises(BackendError, match=r"session is closed; open another one with model\."):
        session.invert(picture)
    session.close()
    assert np.array_equal(model.render(expected), expected.image)  # which is open still


def test_results_stay_where_the_backend_keeps_them(model: Model, picture: np.ndarray) -> None:
    from hyperstyle_rt.imaging.pictures import to_input

    expected = model.invert(picture, 2)
    target = to_input(picture, model.bundle.manifest.input_size)
    found = model.invert_on_device(target, 2)
    assert set(found.tensors) == {"latents", "codes", "rendering", "reconstruction"}
    assert found.iterations == 2
    assert np.array_equal(found.tensors["rendering"][0], expected.output)
    assert np.array_equal(found.tensors["codes"][0], expected.codes)
    with pytest.raises(BackendError, match=r"\[1, 3, 64, 64\], not \[1, 3, 32, 32\]; resize it"):
        model.invert_on_device(target[..., ::2, ::2])
    for wrong in (
        np.uint8(128) + np.zeros_like(target, np.uint8),
        target + 0j,
        target.astype("f8"),
    ):
        with pytest.raises(
            BackendError, match=r"float32 \[1, 3, 64, 64\] in .*, not (uint|comp|flo)"
        ):
            model.invert_on_device(wrong)
    for nothing in (None, "x", [[1.0], []]):
        with pytest.raises(BackendError, match=r"the target must be float32 \[1, 3, 64, 64\]"):
            model.invert_on_device(nothing)
    again = model.invert_on_device(memoryview(target), 2)
    assert np.array_equal(again.tensors["codes"][0], expected.codes)


# Closing


def test_a_closed_model_says_so(model: Model, picture: np.ndarray) -> None:
    session = model.session()
    inversion = model.invert(picture, 1)
    with model:
        pass
    assert model.closed
    uses: list[Callable[[], object]] = [
        lambda: model.invert(picture),
        lambda: model.render(inversion),
        lambda: model.edit(inversion, {}),
        lambda: model.map(np.zeros((1, 16), np.float32)),
        lambda: session.invert(picture),
        model.session,
    ]
    for use in uses:
        with pytest.raises(BackendError, match="is closed"):
            use()
    model.close()


def test_dropping_a_model_frees_it_without_the_collector(
    tiny_bundle: Path, picture: np.ndarray
) -> None:
    gc.disable()
    try:
        model = Model.load(tiny_bundle, "cpu", threads=1)
        inversion = model.invert(picture, 1)
        held = [weakref.ref(x) for x in (model, model.backend, model._work.renderer)]
        assert model.sweep(inversion, [{}])
        del model
        assert [reference() for reference in held] == [None, None, None]
    finally:
        gc.enable()


def test_what_a_thread_worked_with_goes_with_it(model: Model, picture: np.ndarray) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(model.invert, picture, 1).result()
        (held,) = [weakref.ref(work) for work in model._opened]
    gc.collect()
    assert held() is None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_goes_back() -> None:
    """Of the bundle portraits, whose graphs alone are tens of megabytes."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    example = Path(__file__).parents[2] / "examples" / "portrait_0.png"
    sizes = []
    for _ in range(3):
        with Model.load("portraits", threads=1) as model:
            model.invert(example, 1, align="never")
            open_size = resident()
        del model
        sizes.append(resident())
    assert sizes[0] < open_size - 20e6
    assert sizes[2] < sizes[0] + 20e6


# Processes


def test_a_model_is_sent_as_how_it_was_opened(model: Model, picture: np.ndarray) -> None:
    sent = pickle.dumps(model)
    assert len(sent) < 1000
    landed = pickle.loads(sent)
    assert landed is not model
    assert landed is pickle.loads(sent)  # one for all pictures that come with it
    assert landed.bundle.directory == model.bundle.directory
    assert np.array_equal(landed.invert(picture, 1).output, model.invert(picture, 1).output)
    landed.close()
    assert not pickle.loads(sent).closed
    assert not copy.copy(model).closed


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_processes_invert(
    method: str, model: Model, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {method}")
    expected = [model.invert(path) for path in pictures]
    if os.name == "posix":  # a forkserver's socket lies in TMPDIR, and may have 108 bytes
        monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        found: list[Inversion] = list(pool.map(model.invert, pictures))
    for one, other in zip(expected, found, strict=True):
        assert np.array_equal(one.output, other.output)
        assert other.data.bundle_digest == model.bundle.digest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_after_a_fork_a_model_is_refused_and_may_be_dropped(
    model: Model, tiny_bundle: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    session = model.session()
    expected = model.invert(picture, 1)
    child = os.fork()
    if child == 0:  # only what os._exit leaves behind is told to the parent
        said = []
        for use in (model.invert, session.invert):
            try:
                use(picture, 1)
            except BackendError as error:
                said.append(str(error))
        del use, session
        model.close()
        del model
        gc.collect()
        again = Model.load(tiny_bundle, "cpu", threads=1).invert(picture, 1)
        said.append(str(np.array_equal(again.output, expected.output)))
        (tmp_path / "said").write_text("\n".join(said))
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    first, second, same = (tmp_path / "said").read_text().splitlines()
    assert "forked" in first and "forked" in second
    assert same == "True"
    assert np.array_equal(model.invert(picture, 1).output, expected.output)


# Where the bundle is


def test_a_relative_path_survives_a_change_of_directory(
    tiny_bundle: Path, picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "here" / "tiny")
    monkeypatch.chdir(tmp_path / "here")
    model = Model.load("tiny", "cpu", threads=1)
    monkeypatch.chdir(tmp_path)
    assert model.invert(picture, 1).iterations == 1  # graphs are opened now
    assert pickle.loads(pickle.dumps(model)).invert(picture, 1).iterations == 1


def test_a_bundle_that_is_gone_says_so(
    tiny_bundle: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    model = Model.load(tmp_path / "tiny", "cpu", threads=1)
    inversion = model.invert(picture, 1)
    shutil.rmtree(tmp_path / "tiny")
    assert np.array_equal(model.render(inversion), inversion.image)  # which has its graphs
    with pytest.raises(BundleError, match=r"objective\.onnx|features\.onnx"):
        model.optimise(inversion, picture, steps=1)
    with pytest.raises(BundleError, match="there is no"):
        pickle.loads(pickle.dumps(model))
