"""Load on the service: throughput, waiting times, memory, and a worker killed in the middle.

    pip install -e '.[cpu,serve,load]'
    python -m serving.load --requests 200 --concurrency 1,4,16
    python -m serving.load --bundle DIR --requests 2000 --concurrency 4
    python -m serving.load --requests 100 --concurrency 4 --workers 2 --kill
    python -m serving.load --requests 100 --concurrency 4 --workers 2 --threads 2 --ray

It starts `hyperstyle-rt serve` on this machine, or with --ray the same service on Ray Serve, and
Locust's users send it one picture after the other, each as soon as its last one is done. A user who
is told that the queue is full (429) waits as long as the answer says and sends the picture again;
that is counted, and no failure.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()  # before anything opens a socket; Locust would do it later

import argparse  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
import urllib.request  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager, suppress  # noqa: E402
from dataclasses import asdict, dataclass, field  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import psutil  # noqa: E402
from hyperstyle_rt.errors import HyperStyleError  # noqa: E402
from hyperstyle_rt.files import write_atomically  # noqa: E402
from locust import HttpUser, constant, task  # noqa: E402
from locust.env import Environment  # noqa: E402
from locust.exception import StopUser  # noqa: E402
from mistakes import check_place  # noqa: E402

PICTURE = Path(__file__).parents[2] / "examples" / "portrait_0.png"
WAITING = 8  # places in the queue: with 16 users some are refused
WORKER_NAMES = "spawn_main", "ServeReplica:hyperstyle-rt:Worker"
"""In the commands of workers, of `serve` and of Ray Serve."""

SETTLED = 0.2
"""Share of the requests after which memory is compared with that at the end."""


@dataclass
class Run:
    """What one number of users has met.

    Attributes
    ----------
    concurrency:
        Users at once.
    done, failed, refused:
        Requests that were answered with 201, with anything else, and with 429.
    per_second, median_ms, p95_ms:
        Of those that were answered with 201: how many, from the start of the first to the end of
        the last one; the whole time of each, from its sending.
    megabytes:
        Resident memory of the server and its workers, at every tenth of the requests.
    killed:
        Process id of the worker that was killed, where one was to be.
    """

    concurrency: int
    done: int = 0
    failed: int = 0
    refused: int = 0
    per_second: float = 0.0
    median_ms: float = 0.0
    p95_ms: float = 0.0
    megabytes: list[float] = field(default_factory=list)
    killed: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Memory at the end, beside that after the first fifth of the requests."""
        settled = self.megabytes[round(SETTLED * (len(self.megabytes) - 1))]
        return self.megabytes[-1] / settled


class Load:
    """One run: users who share a number of requests.

    Parameters
    ----------
    server:
        What is watched, and whose worker is killed.
    kill:
        Whether to kill a worker, without any warning, when half of the requests are done.
    """

    def __init__(
        self,
        server: psutil.Process,
        requests: int,
        concurrency: int,
        kill: bool,
        form: dict[str, str],
    ) -> None:
        self.form = form
        self.content = PICTURE.read_bytes()
        self._server = server
        self._requests = requests
        self._kill = kill
        self._begun = 0
        self._last = 0.0
        self.result = Run(concurrency)

    def take(self) -> None:
        """Take one of the requests; a user for whom there is none is done."""
        if self._begun == self._requests:
            raise StopUser
        self._begun += 1

    def count(self, status: int, text: str) -> None:
        """Count an answer."""
        result = self.result
        if status == 201:
            result.done += 1
            self._last = time.monotonic()
        else:
            result.failed += 1
            result.problems.append(f"{status}: {text[:200]}")
        ended = result.done + result.failed
        if ended % max(1, self._requests // 10) == 0:
            result.megabytes.append(_resident(self._server))
        if self._kill and ended == self._requests // 2:
            worker = _workers(self._server)[0]
            result.killed = worker.pid
            worker.kill()

    def run(self, address: str) -> Run:
        """Let the users work until all requests are done."""
        load = self

        class Inverting(HttpUser):  # type: ignore[misc]
            host = address
            wait_time = constant(0)

            @task  # type: ignore[untyped-decorator]
            def invert(self) -> None:
                load.take()
                while not self._sent():
                    pass

            def _sent(self) -> bool:
                with self.client.post(
                    "/v1/inversions",
                    files={"picture": load.content},
                    data=load.form,
                    catch_response=True,
                ) as answer:
                    if answer.status_code == 429:
                        load.result.refused += 1
                        answer.request_meta["name"] = "refused"
                        answer.success()
                        gevent.sleep(float(answer.headers["retry-after"]))
                        return False
                    load.count(answer.status_code, answer.text)
                    if answer.status_code == 201:
                        answer.success()
                    else:
                        answer.request_meta["name"] = "failed"
                    return True

        environment = Environment(user_classes=[Inverting])
        runner = environment.create_local_runner()
        began = time.monotonic()
        runner.start(self.result.concurrency, spawn_rate=self.result.concurrency)
        gevent.sleep(0.5)
        while runner.user_greenlets:
            gevent.sleep(0.1)
        if self.result.done:
            found = environment.stats.get("/v1/inversions", "POST")
            self.result.per_second = round(self.result.done / (self._last - began), 3)
            self.result.median_ms = found.get_response_time_percentile(0.5)
            self.result.p95_ms = found.get_response_time_percentile(0.95)
        runner.quit()
        return self.result


@contextmanager
def serving(bundle: str, workers: int, threads: int) -> Iterator[tuple[str, psutil.Process]]:
    """Start a service: its address, and its process."""
    command = [sys.executable, "-m", "hyperstyle_rt", "serve", "--port", "0", "--bundle", bundle]
    command += ["--workers", str(workers), "--threads", str(threads)]
    command += ["--max-waiting", str(WAITING)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"http://[\d.]+:\d+", line):
                    yield found[0], psutil.Process(process.pid)
                    break
            else:
                raise SystemExit("the service has ended; its message is above")
        finally:
            process.terminate()
        if process.wait(60) != 0:
            raise SystemExit(f"the service ended with {process.returncode}")


@contextmanager
def serving_on_ray(bundle: str, workers: int, threads: int) -> Iterator[tuple[str, psutil.Process]]:
    """Start the service on Ray Serve, on a cluster of this machine: its address, its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = {"bundle": bundle, "backend": "cpu", "waiting": WAITING}
    arguments |= {"workers": workers, "least_workers": workers, "threads": threads // workers}
    application = {
        "name": "hyperstyle-rt",
        "route_prefix": "/",
        "import_path": "hyperstyle_rt.scale.ray_serve:application",
        "args": arguments,
    }
    listening = {"host": "127.0.0.1", "port": port}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "serve.yaml"  # JSON is YAML
        config.write_text(
            json.dumps({"http_options": listening, "applications": [application]}), "utf-8"
        )
        command = [sys.executable, "-m", "ray.serve.scripts", "run", str(config)]
        environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                address = f"http://127.0.0.1:{port}"
                _wait_until_ready(address, process)
                yield address, psutil.Process(process.pid)
            finally:
                process.send_signal(signal.SIGINT)


def _wait_until_ready(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=10):
            return
        time.sleep(0.2)
    raise SystemExit("the service on Ray Serve does not start; try `serve run`, which says why")


def _workers(server: psutil.Process) -> list[psutil.Process]:
    """The workers that live; one that was killed may still be listed."""
    found = []
    for child in server.children(recursive=True):
        with suppress(psutil.Error):
            if any(name in word for word in child.cmdline() for name in WORKER_NAMES):
                found.append(child)
    return found


def _resident(server: psutil.Process) -> float:
    """Megabytes of the server and its workers."""
    total = 0
    for process in (server, *_workers(server)):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return round(total / 1e6, 1)


def table(runs: list[Run]) -> str:
    """The runs as Markdown; rates and times, and beside them how many times those of the first."""
    first = runs[0]
    columns = "users", "done", "failed", "refused (429)", "pictures a second", "median", "95 %"
    lines = [f"| {' | '.join((*columns, 'memory'))} |", "|---" * (len(columns) + 1) + "|"]
    for run in runs:
        cells: list[Any] = [run.concurrency, run.done, run.failed, run.refused]
        if run.done:
            cells.append(f"{run.per_second:.2f}{_times(run.per_second, first.per_second)}")
            for each in (run.median_ms, run.p95_ms):
                cells.append(f"{each / 1e3:.2f} s{_times(each, first.median_ms)}")
        else:
            cells += ["-"] * 3
        cells.append(f"{run.growth:.3f} x" if len(run.megabytes) > 1 else "-")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _times(value: float, first: float) -> str:
    """How many times the first run's it is; nothing where that one has done nothing."""
    return f" ({value / first:.2f} x)" if first else ""


def positive(text: str) -> int:
    """Read a number from 1 up; ArgumentTypeError if it is none."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)


def user_counts(text: str) -> list[int]:
    """Read ``1,4,16``."""
    return [positive(part) for part in text.split(",")]


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", default="portraits")
    parser.add_argument("--requests", type=positive, default=200)
    parser.add_argument(
        "--concurrency", type=user_counts, default="1,4,16", help="numbers of users, with commas"
    )
    parser.add_argument("--workers", type=positive, default=1)
    parser.add_argument("--threads", type=positive, default=1, help="of all workers together")
    parser.add_argument("--iterations", type=int, help="of every inversion; the method's own")
    parser.add_argument("--ray", action="store_true", help="the service on Ray Serve")
    parser.add_argument("--then", help="preset that follows; none for no gradient steps")
    parser.add_argument("--kill", action="store_true", help="kill a worker halfway")
    parser.add_argument("--out", type=Path, help="file for the figures, JSON")
    options = parser.parse_args()
    if options.out is not None:
        try:
            check_place(options.out)
        except HyperStyleError as error:
            parser.error(str(error))
    logging.getLogger("locust").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without ending the service
    asked = {"iterations": options.iterations, "then": options.then}
    form = {name: str(value) for name, value in asked.items() if value is not None}
    runs: list[Run] = []
    start = serving_on_ray if options.ray else serving
    with start(options.bundle, options.workers, options.threads) as (address, server):
        for concurrency in options.concurrency:
            load = Load(server, options.requests, concurrency, options.kill, form)
            runs.append(load.run(address))
            if options.out is not None:
                text = json.dumps([asdict(run) for run in runs], indent=2)
                write_atomically(options.out, text.encode(), HyperStyleError)
            print(json.dumps(asdict(runs[-1])), flush=True)
    print(table(runs))
    if any(run.failed for run in runs):
        sys.exit(1)


if __name__ == "__main__":
    main()
