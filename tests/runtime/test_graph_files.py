"""Files of graphs that a library maps."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest
from hyperstyle_rt.backends.graph_files import MappedFiles

PAGE = 4096


def resident(path: Path) -> int:
    """Kilobytes of a mapped file that are in this process's memory."""
    _, found, rest = Path("/proc/self/smaps").read_text("utf-8").partition(f"{path}\n")
    assert found
    line = next(line for line in rest.splitlines() if line.startswith("Rss:"))
    return int(line.split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="only there are pages let go of")
def test_pages_that_were_read_once_are_let_go_of(tmp_path: Path) -> None:
    """They can be read again; those of other files stay."""
    paths = [tmp_path / "read once", tmp_path / "other"]
    for path in paths:
        path.write_bytes(bytes(range(256)) * 16 * 64)
    maps = []
    for path in paths:
        with path.open("rb") as file:
            maps.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    files = MappedFiles(paths[:1])
    with files.read_once():
        assert all(len(bytes(mapped)) == 64 * PAGE for mapped in maps)
    assert [resident(path) for path in paths] == [0, 64 * PAGE // 1024]
    assert maps[0][:256] == bytes(range(256))
    files.check()
    files.close()
    for mapped in maps:
        mapped.close()
