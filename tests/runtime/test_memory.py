"""What reading and inverting may take: as much as there is to read, and no gigabytes."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from hyperstyle_rt.errors import PictureError
from hyperstyle_rt.files import read_regular
from hyperstyle_rt.imaging import pictures as imaging
from pictures import encode, photo

ROOT = Path(__file__).parents[2]

INVERT = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
from hyperstyle_rt.cli.app import main
sys.argv = ["hyperstyle-rt", "invert", *sys.argv[2:]]
main()
"""
LIMITED_FROM_HERE = """
from pathlib import Path
vm = int(next(l for l in Path("/proc/self/status").open() if l.startswith("VmSize")).split()[1])
resource.setrlimit(resource.RLIMIT_AS, (vm * 1024 + int(sys.argv[1]),) * 2)
"""
INVERT_FROM_HERE = (
    """
import resource, sys
import cv2, onnxruntime  # which end a process that has no memory for their tables
from hyperstyle_rt.cli.app import main
"""
    + LIMITED_FROM_HERE
    + """
sys.argv = ["hyperstyle-rt", "invert", *sys.argv[2:]]
main()
"""
)
READ = (
    """
import resource, sys
import cv2
from hyperstyle_rt.errors import PictureError
from hyperstyle_rt.imaging.pictures import read_picture
"""
    + LIMITED_FROM_HERE
    + """
try:
    read_picture(sys.argv[2])
except PictureError as error:
    print(error)
"""
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit addresses")


def test_a_small_file_is_read_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "small.bin"
    path.write_bytes(bytes(60_000))
    tracemalloc.start()
    try:
        assert len(read_regular(path, 1 << 29, PictureError)) == 60_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500_000


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
def test_files_up_to_the_limit_are_read_whole(size: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    assert read_regular(path, 1000, PictureError) == bytes(size)


def test_files_above_the_limit_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 34)  # takes no disk
    tracemalloc.start()
    try:
        with pytest.raises(PictureError, match="larger than 1000000 bytes"):
            read_regular(path, 1_000_000, PictureError)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs a file without a size")
def test_a_file_that_tells_no_size_is_read_whole() -> None:
    assert read_regular(Path("/proc/self/status"), 1 << 20, PictureError).startswith(b"Name:")


@pytest.mark.parametrize("where", ["imdecode", "cvtColor"])
def test_too_little_memory_is_a_sentence(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        if where == "imdecode":
            raise MemoryError
        raise cv2.error("Insufficient memory")

    monkeypatch.setattr(cv2, "imdecode", fail)
    says = "not enough memory" if where == "imdecode" else "damaged"
    with pytest.raises(PictureError, match=says):
        imaging.decode_picture(encode(photo(), "PNG"), Path("x.png"))


@linux
def test_a_picture_too_large_for_the_memory_is_a_sentence(tmp_path: Path) -> None:
    grey = np.zeros((10_000, 11_000, 3), np.uint8)  # 330 MB of pixels
    (tmp_path / "large.png").write_bytes(cv2.imencode(".png", grey)[1].tobytes())
    done = subprocess.run(
        [sys.executable, "-c", READ, str(160 << 20), str(tmp_path / "large.png")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "large.png has 11000 x 10000 pixels, for which there is not enough memory" in done.stdout
    assert "Traceback" not in done.stderr


@linux
def test_a_gigabyte_of_addresses_is_enough_for_an_inversion(tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    picture = ROOT / "examples" / "portrait_0.png"
    words = [picture, "--bundle", "portraits", "--out", out]
    done = subprocess.run(
        [sys.executable, "-c", INVERT, str(10**9), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert imaging.read_picture(out).shape[2] == 3


@linux
@pytest.mark.parametrize(("align", "model"), [("auto", "face_detector"), ("never", "encoder")])
def test_too_little_memory_for_the_graphs_is_a_sentence(
    align: str, model: str, tmp_path: Path
) -> None:
    picture = ROOT / "examples" / "portrait_0.png"
    words = [picture, "--bundle", "portraits", "--align", align, "--out", tmp_path / "out.png"]
    done = subprocess.run(
        [sys.executable, "-c", INVERT_FROM_HERE, str(32 << 20), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "memory" in line and f"{model}.onnx" in line
    assert not list(tmp_path.iterdir())
