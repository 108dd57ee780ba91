"""Inversions on a Ray cluster of this machine, each run in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from command_line import RUNTIME

ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(RUNTIME),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # else whatever else runs here comes first
}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "hyperstyle_rt", "invert", *map(str, arguments), "-n", "1"]


def invert(*arguments: object, status: int = 0, seconds: float = 600.0) -> dict[str, Any]:
    """Run `invert` and give what it reports."""
    result = subprocess.run(
        [*command(*arguments), "--json"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert result.returncode == status, result.stderr
    ours = "error: ", "note: "
    others = [line for line in result.stderr.splitlines() if not line.startswith(ours)]
    assert not others, others  # nothing of Ray's own
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def rows(directory: Path, table: str) -> list[dict[str, Any]]:
    """All rows of a table of a run, with the columns of its partitions."""
    import pyarrow.dataset as ds

    found = ds.dataset(directory / table, format="parquet", partitioning="hive")
    listed: list[dict[str, Any]] = found.to_table().to_pylist()
    return listed


def processes(word: str) -> list[int]:
    """The processes whose command has a word in it: Ray names its workers by what they do."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in line:
                found.append(int(entry.name))
    return found


def private_megabytes(pid: int) -> float:
    """Memory of a process and its descendants, without what is in files or shared memory."""
    parents, kilobytes = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                lines = (entry / "status").read_text().splitlines()
            except OSError:
                continue
            facts = dict(line.split(":", 1) for line in lines)
            parents[int(entry.name)] = int(facts["PPid"])
            kilobytes[int(entry.name)] = int(facts.get("RssAnon", "0").split()[0])
    total, generation = 0, [pid]
    while generation:
        total += sum(kilobytes.get(each, 0) for each in generation)
        generation = [child for child, parent in parents.items() if parent in generation]
    return total / 1024
