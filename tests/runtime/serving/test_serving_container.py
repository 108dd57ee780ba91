"""The steps of examples/container/Dockerfile, in a new environment instead of a container."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from services import ROOT, TOKEN, await_health, free_port, invert

pytestmark = pytest.mark.slow

DOCKERFILE = ROOT / "examples" / "container" / "Dockerfile"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first stage makes, of the files alone that it copies."""
    text = DOCKERFILE.read_text("utf-8").replace("\\\n", " ")
    folder = tmp_path_factory.mktemp("container")
    source = folder / "source"
    source.mkdir()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        *names, target = line.split()
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / target)
            else:
                shutil.copy(ROOT / name, source / target)
    (extras,) = re.findall(r"'\.(\[[a-z,]+\])'", text)
    subprocess.run([sys.executable, "-m", "venv", folder / "opt"], check=True)
    pip = [folder / "opt" / "bin" / "pip", "install", "--quiet"]
    subprocess.run([*pip, f"{source}{extras}"], check=True)
    shutil.rmtree(source)
    return folder / "opt"


@pytest.fixture(scope="module")
def address(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the entry point serves, with nothing of this user's environment."""
    port = free_port()
    (entry,) = re.findall(r"^ENTRYPOINT (\[.+\])$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    program, *options = json.loads(entry)
    with subprocess.Popen(
        [environment / "bin" / program, *options, "--bundle", "portraits", "--port", str(port)],
        cwd="/",
        env={"HYPERSTYLE_RT_TOKEN": TOKEN, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"},
    ) as process:
        try:
            yield await_health(port, process)
        finally:
            process.terminate()
            assert process.wait(60) == 0


def test_one_command_opens_the_page(environment: Path, tmp_path: Path) -> None:
    """What the README says to a new user: install it, run `hyperstyle-rt serve`, open the page."""
    command = [environment / "bin" / "hyperstyle-rt", "serve", "--port", "0"]
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=home, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            found = next(filter(None, (re.search(r"http://127[.\d:]+", line) for line in lines)))
            with urlopen(f"{found[0]}/") as answer:
                assert answer.headers["content-type"].startswith("text/html")
                page = answer.read().decode()
            parts = re.findall(r'(?:src|href)="([\w./-]+\.(?:js|css|svg))"', page)
            assert {Path(part).suffix for part in parts} >= {".js", ".css"}
            for part in parts:
                with urlopen(f"{found[0]}/{part}") as answer:
                    assert answer.status == 200
            with urlopen(f"{found[0]}/v1/bundles") as answer:
                assert json.load(answer)[0]["directions"]
        finally:
            process.terminate()
            assert process.wait(60) == 0
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {".cache"}, "it writes nothing where it is started"


def test_it_inverts_for_those_with_the_token(address: str) -> None:
    with pytest.raises(HTTPError, match="401"):
        invert(address)
    assert invert(address, TOKEN)["state"] == "done"
