"""What is said where ONNX Runtime or OpenCV is missing, as after an install without an extra."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "examples" / "portrait_0.png"
WITHOUT = """
import sys
sys.modules[sys.argv.pop(1)] = None  # as Python sees a module that is not there
from hyperstyle_rt.cli.app import main
main()
"""
SENTENCES = {
    "onnxruntime": "error: ONNX Runtime is not installed; pip install 'hyperstyle-rt[cpu]' for",
    "cv2": "error: OpenCV is not installed; pip install 'hyperstyle-rt[cpu]' for",
}


@pytest.mark.parametrize("module", SENTENCES)
@pytest.mark.parametrize(
    "words",
    [
        ("invert", PICTURE, "--out", "out.png"),
        ("align", PICTURE, "--out", "out.png"),
        ("interpolate", PICTURE, PICTURE, "--out", "out.gif"),
    ],
    ids=lambda words: words[0],
)
def test_commands_say_what_to_install(
    words: tuple[object, ...], module: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", WITHOUT, module, *map(str, words)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert " ".join(result.stderr.split()).startswith(SENTENCES[module])
    assert not list(tmp_path.iterdir())


def test_both_are_imported_in_one_place_each() -> None:
    # ONNX Runtime's home imports it by name, for it must set its environment first.
    homes = {"cv2": "opencv.py", "onnxruntime": "ort_library.py"}
    for path in (ROOT / "runtime" / "hyperstyle_rt").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        blocks = [node for node in nodes if isinstance(node, ast.If)]
        for_types = {
            id(statement)
            for block in blocks
            if ast.unparse(block.test) == "TYPE_CHECKING"
            for statement in block.body
        }
        for node in nodes:
            if isinstance(node, ast.Import) and id(node) not in for_types:
                for name in {alias.name for alias in node.names} & homes.keys():
                    assert path.name in (homes[name], "doctor.py"), path
