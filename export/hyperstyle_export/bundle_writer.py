"""Reference networks -> an engine bundle on disk, measured against them (design 3)."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import reason, write_atomically
from hyperstyle_rt.files import sha256 as sha256
from hyperstyle_rt.formats import strict_json
from hyperstyle_rt.formats.bundle import LATENT_AVERAGE_NAME, MANIFEST_NAME, Bundle
from hyperstyle_rt.formats.fields import PLAIN_NAME, is_plain_name
from hyperstyle_rt.formats.manifest import FORMAT, BundleFile, Manifest, TunedLayer
from safetensors.numpy import save

from .graphs import GRAPHS, REFINEMENT_GRAPHS, save_model
from .graphs.builder import to_array
from .graphs.generator import optional_inputs
from .graphs.sharing import save_sharing
from .graphs.storage import Storage, store_weights
from .networks.hyperstyle import HyperStyle

OnProgress = Callable[[str], None]
"""Called with what is done next, e.g. "weights graph"."""

GraphWriter = Callable[[HyperStyle], ir.Model]

DEFAULT_ITERATIONS = 5
BY_HAND = ("LICENSE", "README.md")  # a rebuild keeps them
UNLISTED = (MANIFEST_NAME, *BY_HAND)


class BuildError(HyperStyleError):
    """A bundle that cannot be written, or does not compute what its reference computes."""


@dataclass(frozen=True)
class BundleFacts:
    """What a manifest says beyond the networks' shapes.

    Raises
    ------
    BuildError
        On construction, if a manifest may not say it.
    """

    name: str
    domain: str = "unknown"
    license: str = "unknown"
    provenance: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] | None = None
    iterations: int = DEFAULT_ITERATIONS

    def __post_init__(self) -> None:
        if not is_plain_name(self.name):
            raise BuildError(f"a bundle cannot be named {self.name!r}; give --name {PLAIN_NAME}.")
        if not self.domain or not self.license:
            raise BuildError("domain and license must not be empty; leave them out if unknown.")


@contextmanager
def staged(out: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary directory beside `out` that takes its place if the block succeeds.

    Raises
    ------
    BuildError
        If `out` is anything but absent, an empty directory, or a bundle that is to be overwritten;
        if it cannot be written.
    """
    out = out.resolve()
    stage = out.parent / f".{out.name}.{uuid.uuid4().hex}.part"
    try:
        _check_free(out, overwrite)
        stage.mkdir(parents=True)
        yield stage
        _put_in_place(stage, out)
    except OSError as error:
        raise BuildError(f"cannot write {out}: {reason(error)}.") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _check_free(out: Path, overwrite: bool) -> None:
    """Refuse an `out` that must not be replaced: nothing but a bundle is ever removed."""
    if not out.exists():
        return
    if not out.is_dir():
        raise BuildError(f"{out} is no directory; name another --out.")
    if not any(out.iterdir()):
        return
    if not _is_bundle(out):
        raise BuildError(f"{out} holds something other than a bundle; name another --out.")
    if not overwrite:
        raise BuildError(f"{out} exists; name another --out, or replace it with --force.")


def _is_bundle(directory: Path) -> bool:
    """Whether a manifest of our format lies there, of whatever version and state."""
    try:
        document = strict_json.parse((directory / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def _put_in_place(stage: Path, out: Path) -> None:
    """Rename `stage` to `out`; what was there is removed after that, but for what is `BY_HAND`."""
    if not out.exists():
        stage.rename(out)
        return
    for name in BY_HAND:
        if (out / name).is_file() and not (stage / name).exists():
            shutil.copy2(out / name, stage / name)
    retired = stage.with_suffix(".old")
    out.rename(retired)
    try:
        stage.rename(out)
    except OSError:
        retired.rename(out)
        raise
    shutil.rmtree(retired)


def write_bundle(
    model: HyperStyle,
    directory: Path,
    facts: BundleFacts,
    storage: Storage,
    on_progress: OnProgress,
    refinement_graphs: Mapping[str, GraphWriter] = REFINEMENT_GRAPHS,
) -> Bundle:
    """Write all graphs, the average latent and a manifest (without measured accuracy).

    Parameters
    ----------
    directory:
        An existing directory; usually a staged one.
    storage:
        Type the weights are stored in; all arithmetic stays in float32.
    refinement_graphs:
        Role -> builder; :func:`~.graphs.refinement_graphs_with` gives those with LPIPS.
    """
    graphs = {}
    for role, build in GRAPHS.items():
        on_progress(f"{role} graph")
        graph = _stored(build(model), storage)
        save_model(graph, directory / f"{role}.onnx")
        graphs[role] = f"{role}.onnx"
    saved = [directory / name for name in graphs.values()]
    refinement = {}
    for role, build in refinement_graphs.items():
        on_progress(f"{role} graph")
        save_sharing(_stored(build(model), storage), directory / f"{role}.onnx", saved)
        refinement[role] = f"{role}.onnx"
        saved.append(directory / f"{role}.onnx")
    average = {"latent_average": to_array(model.latent_avg)}
    (directory / LATENT_AVERAGE_NAME).write_bytes(save(average))
    on_progress("digests")
    write_manifest(directory, _manifest(model, directory, facts, storage, graphs, refinement))
    return Bundle.open(directory)


def _stored(graph: ir.Model, storage: Storage) -> ir.Model:
    try:
        return store_weights(graph, storage)
    except ValueError as error:
        raise BuildError(f"{error}; use --storage fp32.") from error


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write manifest.json into a bundle's directory, replacing one that is there."""
    text = json.dumps(manifest.to_json(), indent=2, allow_nan=False)
    write_atomically(directory / MANIFEST_NAME, f"{text}\n".encode(), BuildError)


def _manifest(
    model: HyperStyle,
    directory: Path,
    facts: BundleFacts,
    storage: Storage,
    graphs: Mapping[str, str],
    refinement: Mapping[str, str],
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
            path.name: BundleFile(
                sha256(path),
                path.stat().st_size,
                "fp32" if path.name == LATENT_AVERAGE_NAME else storage,
            )
            for path in sorted(directory.iterdir())
            if path.name not in UNLISTED
        },
        accuracy={},
        training=facts.training,
        optional_inputs=optional_inputs(model),
        refinement=refinement,
    )
