"""Processors that a process may really use, on made-up trees of control groups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hyperstyle_rt.backends import processors
from hyperstyle_rt.backends.processors import Processors, cgroup_quota, find_processors

V2 = "30 23 0:26 {root} {mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "34 25 0:29 {root} {mount} rw shared:9 - cgroup cgroup rw,{controllers}"


def tree(root: Path, groups: str, mounts: list[str], files: dict[str, str]) -> Path:
    """A file system with what the kernel says of the process's groups and mounts."""
    files = {"proc/self/cgroup": groups, "proc/self/mountinfo": "\n".join(mounts), **files}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def unified(mount: str = "/sys/fs/cgroup", root: str = "/") -> str:
    return V2.format(root=root, mount=mount)


def legacy(controllers: str, mount: str, root: str = "/") -> str:
    return V1.format(root=root, mount=mount, controllers=controllers)


def test_version_2_in_a_container(tmp_path: Path) -> None:
    """With a namespace of its own, the container's group is the root it sees."""
    files = {"sys/fs/cgroup/cpu.max": "150000 100000"}
    assert cgroup_quota(tree(tmp_path, "0::/", [unified()], files)) == 1.5


def test_version_2_without_a_limit(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/a/cpu.max": "max 100000"}
    assert cgroup_quota(tree(tmp_path, "0::/a", [unified()], files)) is None


def test_the_tightest_group_above_counts(tmp_path: Path) -> None:
    """Kubernetes limits the pod and the container in it; systemd a slice and a unit."""
    files = {
        "sys/fs/cgroup/pods/cpu.max": "400000 100000",
        "sys/fs/cgroup/pods/one/cpu.max": "50000 100000",
        "sys/fs/cgroup/pods/one/box/cpu.max": "max 100000",
    }
    assert cgroup_quota(tree(tmp_path, "0::/pods/one/box", [unified()], files)) == 0.5


def test_groups_above_the_mounted_one_are_not_looked_for(tmp_path: Path) -> None:
    """What is mounted is the container's group; its path in /proc is the host's."""
    mounts = [unified(root="/docker/abc")]
    files = {
        "sys/fs/cgroup/cpu.max": "300000 100000",
        "sys/fs/cpu.max": "1000 100000",  # no control group
        "sys/fs/cgroup/inner/cpu.max": "200000 100000",
    }
    assert cgroup_quota(tree(tmp_path, "0::/docker/abc/inner", mounts, files)) == 2.0


@pytest.mark.parametrize("group", ["/elsewhere", "/../../elsewhere"])
def test_a_group_outside_the_mounted_one(group: str, tmp_path: Path) -> None:
    mounts = [unified(root="/docker/abc")]
    files = {"sys/fs/cgroup/cpu.max": "300000 100000"}
    assert cgroup_quota(tree(tmp_path, f"0::{group}", mounts, files)) == 3.0


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_version_1(controllers: str, tmp_path: Path) -> None:
    mounts = [
        legacy("cpuset", "/sys/fs/cgroup/cpuset"),
        legacy(controllers, "/sys/fs/cgroup/cpu", "/docker/abc"),
    ]
    groups = f"7:cpuset:/docker/abc\n3:{controllers}:/docker/abc\n1:name=systemd:/docker/abc"
    files = {
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpuset/cpu.cfs_quota_us": "1",
        "sys/fs/cgroup/cpuset/cpu.cfs_period_us": "100000",
    }
    assert cgroup_quota(tree(tmp_path, groups, mounts, files)) == 2.5


def test_version_1_without_a_limit(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    }
    mounts = [legacy("cpu", "/sys/fs/cgroup/cpu")]
    assert cgroup_quota(tree(tmp_path, "3:cpu:/", mounts, files)) is None


def test_both_versions_side_by_side(tmp_path: Path) -> None:
    """The hybrid layout of systemd: version 2 without controllers, version 1 with them."""
    mounts = [unified("/sys/fs/cgroup/unified"), legacy("cpu,cpuacct", "/sys/fs/cgroup/cpu")]
    files = {
        "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "100000",
        "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "50000",
    }
    groups = "4:cpu,cpuacct:/job\n0::/job"
    assert cgroup_quota(tree(tmp_path, groups, mounts, files)) == 2.0


def test_a_mount_point_with_blanks(tmp_path: Path) -> None:
    mounts = [unified(r"/my\040groups")]
    files = {"my groups/cpu.max": "100000 100000"}
    assert cgroup_quota(tree(tmp_path, "0::/", mounts, files)) == 1.0


@pytest.mark.parametrize(
    "text", ["", "max", "x 100000", "100000 0", "0 100000", "-1 100000", "1 2 3", "\x00"]
)
def test_what_cannot_be_read_limits_nothing(text: str, tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu.max": text}
    assert cgroup_quota(tree(tmp_path, "0::/", [unified(), "", "nonsense", "a - b"], files)) is None


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("allowed", "quota", "usable"),
    [(8, None, 8), (8, 2.0, 2), (8, 1.5, 2), (8, 0.5, 1), (2, 16.0, 2), (1, 0.01, 1)],
)
def test_what_binds_is_used(allowed: int, quota: float | None, usable: int) -> None:
    assert Processors(64, allowed, quota).usable == usable


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no such mask")
def test_the_affinity_of_the_process_is_asked_for() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from hyperstyle_rt.backends.processors import find_processors\n"
        "found = find_processors(); print(found.allowed, found.usable)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["1", "1"]


def test_the_count_of_newer_pythons_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`os.process_cpu_count` of Python 3.13, which PYTHON_CPU_COUNT sets."""
    monkeypatch.setattr(processors.os, "process_cpu_count", lambda: 3, raising=False)
    assert find_processors(tmp_path).usable == 3
