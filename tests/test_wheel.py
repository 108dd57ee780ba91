"""The installed product: the wheel in an environment without torch and onnx."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from hyperstyle_rt.photos.faces import MODEL_DIGESTS

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "portrait_0.png"
HELP_SECONDS = 0.4


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(directory)]
    subprocess.run([*command, str(ROOT)], check=True)
    (path,) = directory.glob("hyperstyle_rt-*.whl")
    return path


@pytest.fixture(scope="session")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script of a fresh environment with the wheel and its dependencies only."""
    environment = tmp_path_factory.mktemp("installed")
    venv.create(environment, with_pip=True)
    pip = [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(wheel)], check=True)
    return environment / "bin" / "hyperstyle-rt"


def run(program: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [str(program), *map(str, arguments)], cwd=cwd, env=clean, capture_output=True, text=True
    )


def test_the_wheel_carries_the_default_bundle_and_nothing_of_the_exporter(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("manifest.json", "encoder.onnx", "LICENSE", "README.md"):
        assert f"hyperstyle_rt/engines/portraits/{name}" in names
    assert "hyperstyle_rt/formats/manifest.schema.json" in names
    for name in (*MODEL_DIGESTS, "README.md", "LICENSE-APACHE-2.0", "LICENSE-MIT"):
        assert f"hyperstyle_rt/photos/models/{name}" in names
    assert not [n for n in names if not n.startswith(("hyperstyle_rt/", "hyperstyle_rt-"))]


def test_invert_end_to_end_without_torch(program: Path, tmp_path: Path) -> None:
    python = program.with_name("python")
    for module in ("torch", "onnx", "PIL"):
        found = subprocess.run([str(python), "-c", f"import {module}"], capture_output=True)
        assert found.returncode != 0, f"{module} is installed"
    result = run(
        program, "invert", EXAMPLE, "-o", "out.png", "--save-inversion", "--json", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    (inversion,) = json.loads(result.stdout)["inversions"]
    assert inversion["iterations"] == 5
    assert {p.name for p in tmp_path.iterdir()} == {"out.png", "out.safetensors"}
    again = run(program, "invert", EXAMPLE, "-o", "out.png", cwd=tmp_path)
    assert again.returncode == 2
    assert "out.png" in again.stderr


def test_doctor_finds_nothing_missing_on_the_cpu(program: Path, tmp_path: Path) -> None:
    result = run(program, "doctor", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_nothing_heavy_is_imported_for_help(program: Path, tmp_path: Path) -> None:
    python = program.with_name("python")
    result = subprocess.run(
        [str(python), "-X", "importtime", str(program), "invert", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines()}
    assert "hyperstyle_rt.cli" in imported
    assert not imported & {"torch", "onnx", "numpy", "cv2", "onnxruntime", "safetensors"}


def test_help_is_instant(program: Path, tmp_path: Path) -> None:
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run(program, "--help", cwd=tmp_path).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(seconds) < HELP_SECONDS  # the others compiled bytecode or shared the processor
