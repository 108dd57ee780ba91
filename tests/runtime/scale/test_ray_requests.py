"""`invert --ray` before a cluster is asked: what is refused, and where pictures may be."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from batch_folders import make_pictures
from command_line import files, refuse
from hyperstyle_rt.batch.results import Settings
from hyperstyle_rt.errors import BackendError, PictureError
from hyperstyle_rt.scale import run
from hyperstyle_rt.scale.urls import Url, as_location

SETTINGS = Settings("0" * 64, "hyperstyle", "fp32", 1)


class Ray:
    """What a run asks of Ray beside the dataset."""

    @staticmethod
    def cluster_resources() -> dict[str, float]:
        return {"CPU": 2.0, "GPU": 1.0}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--parquet", "t"), "--parquet goes with --ray; add --ray local"),
        (("--ray-workers", 2), "--ray-workers goes with --ray; add --ray local"),
        (("--no-files",), "--no-files goes with --ray; add --ray local"),
        (("--ray", "local", "--no-files"), "--no-files leaves nothing to write; add --parquet"),
        (
            ("--ray", "local", "--method", "all"),
            "with --ray every method is a run of its own; name one with --method",
        ),
        (
            ("--ray", "local", "-o", "-"),
            "the machines of a cluster share no pipes; name files for --ray",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: tuple[object, ...], says: str
) -> None:
    make_pictures("a.png")
    before = files()
    assert refuse("invert", "a.png", *options) == says
    assert files() == before


def test_a_film_is_refused() -> None:
    says = "a film is inverted on one machine; leave --ray out"
    assert refuse("invert", "film.mp4", "--ray", "local") == says


def test_without_ray_a_sentence_says_what_to_install(tmp_path: Path) -> None:
    make_pictures("a.png")
    without = (
        "import sys; sys.modules['ray'] = None\n"
        "from hyperstyle_rt.scale import ray_library\n"
        "ray_library.find_spec = lambda name: None if name == 'ray' else 1\n"
        "from hyperstyle_rt.cli.app import main; main()"
    )
    command = [sys.executable, "-c", without, "invert", "a.png", "--ray", "local"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert " ".join(result.stderr.split()) == (
        "error: this needs ray, which is not installed; install 'hyperstyle-rt[ray]'"
    )
    assert files() == {"a.png"}


@pytest.mark.parametrize(
    "text", ["s3://bucket/a/b.png", "https://example.org/b.png", "file:///a/b.png"]
)
def test_a_url_that_was_read_as_a_path_is_whole_again(text: str) -> None:
    url = as_location(Path(text))
    assert isinstance(url, Url)
    assert str(url) == text
    assert (url.name, url.suffix) == ("b.png", ".png")
    assert str(pickle.loads(pickle.dumps(url))) == text
    assert str(url.parent / "c.png") == text.replace("b.png", "c.png")


@pytest.mark.parametrize("text", ["a/b.png", "/a/b.png", "s3/b.png", "c:/b.png", "."])
def test_a_path_stays_a_path(text: str) -> None:
    assert as_location(Path(text)) == Path(text)
    assert not isinstance(as_location(Path(text)), Url)


def test_pictures_are_found_and_read_below_urls(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra `ray` is not installed")
    from hyperstyle_rt.scale.urls import files_below, read_location

    make_pictures("in/a.png", "in/x/b.png", "in/.hidden/c.png")
    Path("in/notes.txt").write_text("no picture")
    folder = Url(f"file://{tmp_path}/in")
    found = files_below(folder, (".png",))
    assert [str(each) for each in found] == [f"{folder}/a.png", f"{folder}/x/b.png"]
    assert read_location(found[1]) == Path("in/x/b.png").read_bytes()
    assert files_below(found[0], (".png",)) == [found[0]]
    with pytest.raises(PictureError, match=r"there is nothing in .* that ends in \.jpg"):
        files_below(folder, (".jpg",))
    with pytest.raises(PictureError, match="cannot read file://"):
        read_location(folder / "none.png")


def test_a_picture_is_read_from_a_web_server(tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="the extra `ray` is not installed")
    pytest.importorskip("aiohttp", reason="fsspec reads HTTP with aiohttp")
    pytest.importorskip("pyarrow", reason="the extra `ray` is not installed")
    from hyperstyle_rt.scale.urls import read_location

    make_pictures("a.png")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        place = f"http://127.0.0.1:{server.server_address[1]}"
        assert read_location(Url(f"{place}/a.png")) == Path("a.png").read_bytes()
        with pytest.raises(PictureError, match=r"cannot read http://.*/none\.png"):
            read_location(Url(f"{place}/none.png"))
        server.shutdown()


def test_names_in_tables_are_checked() -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra `ray` is not installed")
    import pyarrow.parquet as pq
    from hyperstyle_rt.scale.tables import picture_names

    def write(path: str, /, **columns: list[object]) -> Path:
        pq.write_table(pa.table(columns), path)
        return Path(path)

    good = write("good.parquet", path=["x/a.png", "b"], bytes=[b"1", b"2"])
    assert picture_names([good]) == ["x/a", "b"]
    with pytest.raises(PictureError, match="have a picture 'x/a' each"):
        picture_names([good, good])
    for name in ("../a.png", "/a.png", "", "a/../../b"):
        bad = write("bad.parquet", path=[name], bytes=[b"1"])
        with pytest.raises(PictureError, match="name it by a path below a folder"):
            picture_names([bad])
    with pytest.raises(PictureError, match="has the columns text; a table of pictures has"):
        picture_names([write("other.parquet", text=["a"])])
    Path("none.parquet").write_bytes(b"no table")
    with pytest.raises(PictureError, match=r"cannot read none\.parquet"):
        picture_names([Path("none.parquet")])


def test_a_block_that_is_written_again_replaces_its_part() -> None:
    pytest.importorskip("pyarrow", reason="the extra `ray` is not installed")
    from hyperstyle_rt.errors import HyperStyleError
    from hyperstyle_rt.scale.tables import Tables

    tables = Tables(Path("t").absolute(), SETTINGS, "run1")
    row = {"name": "a", "picture": "1", "settings": json.dumps({}), "latents": [0.0]}
    for _ in range(2):
        tables.write(["a", "b"], [row], [{"name": "b", "source": "b.png", "error": "bad"}])
    tables.write(["c"], [row | {"name": "c"}], [])
    assert tables.done() == {("a", "1"), ("c", "1")}
    assert len(files()) == 3  # and nothing hidden
    with pytest.raises(HyperStyleError, match="has inversions already; add to them with --resume"):
        tables.check_new()
    other = Tables(Path("t").absolute(), Settings("1" * 64, "hyperstyle", "fp32", 1), "run1")
    other.check_new()
    assert other.done() == frozenset()


@pytest.mark.parametrize(
    ("cluster", "count"),
    [
        ({}, 2),
        ({"workers": 1}, 1),
        ({"workers": 9}, 2),
        ({"processors": 2}, 1),
        ({"gpus": 1.0}, 1),
        ({"gpus": 0.5}, 2),
    ],
)
def test_as_many_workers_as_there_is_room_for(cluster: dict[str, Any], count: int) -> None:
    assert run.Cluster(address="local", **cluster).count_workers(Ray) == count


def test_a_cluster_without_room_is_refused() -> None:
    with pytest.raises(BackendError, match="2 processors and 1 GPUs, and a worker needs 4 and 0"):
        run.Cluster(address="local", processors=4).count_workers(Ray)
