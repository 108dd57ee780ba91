"""Reference networks -> an engine bundle on disk (docs/architecture.md, section 3)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir
from hyperstyle_rt.files import reason, write_atomically
from hyperstyle_rt.files import sha256 as sha256
from hyperstyle_rt.formats.bundle import (
    LATENT_AVERAGE_NAME,
    MANIFEST_NAME,
    MAX_MANIFEST_SIZE,
    Bundle,
)
from hyperstyle_rt.formats.fields import PLAIN_NAME, is_plain_name
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.formats.manifest_entries import BundleFile, CodeLayout, GraphFile, TunedLayer
from hyperstyle_rt.formats.methods import Method
from hyperstyle_rt.formats.parametric_inputs import ObjectiveFacts
from hyperstyle_rt.temporaries import replacing
from safetensors.numpy import save
from torch import Tensor

from ..graphs.builder import save_model, to_array
from ..graphs.costs import total_work
from ..graphs.perceptual import perceptual_term
from ..graphs.sharing import external_tensors, save_sharing
from ..graphs.storage import Storage, store_weights
from ..graphs.stored_inputs import optional_inputs, parametric_inputs
from ..methods import (
    DEFAULT_ITERATIONS,
    METHODS,
    RENDERING_GRAPHS,
    GraphWriter,
    bundle_methods,
    method_entries,
    sharing_graphs,
)
from ..networks.encoder_method import EncoderMethod
from ..networks.hyperstyle import HyperStyle
from ..networks.lpips import Lpips
from .spaces import code_space, generator_space
from .staging import BuildError

OnProgress = Callable[[str], None]
"""Called with what is done next, e.g. "weights graph"."""

MAX_TRAINING_SIZE = MAX_MANIFEST_SIZE // 2
"""Bytes of a manifest that are left to the facts of a training."""


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
        for name, text in (("domain", self.domain), ("license", self.license)):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise BuildError(f"{name} {text!r} is no UTF-8; give it in UTF-8.") from None
        size = len(json.dumps({"training": self.training}, indent=2))  # as a manifest has them
        if size > MAX_TRAINING_SIZE:
            raise BuildError(
                f"the training facts take {size:,} bytes of the manifest, and may take "
                f"{MAX_TRAINING_SIZE:,}; give fewer."
            )


class GraphFiles:
    """The graphs of a bundle as they are written, one after the other.

    Attributes
    ----------
    directory:
        Where they are written.
    graphs:
        Role to graph, of what has been written.
    files:
        Name to file, of the same.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.graphs: dict[str, GraphFile] = {}
        self.files: dict[str, BundleFile] = {}

    def write(self, role: str, model: ir.Model, name: str, stored: str) -> None:
        """Write a graph with a data file of its own, if its tensors are large.

        Parameters
        ----------
        name:
            Of the file, without ``.onnx``.
        stored:
            Type of the tensors on disk.
        """
        path = self.directory / f"{name}.onnx"
        self._list(role, path, save_model(model, path), stored)

    def write_sharing(
        self,
        role: str,
        model: ir.Model,
        name: str,
        stored: str,
        others: Iterable[str],
        offers: bool = False,
    ) -> None:
        """Write a graph that reads from the data files of `others` what it has in common with them.

        Parameters
        ----------
        others:
            Roles of graphs that have been written.
        offers:
            Whether one that is written later reads what is this one's own.
        """
        path = self.directory / f"{name}.onnx"
        saved = [self.directory / self.graphs[other].file for other in others]
        self._list(role, path, save_sharing(model, path, saved, offers), stored)

    def _list(self, role: str, path: Path, written: Iterable[Path], stored: str) -> None:
        for file in written:
            self.files[file.name] = BundleFile(sha256(file), file.stat().st_size, stored)
        self.graphs[role] = graph_file(path)


def graph_file(path: Path) -> GraphFile:
    """What a manifest says of a graph that is written, its cost included."""
    work = total_work(path)
    return GraphFile(path.name, data_files(path), work.macs, work.size)


def data_files(path: Path) -> tuple[str, ...]:
    """Names of the files beside a graph that it reads tensors from."""
    return tuple(sorted({str(tensor.location) for tensor in external_tensors(path)}))


def write_bundle(
    model: HyperStyle,
    directory: Path,
    facts: BundleFacts,
    storage: Storage,
    on_progress: OnProgress,
    lpips: Lpips | None = None,
    encoders: Mapping[str, EncoderMethod] | None = None,
) -> Bundle:
    """Write all graphs, the average latent and a manifest (without measured accuracy).

    A model that has no hypernetwork makes a bundle without codes: its kernels are in the generator.

    Parameters
    ----------
    directory:
        An existing directory; usually a staged one.
    storage:
        Type the weights are stored in; all arithmetic stays in float32.
    lpips:
        The objective's perceptual term; None for the encoder's features.
    encoders:
        Method to encoder, of those that invert into the same generator.
    """
    written, encoders = GraphFiles(directory), encoders or {}
    entries = method_entries(model, encoders)
    for role, build in _own_graphs(model).items():
        on_progress(f"{role} graph")
        written.write(role, stored_graph(partial(build, model), storage), role, storage)
    added = {role: build for name in encoders for role, build in entries[name].graphs.items()}
    for role, build in {**added, **sharing_graphs(model, lpips)}.items():
        on_progress(f"{role} graph")
        graph = stored_graph(partial(build, model), storage)
        written.write_sharing(role, graph, role, storage, list(written.graphs))
    written.files |= write_average(directory, model.latent_avg)
    on_progress("digests")
    methods = bundle_methods(model, encoders, facts.iterations)
    manifest = _manifest(model, written, facts, methods)
    if "objective" in written.graphs:
        term = perceptual_term(model, lpips)
        manifest = replace(manifest, objective=ObjectiveFacts(term.network, term.weight))
    write_manifest(directory, manifest)
    return Bundle.open(directory)


def _own_graphs(model: HyperStyle) -> dict[str, GraphWriter]:
    """The graphs of a model that are written with data files of their own."""
    graphs = dict(RENDERING_GRAPHS)
    if not model.config.tuned:
        del graphs["weights"]
    if not model.has_hypernetwork:
        return graphs
    return {role: build for entry in METHODS.values() for role, build in entry.graphs.items()} | (
        graphs
    )


def write_average(directory: Path, average: Tensor) -> dict[str, BundleFile]:
    """Write the average latent [L,W]; gives the file by its name."""
    path = directory / LATENT_AVERAGE_NAME
    path.write_bytes(save({"latent_average": to_array(average.contiguous())}))
    return {path.name: BundleFile(sha256(path), path.stat().st_size, "fp32")}


def stored_graph(build: Callable[[], ir.Model], storage: Storage) -> ir.Model:
    """Build a graph, with its weights in the type they are stored in.

    Raises
    ------
    BuildError
        If a weight is too large for it.
    """
    try:
        return store_weights(build(), storage)
    except ValueError as error:
        raise BuildError(f"{error}; use --storage fp32.") from error


def add_file(bundle: Bundle, name: str, data: bytes) -> None:
    """Write a file into a bundle and list it; one of the same name is replaced.

    The space that inversions are tied to stays the same.

    Raises
    ------
    BuildError
        If it cannot be written.
    """
    listed = BundleFile(hashlib.sha256(data).hexdigest(), len(data), "fp32")
    files = {**bundle.manifest.files, name: listed}
    text = manifest_text(replace(bundle.manifest, files=files))
    path = bundle.directory / MANIFEST_NAME
    try:
        with replacing(path) as manifest:  # a full disk leaves both as they were
            manifest.write_bytes(text)
            write_atomically(bundle.directory / name, data, BuildError)
    except OSError as error:
        raise BuildError(f"cannot write {path}: {reason(error)}") from error


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write manifest.json into a bundle's directory, replacing one that is there.

    Raises
    ------
    BuildError
        If it cannot be written, or is larger than those that are read.
    """
    write_atomically(directory / MANIFEST_NAME, manifest_text(manifest), BuildError)


def manifest_text(manifest: Manifest) -> bytes:
    """A manifest as its file has it; raises BuildError if it is larger than those that are read."""
    data = f"{json.dumps(manifest.to_json(), indent=2, allow_nan=False)}\n".encode()
    if len(data) > MAX_MANIFEST_SIZE:
        raise BuildError(
            f"the bundle's manifest would have {len(data):,} bytes, of which {MAX_MANIFEST_SIZE:,} "
            "are read; give fewer facts of its training."
        )
    return data


def _manifest(
    model: HyperStyle, written: GraphFiles, facts: BundleFacts, methods: Mapping[str, Method]
) -> Manifest:
    config = model.config
    codes = None
    if model.has_hypernetwork:
        codes = CodeLayout(config.hypernetwork.code_width + 1, code_space(model))
    return Manifest(
        name=facts.name,
        domain=facts.domain,
        license=facts.license,
        provenance=facts.provenance,
        space=generator_space(model),
        resolution=config.generator.resolution,
        image_size=config.image_size,
        input_size=config.input_size,
        crop_rows=config.crop_rows,
        num_latents=config.generator.num_latents,
        latent_width=config.generator.style_width,
        codes=codes,
        tuned_layers=tuple(
            TunedLayer(spec.index, spec.name, spec.weight_shape) for spec in config.tuned
        ),
        graphs=written.graphs,
        files=dict(sorted(written.files.items())),
        accuracy={},
        training=facts.training,
        methods=methods,
        default_method=next(iter(methods)),
        optional_inputs=optional_inputs(model),
        parametric_inputs=(
            parametric_inputs(model) if "parametric_generator" in written.graphs else None
        ),
    )
