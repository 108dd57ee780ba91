"""`invert --ray`: the same results as on one machine, whatever dies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from batch_folders import contents, make_pictures
from hyperstyle_rt import Inversion

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytest.importorskip("pyarrow", reason="the extra `ray` is not installed")

from ray_runs import invert, rows

CLUSTER = ("--ray", "local", "--ray-workers", 2)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_a_cluster_gives_what_one_machine_gives(tiny_bundle: Path) -> None:
    names = [f"in/{folder}/{n}.png" for folder in ("a", "b") for n in range(4)]
    make_pictures(*names)
    Path("in/b/bad.png").write_bytes(b"no picture")
    options = ("in", "--bundle", tiny_bundle, "--threads", 1, "--save-inversion")
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
