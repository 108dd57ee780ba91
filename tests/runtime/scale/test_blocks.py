"""What a worker of a cluster does with a block of pictures, without a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from batch_folders import contents, make_pictures
from hyperstyle_rt.batch.results import Outputs, Settings
from hyperstyle_rt.batch.resume import EarlierResults
from hyperstyle_rt.batch.run import Done, Finished
from hyperstyle_rt.errors import (
    BackendError,
    BundleError,
    HyperStyleError,
    InversionError,
    PictureError,
)
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.scale.attempts import MOST, Counter
from hyperstyle_rt.scale.blocks import BlockInverter, BlockWork, Opening
from hyperstyle_rt.scale.outcomes import outcome_of, table_of
from hyperstyle_rt.scale.tables import Tables
from hyperstyle_rt.scale.urls import Url

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
    found = worker(pa.table(block)).to_pylist()
    assert [row["name"] for row in found] == block["name"]
    return {row["name"]: outcome_of(row) for row in found}


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


EVERYTHING = Finished(
    done=(
        Done(0, Outputs(Path("a.png")), 5, 0.25),
        Done(
            2,
            Outputs(
                Path("out/a.face2.inverted.png"),
                (Path("out/a.step1.png"), Path("out/a.step2.png")),
                *(Path(f"out/{name}") for name in ("a.c.png", "a.safetensors", "a.p.png", "a.u")),
            ),
            iterations=0,
            seconds=1 / 3,
            effort={"effort": "auto", "steps": 30, "loss": [0.1, None]},
        ),
        Done(0, Outputs(Url("s3://bucket/inversions")), 1, 0.0),
    ),
    earlier=(Path("x.png"), Url("s3://bucket/inversions")),
    notice="no face was found",
)


def test_what_comes_back_is_what_became_of_the_pictures() -> None:
    table = table_of({"a": EVERYTHING, "b": Finished()})
    assert [outcome_of(row) for row in table.to_pylist()] == [EVERYTHING, Finished()]
    assert not any(pa.types.is_binary(each.type) for each in table.schema)  # plain columns
    (url,) = (each for each in outcome_of(table.to_pylist()[0]).earlier if "s3" in str(each))
    assert str(url) == "s3://bucket/inversions"


def test_errors_come_back_as_what_they_were() -> None:
    class FullDisk(PictureError):
        pass

    given = [InversionError("i"), BundleError("b"), BackendError("c"), HyperStyleError("d")]
    table = table_of({str(each): each for each in [*given, FullDisk("e")]})
    found = [outcome_of(row) for row in table.to_pylist()]
    assert [(type(each), str(each)) for each in found] == [
        *((type(each), str(each)) for each in given),
        (PictureError, "e"),
    ]
