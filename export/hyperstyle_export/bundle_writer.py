"""Reference networks -> an engine bundle on disk, measured against them (design 3)."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperstyle_rt.bundle import LATENT_AVERAGE_NAME, MANIFEST_NAME, Bundle
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.manifest import BundleFile, Manifest, TunedLayer
from safetensors.numpy import save

from .graphs import GRAPHS, save_model
from .graphs.builder import to_array
from .graphs.storage import Storage, store_weights
from .networks.hyperstyle import HyperStyle

OnProgress = Callable[[str], None]
"""Called with what is done next, e.g. "weights graph"."""

DEFAULT_ITERATIONS = 5
UNLISTED = (MANIFEST_NAME, "LICENSE", "README.md")


class BuildError(HyperStyleError):
    """A bundle that cannot be written, or does not compute what its reference computes."""


@dataclass(frozen=True)
class BundleFacts:
    """What a manifest says beyond the networks' shapes."""

    name: str
    domain: str = "unknown"
    license: str = "unknown"
    provenance: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] | None = None
    iterations: int = DEFAULT_ITERATIONS


@contextmanager
def staged(out: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary directory beside `out` that replaces it if the block succeeds.

    Raises
    ------
    BuildError
        If `out` holds something and is not to be overwritten.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not overwrite):
        raise BuildError(f"{out} exists; name another --out, or replace it with --force.")
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield stage
        stage.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        stage.rename(out)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_bundle(
    model: HyperStyle,
    directory: Path,
    facts: BundleFacts,
    storage: Storage,
    on_progress: OnProgress,
) -> Bundle:
    """Write all graphs, the average latent and a manifest (without measured accuracy).

    Parameters
    ----------
    directory:
        An existing directory; usually a staged one.
    storage:
        Type the weights are stored in; all arithmetic stays in float32.
    """
    graphs = {}
    for role, build in GRAPHS.items():
        on_progress(f"{role} graph")
        graph = store_weights(build(model), storage)
        save_model(graph, directory / f"{role}.onnx")
        graphs[role] = f"{role}.onnx"
    average = {"latent_average": to_array(model.latent_avg)}
    (directory / LATENT_AVERAGE_NAME).write_bytes(save(average))
    on_progress("digests")
    write_manifest(directory, _manifest(model, directory, facts, storage, graphs))
    return Bundle.open(directory)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write manifest.json into a bundle's directory."""
    text = json.dumps(manifest.to_json(), indent=2, allow_nan=False)
    (directory / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def _manifest(
    model: HyperStyle,
    directory: Path,
    facts: BundleFacts,
    storage: Storage,
    graphs: Mapping[str, str],
) -> Manifest:
    config = model.config
    return Manifest(
        name=facts.name,
        domain=facts.domain,
        license=facts.license,
        provenance=facts.provenance,
        resolution=config.generator.resolution,
        image_size=config.image_size,
        input_size=config.input_size,
        crop_rows=config.crop_rows,
        num_latents=config.generator.num_latents,
        style_width=config.generator.style_width,
        code_width=config.hypernetwork.code_width,
        default_iterations=facts.iterations,
        tuned_layers=tuple(
            TunedLayer(spec.index, spec.name, spec.weight_shape) for spec in config.tuned
        ),
        graphs=graphs,
        files={
            path.name: BundleFile(sha256(path), path.stat().st_size, storage)
            for path in sorted(directory.iterdir())
            if path.name not in UNLISTED
        },
        accuracy={},
        training=facts.training,
    )


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
