"""Invert a picture and edit it on a Triton server, by HTTP or gRPC.

Needs ``tritonclient[http,grpc]`` and ``pillow``; README.md beside this shows commands.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from PIL import Image


def tensor(client: Any, name: str, array: Any, kind: str) -> Any:
    """An input of a request."""
    each = client.InferInput(name, list(array.shape), kind)
    each.set_data_from_numpy(array)
    return each


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture")
    parser.add_argument("out")
    parser.add_argument("--model", default="portraits", help="name of the bundle")
    parser.add_argument("--direction", default="smile")
    parser.add_argument("--amount", type=float, default=2.0)
    parser.add_argument("--url", default="127.0.0.1:8000")
    parser.add_argument("--grpc", action="store_true", help="the URL is that of gRPC")
    asked = parser.parse_args()
    if asked.grpc:
        import tritonclient.grpc as protocol
    else:
        import tritonclient.http as protocol
    client = protocol.InferenceServerClient(asked.url)

    picture = np.asarray(Image.open(asked.picture).convert("RGB"))
    found = client.infer(f"{asked.model}_invert", [tensor(protocol, "picture", picture, "UINT8")])
    inversion = found.as_numpy("inversion")
    print(f"latents {found.as_numpy('latents').shape}, inversion file {len(inversion[0])} bytes")

    edited = client.infer(
        f"{asked.model}_edit",
        [
            tensor(protocol, "inversion", inversion, "BYTES"),
            tensor(protocol, "directions", np.array([asked.direction.encode()], object), "BYTES"),
            tensor(protocol, "amounts", np.array([asked.amount], np.float32), "FP32"),
        ],
    )
    Image.fromarray(edited.as_numpy("rendering")).save(asked.out)


if __name__ == "__main__":
    main()
