"""The service on a Ray cluster of this machine, until its standard input ends."""

from __future__ import annotations

import json
import sys

import ray
from hyperstyle_rt.scale.ray_serve import application
from ray import serve


def main(port: int, arguments: str) -> None:
    ray.init("local", num_cpus=2, object_store_memory=200 << 20, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(application(json.loads(arguments)), name="hyperstyle-rt", route_prefix="/")
    print("ready", flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
