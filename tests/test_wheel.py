"""The installed product: the wheel in an environment without torch and onnx."""

from __future__ import annotations

import ast
import json
import os
import re
import resource
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from email.parser import BytesParser
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hyperstyle_rt.backends.ort_providers import PLUG_INS
from hyperstyle_rt.photos.face_models import MODEL_DIGESTS
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "portrait_0.png"

# Distributions that bring one module and overwrite each other's files.
RUNTIMES = {"onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"}
OPENCVS = {f"opencv-{which}" for which in ("python", "contrib-python")}
OPENCVS |= {f"{name}-headless" for name in OPENCVS}

LIST_INSTALLED = """
import json
from importlib.metadata import packages_distributions
print(json.dumps(packages_distributions()))
"""
RUN_HOOK = """
import json, runpy
from importlib.metadata import entry_points
from pathlib import Path
(point,) = (e for e in entry_points(group="pyinstaller40") if e.module.startswith("hyperstyle_rt"))
(folder,) = point.load()()
hook = runpy.run_path(str(Path(folder, "hook-hyperstyle_rt.py")))
print(json.dumps([hook["hiddenimports"], hook["datas"], hook["OPTIONAL"]]))
"""


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
    venv.create(environment)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    # Bytecode of what is imported is compiled then; of all that is installed it would take longer.
    subprocess.run([*pip, "install", "--quiet", "--no-compile", f"{wheel}[cpu]"], check=True)
    return python.with_name("hyperstyle-rt")


def run(program: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program), *map(str, arguments)],
        cwd=cwd,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )


def clean_environment() -> dict[str, str]:
    """This process's, less what would show another Python this checkout."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MYPYPATH"))}


def test_the_wheel_carries_its_bundles_and_nothing_of_the_exporter(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("manifest.json", "encoder.onnx", "LICENSE", "README.md"):
        assert f"hyperstyle_rt/engines/portraits/{name}" in names
        assert f"hyperstyle_rt/engines/faces/{name}" in names
    assert "hyperstyle_rt/engines/faces/NOTICE" in names
    assert "hyperstyle_rt/formats/manifest.schema.json" in names
    assert "hyperstyle_rt/py.typed" in names
    for name in ("package.json", "page/browser.js", "src/worker.js"):  # of `serve --static`
        assert f"hyperstyle_rt/serving/web/{name}" in names
    for name in (*MODEL_DIGESTS, "README.md", "LICENSE-APACHE-2.0", "LICENSE-MIT"):
        assert f"hyperstyle_rt/photos/models/{name}" in names
    assert not [n for n in names if not n.startswith(("hyperstyle_rt/", "hyperstyle_rt-"))]


def test_invert_end_to_end_without_torch(program: Path, tmp_path: Path) -> None:
    python = program.with_name("python")
    for module in ("torch", "onnx", "PIL"):
        found = subprocess.run([str(python), "-c", f"import {module}"], capture_output=True)
        assert found.returncode != 0, f"{module} is installed"
    command = ("invert", EXAMPLE, "--bundle", "portraits", "-o", "out.png")
    result = run(program, *command, "--save-inversion", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (inversion,) = json.loads(result.stdout)["inversions"]
    assert inversion["iterations"] == 5
    assert {p.name for p in tmp_path.iterdir()} == {"out.png", "out.safetensors"}
    again = run(program, *command, cwd=tmp_path)
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


BARE = """
import typer
app = typer.Typer(rich_markup_mode="rich")
@app.command()
def one(): ...
@app.command()
def two(): ...
app(["--help"])
"""


def test_help_is_instant(program: Path, tmp_path: Path) -> None:
    """It takes at most twice what typer takes for a program that has nothing to say."""
    ours, bare = [], []
    for _ in range(8):  # by turns: whatever else the machine does slows both
        ours.append(processor_seconds(program, "--help", cwd=tmp_path))
        bare.append(processor_seconds(program.with_name("python"), "-c", BARE, cwd=tmp_path))
    assert min(ours) < 2 * min(bare)  # the first ones compile bytecode


def processor_seconds(command: Path, *arguments: str, cwd: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run(command, *arguments, cwd=cwd).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_a_user_s_program_passes_a_strict_type_checker(program: Path, tmp_path: Path) -> None:
    """The README's example; and one with a mistake, which shows that types are known."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "example.py").write_text(example)
    (tmp_path / "mistake.py").write_text(
        "from hyperstyle_rt import Model\n\n"
        'picture: str = Model.load().invert("face.png", iterations=3).image\n'
    )
    options = ["--strict", "--config-file=", "--python-executable", program.with_name("python")]
    command = [sys.executable, "-m", "mypy", *map(str, options), "example.py", "mistake.py"]
    result = subprocess.run(
        command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True
    )
    errors = [line for line in result.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, result.stdout + result.stderr
    assert errors[0].startswith("mistake.py:3:") and '"str"' in errors[0]


def requirements(wheel: Path, extra: str, environment: dict[str, str]) -> set[str]:
    """Names of what the wheel asks an installer for, with an extra or none."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        fields = BytesParser().parsebytes(archive.read(name))
    wanted = map(Requirement, fields.get_all("Requires-Dist", []))
    return {
        each.name
        for each in wanted
        if each.marker is None or each.marker.evaluate(environment | {"extra": extra})
    }


def machines() -> Iterator[dict[str, str]]:
    """Environments of the machines that the wheel is for, as markers see them."""
    systems = {"linux": "x86_64", "darwin": "arm64", "win32": "AMD64"}
    for (system, machine), minor in product(systems.items(), range(10, 14)):
        yield {
            "sys_platform": system,
            "platform_machine": machine,
            "python_version": f"3.{minor}",
            "python_full_version": f"3.{minor}.0",
        }


@pytest.mark.parametrize(
    ("extra", "runtimes", "opencvs"),
    [
        ("", set(), set()),  # whoever has builds of their own keeps them
        ("cpu", {"onnxruntime"}, {"opencv-python-headless"}),
        ("gpu", {"onnxruntime-gpu"}, {"opencv-python-headless"}),
        ("export", set(), set()),
        ("training", set(), set()),
        ("dev", set(), set()),
    ],
)
def test_no_extra_brings_two_builds_of_one_module(
    wheel: Path, extra: str, runtimes: set[str], opencvs: set[str]
) -> None:
    for machine in machines():
        wanted = requirements(wheel, extra, machine)
        assert "numpy" in wanted
        assert wanted & RUNTIMES == runtimes
        assert wanted & OPENCVS == opencvs


def test_what_is_installed_has_one_owner(program: Path, tmp_path: Path) -> None:
    result = run(program.with_name("python"), "-c", LIST_INSTALLED, cwd=tmp_path)
    owners: dict[str, list[str]] = json.loads(result.stdout)
    assert owners["onnxruntime"] == ["onnxruntime"]
    assert set(owners["cv2"]) == {"opencv-python-headless"}


@pytest.fixture(scope="module")
def hook(program: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """What PyInstaller's hook of the installed package gives: modules, files, optional modules."""
    pytest.importorskip("PyInstaller")
    (site,) = program.parents[1].glob("lib/python3*/site-packages")
    result = subprocess.run(
        [sys.executable, "-c", RUN_HOOK],
        env=clean_environment() | {"PYTHONPATH": str(site)},
        cwd=tmp_path_factory.mktemp("hook"),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return tuple(json.loads(result.stdout.splitlines()[-1]))


def test_a_frozen_app_gets_every_module_and_file(hook: tuple[Any, Any, Any], wheel: Path) -> None:
    modules, files, _ = hook
    names = [n for n in zipfile.ZipFile(wheel).namelist() if n.startswith("hyperstyle_rt/")]
    names = [n for n in names if "/_pyinstaller/" not in n and not n.endswith("py.typed")]
    code = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in names
        if name.endswith(".py")
    }
    assert code <= set(modules)
    data = {n for n in names if not n.endswith(".py")}
    assert {f"{target}/{Path(source).name}" for source, target in files} == data


def imported_by_name() -> Iterator[str]:
    """First part, or all, of the names that the runtime imports without an import statement."""
    for path in (ROOT / "runtime" / "hyperstyle_rt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            called = ast.unparse(node.func).rpartition(".")[2]
            (first, *_) = node.args
            if called not in ("import_module", "_import"):
                continue
            if isinstance(first, ast.JoinedStr):
                first = first.values[0]
            if isinstance(first, ast.Constant) and not str(first.value).startswith("."):
                yield str(first.value)


def test_a_frozen_app_gets_what_is_imported_by_name(hook: tuple[Any, Any, Any]) -> None:
    names = set(imported_by_name())
    assert {"tensorrt", "cuda.bindings.runtime"} <= names
    for name in names:
        assert any(known.startswith(name) for known in hook[2]), name


RUN_SOURCE_HOOK = """
import json, runpy, sys
hook = runpy.run_path(sys.argv[1])
print(json.dumps([hook["binaries"], hook["hiddenimports"], hook["WITH_LIBRARIES"]]))
"""


def test_a_frozen_app_gets_libraries_that_are_opened_by_their_file_names(tmp_path: Path) -> None:
    """OpenVINO's and the plug-ins' own, of which one is put in place: those of devices, readers."""
    pytest.importorskip("PyInstaller")
    package = tmp_path / "onnxruntime_ep_mlx"
    libraries = ["libmlx_plugin.so", "parts/libreader.so.2641", "libmetal.dylib", "device.dll"]
    for name in ["__init__.py", "notes.txt", "parts/__init__.py", *libraries]:
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    hook = ROOT / "runtime/hyperstyle_rt/_pyinstaller/hook-hyperstyle_rt.py"
    result = subprocess.run(
        [sys.executable, "-c", RUN_SOURCE_HOOK, str(hook)],
        env=clean_environment() | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / 'runtime'}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    binaries, modules, packages = json.loads(result.stdout.splitlines()[-1])
    assert set(packages) == {"openvino", *(plug_in.module for plug_in in PLUG_INS.values())}
    assert package.name in modules
    ours = {
        (Path(source), target) for source, target in binaries if target.startswith(package.name)
    }
    assert ours == {(package / name, str(Path(package.name, name).parent)) for name in libraries}
