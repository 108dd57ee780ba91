"""Promises about the repository itself."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN_AT_RUN_TIME = {"torch", "onnx", "onnx_ir", "onnxscript", "PIL", "scipy", "jsonschema"}
# The decoders of the extra `heif`, imported only when such a file is met.
OF_AN_EXTRA = {"heif.py": {"PIL"}}
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("engines/**/*.md")]
COMMANDS = [*DOCUMENTS, *ROOT.glob("tools/**/*.md"), *ROOT.glob("tools/**/*.py")]
TOOLS = ROOT / "tools"

# In parts, so that this file names no host either.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("debian", "org"),
        ("ubuntu", "com"),
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("pytorch", "org/whl"),
        ("pypi", "nvidia", "com"),
        ("ngc", "nvidia", "com"),
        ("nvcr", "io"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("anaconda", "org"),
        ("prefix", "dev"),
        ("crates", "io"),
        ("golang", "org"),
        ("rubygems", "org"),
        ("maven", "org"),
        ("nuget", "org"),
        ("docker", "io"),
        ("docker", "com"),
        ("ghcr", "io"),
        ("quay", "io"),
        ("unpkg", "com"),
        ("jsdelivr", "net"),
    )
]


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "runtime").rglob("*.py")), ids=lambda p: p.name)
def test_the_runtime_imports_nothing_of_the_exporter(path: Path) -> None:
    forbidden = FORBIDDEN_AT_RUN_TIME | {"hyperstyle_export"}
    assert not _imports(path) & (forbidden - OF_AN_EXTRA.get(path.name, set()))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_in_documents_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target


def test_the_embedded_bundle_is_small_and_measured() -> None:
    bundle = ROOT / "engines" / "portraits"
    assert sum(f.stat().st_size for f in bundle.iterdir()) <= 40 << 20
    accuracy = json.loads((bundle / "manifest.json").read_text())["accuracy"]
    assert accuracy["image_psnr_db"] >= 40


def test_the_bundle_of_photographs_is_small_measured_and_says_whose_it_is() -> None:
    bundle = ROOT / "engines" / "faces"
    assert sum(f.stat().st_size for f in bundle.iterdir()) <= 60 << 20
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["accuracy"]["image_psnr_db"] >= 40
    assert manifest["license"] == "Apache-2.0"
    assert "Apache License" in (bundle / "LICENSE").read_text()
    notice = (bundle / "NOTICE").read_text()
    assert all(word in notice for word in ("random-face", "StyleGAN2", "LPIPS", "dlib"))
    for name, file in manifest["files"].items():
        assert (bundle / name).stat().st_size == file["bytes"], name


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def test_no_registry_s_host_is_written_anywhere() -> None:
    """Packages come from where a machine's own clients are set up to look for them."""
    host = re.compile("|".join(rf"(?<![\w-]){re.escape(name)}\b" for name in REGISTRIES), re.I)
    found = []
    for path in tracked_files():
        data = path.read_bytes() if path.is_file() else b""
        text = "" if b"\0" in data else data.decode(errors="replace")
        if any(name.lower() in text.lower() for name in REGISTRIES):  # sooner than by expressions
            found += [f"{path}: {line}" for line in text.splitlines() if host.search(line)]
    assert not found
    assert host.search("http://deb." + REGISTRIES[0] + "/debian"), "the test finds nothing"


@pytest.mark.parametrize("folder", ["export", "tools"])
def test_what_is_installed_does_not_patch_the_path(folder: str) -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / folder).rglob("*.py")}
    assert len(sources) > 30
    assert not [path for path, text in sources.items() if "sys.path" in text]


@pytest.mark.parametrize("path", COMMANDS, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_documents_name_what_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for module in re.findall(r"python -m ([\w.]+)", text):
        found = find_spec(module)
        if found is not None and found.submodule_search_locations is not None:
            found = find_spec(f"{module}.__main__")
        assert found is not None and found.origin, f"python -m {module}"
        text = Path(found.origin).read_text(encoding="utf-8").replace("'", '"')
        assert '__name__ == "__main__"' in text, module
    for script in re.findall(r"python ((?:export|tools|tests)/[\w/.]+)", text):
        target = ROOT / script.rstrip(".")
        assert target.is_file() or (target / "__main__.py").is_file(), f"python {script}"


def test_every_tool_is_in_the_index() -> None:
    """Every module of tools/ that can be run is a command in its README; all packages are named."""
    index = (TOOLS / "README.md").read_text(encoding="utf-8")
    for path in TOOLS.rglob("*.py"):
        name = path.relative_to(TOOLS)
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8"):
            module = ".".join(name.with_suffix("").parts).removesuffix(".__main__")
            commands = (f"python -m {module}`", f"python tools/{name}`", f"python tools/{module}`")
            assert any(command in index for command in commands), name
    for path in TOOLS.iterdir():
        if path.is_dir() and path.name != "__pycache__":
            assert re.search(rf"\b{path.name}\b", index), path.name


def test_every_test_file_has_a_name_of_its_own() -> None:
    """One process cannot import two of one name from folders that are no packages."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
