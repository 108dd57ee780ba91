"""Promises about the repository itself."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN_AT_RUN_TIME = {"torch", "onnx", "onnx_ir", "onnxscript", "PIL", "scipy", "jsonschema"}
# The decoders of the extra `heif`, imported only when such a file is met.
OF_AN_EXTRA = {"heif.py": {"PIL"}}
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("engines/**/*.md")]


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
