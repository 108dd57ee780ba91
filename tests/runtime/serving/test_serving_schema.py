"""Requests of Schemathesis by the service's own OpenAPI document: none ends in a fault.

pip install schemathesis  # in an environment of its own: it is no part of `dev`
SCHEMATHESIS=.../bin/schemathesis pytest -s -m slow tests/runtime/serving/test_serving_schema.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from services import ROOT, await_health, free_port, invert

SCHEMATHESIS = shutil.which(os.environ.get("SCHEMATHESIS", "schemathesis"))
HOOKS = Path(__file__).parent / "programs"
CHECKS = "not_a_server_error", "content_type_conformance", "response_schema_conformance"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SCHEMATHESIS is None, reason="schemathesis is not installed"),
]


def test_no_described_request_ends_in_a_fault(tmp_path: Path) -> None:
    port = free_port()
    serve = [sys.executable, "-m", "hyperstyle_rt", "serve", "--bundle", "portraits", "--quiet"]
    serve += ["--port", str(port), "--threads", "1", "--keep", "5000"]  # what is known stays
    with subprocess.Popen(serve) as process:
        try:
            address = await_health(port, process)
            known = invert(address)["id"]
            with urlopen(f"{address}/v1/inversions/{known}/file") as answer:
                (tmp_path / "file").write_bytes(answer.read())
            assert SCHEMATHESIS is not None
            command = [SCHEMATHESIS, "run", f"{address}/openapi.json", "--seed", "0", "--no-color"]
            command += ["--checks", ",".join(CHECKS), "--max-examples", "40", "--no-shrink"]
            command += ["--continue-on-failure", "--generation-database", "none"]
            variables = {
                "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
                "PYTHONPATH": str(HOOKS),
                "PICTURE": str(ROOT / "examples" / "portrait_0.png"),
                "KNOWN_ID": known,
                "KNOWN_FILE": str(tmp_path / "file"),
            }
            done = subprocess.run(
                command, cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True
            )
            print(done.stdout)
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
            with urlopen(f"{address}/v1/inversions/{known}/picture") as answer:
                assert answer.status == 200, "the service goes on"
        finally:
            process.terminate()
            assert process.wait(60) == 0
