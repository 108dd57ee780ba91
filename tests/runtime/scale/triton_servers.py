"""Triton's server that nvidia-pytriton carries, on a model repository and without pytriton.

It has the Python backend alone. Models of the ONNX Runtime backend get a stand-in here, a model in
Python that runs the same file: what calls them is then the repository's own code.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STAND_IN = """
import json
from pathlib import Path
import onnxruntime
import triton_python_backend_utils as utils

class TritonPythonModel:
    def initialize(self, args):
        place = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(place, options, ["CPUExecutionProvider"])

    def execute(self, requests):
        answers = []
        for request in requests:
            names = [each.name for each in self.session.get_inputs()]
            tensors = {n: utils.get_input_tensor_by_name(request, n).as_numpy() for n in names}
            wanted = list(request.requested_output_names())
            found = self.session.run(wanted, tensors)
            answers.append(utils.InferenceResponse(
                [utils.Tensor(name, array) for name, array in zip(wanted, found)]
            ))
        return answers
"""


@dataclass(frozen=True)
class Ports:
    http: int
    grpc: int
    metrics: int


def free_ports() -> Ports:
    held = [socket.socket() for _ in range(3)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    numbers = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return Ports(*numbers)


def put_stand_ins(repository: Path) -> None:
    """Give every graph of a repository a model in Python in the place of its backend."""
    for config in repository.glob("*_graph_*/config.pbtxt"):
        text = config.read_text()
        assert 'backend: "onnxruntime"' in text
        text = text.replace('backend: "onnxruntime"', 'backend: "python"')
        text = re.sub(r"^model_warmup \{.*?^\}\n", "", text, flags=re.MULTILINE | re.DOTALL)
        config.write_text(text.replace("KIND_AUTO", "KIND_CPU"))
        (config.parent / "1" / "model.py").write_text(STAND_IN)
    for config in repository.glob("*/config.pbtxt"):
        config.write_text(config.read_text().replace("KIND_AUTO", "KIND_CPU"))


@contextmanager
def triton(repository: Path, workspace: Path) -> Iterator[Ports]:
    """The server on a repository, for the time of the block.

    Its Python is this one, with what is installed there: hyperstyle-rt among it.
    """
    import pytriton
    from pytriton.utils.distribution import get_libs_path, get_stub_path

    home = Path(pytriton.__file__).parent / "tritonserver"
    backends = workspace / "backends"
    shutil.copytree(home / "backends", backends)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    shutil.copy(get_stub_path(version), backends / "python" / "triton_python_backend_stub")
    libraries = [sysconfig.get_config_var("LIBDIR"), str(get_libs_path())]
    environment = os.environ | {
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    ports = free_ports()
    command = [
        home / "bin" / "tritonserver",
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
        f"--http-port={ports.http}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-port={ports.metrics}",
        f"--backend-config=python,shm-region-prefix-name=hsrt{os.getpid()}",
    ]
    log = workspace / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_until_ready(ports, process, log)
        yield ports
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(ports: Ports, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-4000:]
        if status(f"http://127.0.0.1:{ports.http}/v2/health/ready") == 200:
            return
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-4000:])


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except OSError:
        return 0
