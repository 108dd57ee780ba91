"""`invert --ray`: the same results as on one machine, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from batch_folders import contents, make_pictures
from hyperstyle_rt import Inversion
from hyperstyle_rt.imaging.pictures import read_picture, write_picture

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytest.importorskip("pyarrow", reason="the extra `ray` is not installed")

from ray_runs import ENVIRONMENT, command, invert, private_megabytes, processes, rows

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
CLUSTER = ("--ray", "local", "--ray-workers", 2)
PORTRAITS = ("--bundle", "portraits", "--backend", "cpu", "--save-inversion")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_cluster_gives_what_one_machine_gives() -> None:
    names = [f"in/{folder}/{n}.png" for folder in ("a", "b") for n in range(4)]
    make_pictures(*names)
    Path("in/b/bad.png").write_bytes(b"no picture")
    options = ("in", *PORTRAITS, "--threads", 1)
    alone = invert(*options, "-o", "alone", status=2)
    many = invert(*options, "-o", "many", *CLUSTER, "--parquet", "tables", status=2)
    assert contents("many") == contents("alone")
    assert len(contents("many")) == 16
    assert [each["input"] for each in many["inversions"]] == names
    assert many["errors"] == alone["errors"]

    found = {row["name"]: row for row in rows(Path("tables"), "inversions")}
    assert sorted(found) == [name[3:-4] for name in names]
    for name, row in found.items():
        inversion = Inversion.load(f"alone/{name}.safetensors")
        assert row["inversion"] == Path(f"alone/{name}.safetensors").read_bytes()
        assert np.array_equal(
            np.float32(row["latents"]).reshape(row["latents_shape"]), inversion.latents
        )
        assert inversion.codes is not None
        assert np.array_equal(np.float32(row["codes"]).reshape(row["codes_shape"]), inversion.codes)
        assert row["picture"] == inversion.data.picture
        assert 0 < row["l2"] < 4
    (error,) = rows(Path("tables"), "errors")
    assert (error["name"], error["source"]) == ("b/bad", "in/b/bad.png")
    assert error["error"] == alone["errors"][0]["error"]

    again = invert(*options, "-o", "many", *CLUSTER, "--parquet", "tables", "--resume", status=2)
    assert len(again["skipped"]) == 8 and not again["inversions"]
    assert len(rows(Path("tables"), "inversions")) == 8


PICTURES, BAD = 2000, 20
ON_CLUSTER = ("-o", "out", *PORTRAITS, "--threads", 1, *CLUSTER, "--parquet", "tables")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``in/``, 2,000 pictures and 20 bad ones, and ``alone/``, what they give."""
    folder = tmp_path_factory.mktemp("many")
    examples = [read_picture(EXAMPLES / f"portrait_{n}.png") for n in range(3)]
    for n in range(PICTURES):
        (folder / f"in/{n % 20}").mkdir(parents=True, exist_ok=True)
        moved = np.roll(examples[n % 3], (n // 3 % 26 - 13, n // 78 - 13), (0, 1))
        write_picture(folder / f"in/{n % 20}/{n}.png", moved)
    for n in range(BAD):
        (folder / f"in/{n}/bad{n}.png").write_bytes(b"no picture")
    report = invert(folder / "in", "-o", folder / "alone", *PORTRAITS, "--threads", 1, status=2)
    assert (len(report["inversions"]), len(report["errors"])) == (PICTURES, BAD)
    return folder


def _check_whole(many: Path) -> None:
    """All results are there, as one machine makes them, and every row once."""
    assert contents("out") == contents(str(many / "alone"))
    found = [row["name"] for row in rows(Path("tables"), "inversions")]
    assert sorted(found) == sorted(f"{n % 20}/{n}" for n in range(PICTURES))
    errors = {row["name"] for row in rows(Path("tables"), "errors")}
    assert errors == {f"{n}/bad{n}" for n in range(BAD)}


@contextmanager
def _running(many: Path) -> Iterator[subprocess.Popen[str]]:
    """A run on a cluster that has written a tenth of the results."""
    process = subprocess.Popen(
        [*command(many / "in", *ON_CLUSTER), "--json"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 300
        while len(list(Path("out").rglob("*.inverted.png"))) < PICTURES // 10:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.2)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_two_workers_keep_up_with_one_process_on_two_threads(many: Path) -> None:
    alone = invert(many / "in", "-o", "two", *PORTRAITS, "--threads", 2, status=2)["seconds"]
    megabytes = []
    with _running(many) as process:
        while process.poll() is None:
            try:
                output, errors = process.communicate(timeout=1)
            except subprocess.TimeoutExpired:
                megabytes.append(private_megabytes(process.pid))
    assert process.returncode == 2, errors
    _check_whole(many)
    cluster = json.loads(output)["seconds"]
    fifth = len(megabytes) // 5
    before, after = np.mean(megabytes[fifth : 2 * fifth]), np.mean(megabytes[-fifth:])
    print(f"alone {alone:.1f} s, cluster {cluster:.1f} s, {alone / cluster:.2f} x its rate")
    print(f"memory {before:.0f} MB, at the end {after:.0f} MB")
    assert alone / cluster >= 0.9
    assert after < 1.05 * before


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing_but_time(many: Path) -> None:
    with _running(many) as process:
        workers = processes("BlockInverter")
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        output, errors = process.communicate(timeout=600)
    assert process.returncode == 2, errors
    report = json.loads(output)
    assert len(report["errors"]) == BAD
    assert len(report["inversions"]) + len(report["skipped"]) == PICTURES
    _check_whole(many)


@pytest.mark.slow
def test_a_run_whose_driver_is_killed_is_resumed(many: Path) -> None:
    with _running(many) as process:
        process.kill()
    deadline = time.monotonic() + 60
    while processes("BlockInverter") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not processes("BlockInverter")
    done = len(rows(Path("tables"), "inversions"))
    assert PICTURES // 20 < done < PICTURES
    report = invert(many / "in", *ON_CLUSTER, "--resume", status=2)
    assert len(report["skipped"]) == done
    assert len(report["inversions"]) == PICTURES - done
    _check_whole(many)


@pytest.mark.slow
def test_pictures_in_tables_give_what_files_give() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"in/{n}.png" for n in range(50)]
    make_pictures(*names)
    contents_of = [Path(name).read_bytes() for name in names]
    table = pa.table({"path": [name[3:] for name in names], "bytes": contents_of})
    Path("t.parquet").mkdir()
    pq.write_table(table.slice(0, 30), "t.parquet/0.parquet", row_group_size=30)
    pq.write_table(table.slice(30), "t.parquet/1.parquet")
    options = (*PORTRAITS, "--threads", 1)
    invert("in", "-o", "alone", *options)
    report = invert("t.parquet", "-o", "many", *options, *CLUSTER)
    assert contents("many") == contents("alone")
    assert len(report["inversions"]) == 50

    tables = f"file://{Path.cwd()}/tables"
    report = invert(
        f"file://{Path.cwd()}/in", "--parquet", tables, "--no-files", *options, *CLUSTER
    )
    assert len(report["inversions"]) == 50
    assert {path.name for path in Path().iterdir()} == {
        "in",
        "t.parquet",
        "alone",
        "many",
        "tables",
    }
    assert {row["name"] for row in rows(Path("tables"), "inversions")} == {
        str(n) for n in range(50)
    }
