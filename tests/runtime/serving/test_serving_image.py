"""examples/container/Dockerfile, built and run as it is, where this machine can.

There is no container registry in reach of many machines that run tests, so the base image is a
stand-in of the same name: Debian's own Python, installed by debootstrap. buildah builds and runs
with the isolation of a chroot, for which it needs no more than to be root in its own world; what
only a real runtime does (a read-only root, no capabilities, the health check's schedule) is not
shown.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
from services import ROOT, TOKEN, await_health, free_port, invert

DOCKERFILE = ROOT / "examples" / "container" / "Dockerfile"
SUITE = "trixie"  # its python3 is 3.13, too

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("buildah") and shutil.which("debootstrap") and os.geteuid() == 0),
        reason="buildah and debootstrap are not installed, or this is not root",
    ),
]


class Builder:
    """buildah, with all that it stores in one folder."""

    def __init__(self, folder: Path) -> None:
        places = ["--root", folder / "images", "--runroot", folder / "run"]
        self.command = ["buildah", "--storage-driver", "vfs", *map(str, places)]

    def __call__(self, *arguments: object) -> str:
        command = [*self.command, *map(str, arguments)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()


@pytest.fixture(scope="module")
def buildah() -> Iterator[Builder]:
    with tempfile.TemporaryDirectory() as folder:
        builder = Builder(Path(folder))
        base = Path(folder, "base")
        packages = "--include=python3,python3-venv,ca-certificates"
        subprocess.run(
            [
                "debootstrap",
                "--variant=minbase",
                "--no-check-gpg",
                packages,
                SUITE,
                base,
                _mirror(),
            ],
            check=True,
            capture_output=True,
        )
        (base / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        container = builder("from", "scratch")
        builder("add", "--quiet", container, base, "/")
        (name,) = set(re.findall(r"^FROM (\S+)", DOCKERFILE.read_text("utf-8"), re.MULTILINE))
        builder("commit", "--quiet", container, f"localhost/{name}")
        builder("rm", container)
        shutil.rmtree(base)
        yield builder


def _mirror() -> str:
    """Where this machine has its own packages from."""
    for path in sorted(Path("/etc/apt").rglob("*.sources")):
        if found := re.search(r"^URIs: *(\S+)", path.read_text("utf-8"), re.MULTILINE):
            return found[1]
    pytest.skip("no source of Debian's packages is known here")


@pytest.fixture(scope="module")
def container(buildah: Builder) -> str:
    settings = _pip_settings()
    variables = [f"--env={name}={value}" for name, value in settings.items()]
    mounts = [f"--volume={path}:{path}:ro" for path in _places(settings.values())]
    buildah(
        *("build", "--isolation", "chroot", "--pull-never", "--network", "host", *mounts),
        *(*variables, "-t", "hyperstyle-rt", "-f", DOCKERFILE, ROOT),
    )
    return buildah("from", "--pull-never", "localhost/hyperstyle-rt")


def _pip_settings() -> dict[str, str]:
    """This machine's settings of pip, as variables: where it finds packages."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    settings = re.findall(r"^[\w:]+\.([\w-]+)='(.*)'$", listed, re.MULTILINE)
    return {f"PIP_{key.upper().replace('-', '_')}": value for key, value in settings}


def _places(values: Iterable[str]) -> set[Path]:
    """Folders and files of this machine that settings name; of an index also what is beside it."""
    named = (word.removeprefix("file://") for value in values for word in value.split())
    paths = {Path(word) for word in named if word.startswith("/") and Path(word).exists()}
    return {path.parent if path.name == "simple" else path for path in paths}


@pytest.fixture(scope="module")
def address(buildah: Builder, container: str) -> Iterator[str]:
    """What the entry point serves, as the user of the image."""
    port = free_port()
    facts = json.loads(buildah("inspect", "--type", "image", "localhost/hyperstyle-rt"))
    config = facts["OCIv1"]["config"]
    command = [
        *(*buildah.command, "run", "--isolation", "chroot", "--user", config["User"]),
        *("--env", f"HYPERSTYLE_RT_TOKEN={TOKEN}", container, "--"),
        *(*config["Entrypoint"], "--bundle", "portraits", "--port", str(port)),
    ]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            yield await_health(port, process)
        finally:
            os.killpg(process.pid, 15)
            process.wait(60)


def test_it_serves_as_a_user_without_rights(buildah: Builder, container: str, address: str) -> None:
    inside = ("run", "--isolation", "chroot", "--user", "hyperstyle", container, "--", "/bin/sh")
    says = buildah(*inside, "-c", "id -u; touch /x 2>&1 || true; ls -ld /store")
    user, refused, store = says.splitlines()
    assert user == "10001"
    assert "Permission denied" in refused
    assert store.startswith("drwx------") and " hyperstyle " in store

    check = re.search(r'"(from urllib[^"]+)"', DOCKERFILE.read_text("utf-8"))
    assert check is not None
    port = address.rpartition(":")[2]
    healthy = check[1].replace(":8000", f":{port}")
    buildah(*inside[:-1], "python", "-c", healthy)  # raises where it fails

    with pytest.raises(HTTPError, match="401"):
        invert(address)
    assert invert(address, TOKEN)["state"] == "done"
