"""What a worker of a cluster does with a block of pictures, without a cluster."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from batch_folders import contents, make_pictures
from hyperstyle_rt.batch.results import Settings
from hyperstyle_rt.batch.resume import EarlierResults
from hyperstyle_rt.batch.run import Finished
from hyperstyle_rt.errors import BackendError, BundleError, PictureError
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.scale.attempts import MOST, Counter
from hyperstyle_rt.scale.blocks import BlockInverter, BlockWork, Opening
from hyperstyle_rt.scale.tables import Tables

pa = pytest.importorskip("pyarrow", reason="the extra `ray` is not installed")

SETTINGS = Settings(Bundle.open(find_bundle("portraits")).digest, "hyperstyle", "fp32", 0)
BLOCK = {"name": ["x/a", "bad"], "source": ["a.png", "bad.png"]}


@pytest.fixture(autouse=True)
def _pictures_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_pictures("a.png")
    Path("bad.png").write_bytes(b"no picture")


def block_work(**changed: Any) -> BlockWork:
    work = BlockWork(
        opening=Opening(bundle="portraits", backend="cpu", threads=1, precision="fp32"),
        settings=SETTINGS,
        mask=None,
        out=Path("out"),
        working_directory=Path.cwd(),
        earlier=EarlierResults(SETTINGS),
        force=False,
        tables=None,
        done=frozenset(),
        jobs=1,
    )
    return replace(work, **changed)


def outcomes(worker: BlockInverter, block: dict[str, list[Any]]) -> dict[str, Any]:
    found = worker(pa.table(block)).to_pydict()
    assert found["name"] == block["name"]
    return {n: pickle.loads(o) for n, o in zip(found["name"], found["outcome"], strict=True)}


def test_a_block_that_is_given_again_is_not_done_again() -> None:
    worker = BlockInverter(block_work())
    first = outcomes(worker, BLOCK)
    assert isinstance(first["x/a"], Finished) and len(first["x/a"].done) == 1
    assert isinstance(first["bad"], PictureError)
    before = contents()
    assert before.keys() == {"x/a.inverted.png"}
    again = outcomes(worker, BLOCK)
    assert again["x/a"] == Finished(earlier=(Path("out/x/a.inverted.png"),))
    assert contents() == before


def test_contents_in_the_block_are_what_is_inverted() -> None:
    worker = BlockInverter(block_work())
    outcomes(worker, {"name": ["x/a"], "source": ["a.png"]})
    expected = contents()
    block = {"name": ["y"], "content": [Path("a.png").read_bytes()]}
    assert isinstance(outcomes(worker, block)["y"], Finished)
    assert contents()["y.inverted.png"] == expected["x/a.inverted.png"]


def test_a_row_that_cannot_be_written_is_an_error_of_its_pictures() -> None:
    Path("file").touch()
    tables = Tables(Path("file").absolute(), SETTINGS, "run")
    found = outcomes(BlockInverter(block_work(tables=tables, out=None)), BLOCK)
    assert all(isinstance(each, PictureError) for each in found.values())
    assert str(found["x/a"]).startswith("cannot write ")


def test_a_model_that_fails_is_told_as_such() -> None:
    worker = BlockInverter(block_work())
    worker._model.close()
    found = outcomes(worker, BLOCK)
    assert isinstance(found["x/a"], BackendError) and "closed" in str(found["x/a"])


def test_another_bundle_than_that_of_the_run_is_refused() -> None:
    worker = BlockInverter(block_work(settings=replace(SETTINGS, bundle="0" * 64)))
    found = outcomes(worker, BLOCK)["x/a"]
    assert isinstance(found, BundleError)
    assert "is not the one of this run; install the same version" in str(found)


def test_a_picture_that_workers_die_of_takes_no_others_with_it() -> None:
    """A worker that dies begins and does not end; the next one is given the same block."""
    attempts = Counter()
    tables = Tables(Path("t").absolute(), SETTINGS, "run")
    worker = BlockInverter(block_work(attempts=attempts, tables=tables))
    names = ["a", "b", "c"]
    for name in names:
        make_pictures(f"in/{name}.png")
    block = {"name": names, "source": [f"in/{name}.png" for name in names]}
    work, deaths = worker._invert, 0

    def dies_of_b(rows: list[dict[str, Any]]) -> Any:
        if any(row["name"] == "b" for row in rows):
            raise KeyboardInterrupt  # as good as dead
        return work(rows)

    worker._invert = dies_of_b  # type: ignore[method-assign,assignment]
    found: dict[str, Any] = {}
    while not found:
        try:
            found = outcomes(worker, block)
        except KeyboardInterrupt:
            deaths += 1
    assert deaths == MOST - 1 + MOST
    assert isinstance(found["a"], Finished) and isinstance(found["c"], Finished)
    assert str(found["b"]).startswith(
        "3 workers have died, one after the other, while they inverted in/b.png; look at"
    )
    assert {name for name, _ in tables.done()} == {"a", "c"}
    assert contents().keys() == {"a.inverted.png", "c.inverted.png"}
    assert attempts.begin("a") == attempts.begin("b") == 1  # nothing is kept of what is done
