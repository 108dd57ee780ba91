"""Write the generator of one inversion, with all that the inversion changes, as a bundle.

Kernels of codes and channel offsets, free weights, noise and features become constants of the
graphs `generator` and `styled_generator`; the methods that find latents stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.protocol import Backend
from ..backends.registry import open_backend
from ..errors import BundleError, HyperStyleError
from ..files import reason, sha256, write_atomically
from ..formats.bundle import (
    DATA_SUFFIX,
    LATENT_AVERAGE_NAME,
    LATENT_SAMPLES_NAME,
    MANIFEST_NAME,
    Bundle,
)
from ..formats.directions_file import DIRECTIONS_NAME
from ..formats.fields import PLAIN_NAME, is_plain_name
from ..formats.inversion_file import InversionData
from ..formats.manifest import BASE_PRECISION, TUNED_FROM, Manifest
from ..formats.manifest_entries import BundleFile, GraphFile
from ..formats.methods import Method
from ..free_inputs import FEATURE_OFFSET, NOISE, PARAMETRIC_GENERATOR, Free
from ..rendering import CODES, GENERATOR, STYLE_OFFSETS, STYLED_GENERATOR, Renderer
from ..types import Array
from .constants import DataFile, bind_inputs, constant_graph, inputs_and_outputs
from .directories import appearing

MAPPING = "mapping"
ENCODER = "encoder"  # what is left of a method whose further phases find codes
PREFIX = "tuned_"  # of the files; a copied graph may read from the untuned generator's
DATA_NAME = f"{PREFIX}{GENERATOR}.onnx{DATA_SUFFIX}"
BESIDE = ("LICENSE", "NOTICE")  # what holds for the new bundle, too
STORED = "fp32"

LARGEST_DIFFERENCE = 2e-3
"""Of pixels in [-1,1], between the inversion's rendering and the new bundle's."""


@dataclass(frozen=True)
class Tuned:
    """What is exported.

    Attributes
    ----------
    bundle, renderer, backend:
        That render the inversion.
    data:
        The inversion.
    rendering:
        float32 [3,H,W], its rendering.
    """

    bundle: Bundle
    renderer: Renderer
    backend: Backend
    data: InversionData
    rendering: Array


def export_tuned(tuned: Tuned, directory: Path, name: str | None, overwrite: bool) -> InversionData:
    """Write the bundle, and compare what it renders with the inversion's rendering.

    Returns
    -------
    The inversion in terms of the new bundle: its latents alone.

    Raises
    ------
    BundleError
        If the bundle has no method that finds latents, the directory cannot be written to or is
        the bundle's own, or the new bundle renders something else.
    BundleError, HyperStyleError
        As :func:`check_exportable`.
    """
    check_exportable(tuned.bundle, tuned.backend)
    manifest = tuned.bundle.manifest
    name = _bundle_name(name, directory, manifest)
    if os.path.realpath(directory) == os.path.realpath(tuned.bundle.directory):
        raise BundleError(f"{directory} is the bundle to export from; give another directory")
    with appearing(directory, overwrite) as staged:
        try:
            exported = _write(tuned, staged, name)
        except ValueError as error:
            raise BundleError(
                f"a graph of bundle {manifest.name!r} cannot be read ({error}); build it again"
            ) from None
        data = replace(
            tuned.data,
            codes=None,
            code_space=None,
            channel_offsets=None,
            noise=None,
            weights=None,
            features=None,
            space=exported.manifest.space,
            bundle_name=name,
        )
        difference = float(np.abs(_rendering(exported, data) - tuned.rendering).max())
        if not difference <= LARGEST_DIFFERENCE:
            raise BundleError(
                f"the exported generator differs by {difference:.2g} from the inversion's "
                f"rendering; build bundle {manifest.name!r} again"
            )
        measured = replace(exported.manifest, accuracy={"rendering_max_abs": difference})
        _write_manifest(staged, measured)
        return replace(data, bundle_digest=exported.digest)


def check_exportable(bundle: Bundle, backend: Backend) -> None:
    """Refuse a bundle or backend that no tuned generator can be exported from.

    Raises
    ------
    BundleError
        If the bundle has no parametric generator, or was exported so itself.
    HyperStyleError
        If its graphs are not computed in float32.
    """
    if backend.graph_precision != BASE_PRECISION:
        raise HyperStyleError(
            f"to export a generator needs {BASE_PRECISION} graphs, not {backend.graph_precision}; "
            f"open the bundle with --precision {BASE_PRECISION}"
        )
    manifest = bundle.manifest
    if manifest.is_tuned:
        raise BundleError(
            f"bundle {manifest.name!r} was exported from an inversion itself; export from the "
            "bundle it was exported from"
        )
    if manifest.parametric_inputs is None:
        remedy = "build it again with this version"
        if manifest.codes is None:  # whatever version builds it
            remedy = "bundles of HyperStyle have it, and of photographs with --refine-lpips"
        raise BundleError(
            f"bundle {manifest.name!r} has no graph {PARAMETRIC_GENERATOR}, from which a tuned "
            f"generator is made; {remedy}"
        )


def _bundle_name(name: str | None, directory: Path, manifest: Manifest) -> str:
    if name is None:
        name = directory.absolute().name
        return name if is_plain_name(name) else f"{manifest.name}-tuned"
    if not is_plain_name(name):
        raise BundleError(f"a bundle cannot be named {name!r}; give {PLAIN_NAME}")
    return name


def _write(tuned: Tuned, directory: Path, name: str) -> Bundle:
    """Write all files and a manifest without accuracy."""
    manifest = tuned.bundle.manifest
    methods, default = _methods_of_latents(tuned.bundle)
    constants, noise = _constants(tuned)
    files = DataFile(DATA_NAME)
    graphs, listed = _generators(tuned, directory, constants, noise, files)
    kept = {phase.graph for method in methods.values() for phase in method.phases}
    kept |= {MAPPING} & manifest.graphs.keys()
    for role in sorted(kept):
        graph = manifest.graphs[role]
        _copy(tuned.bundle, [graph.file, *graph.data], directory, listed)
        graphs[role] = graph
    kept_files = (LATENT_AVERAGE_NAME, LATENT_SAMPLES_NAME, DIRECTIONS_NAME)
    others = [name for name in kept_files if name in manifest.files]
    _copy(tuned.bundle, others, directory, listed)
    for beside in BESIDE:
        if (tuned.bundle.directory / beside).is_file():
            shutil.copyfile(tuned.bundle.directory / beside, directory / beside)
    exported = replace(
        manifest,
        name=name,
        provenance={**manifest.provenance, **_provenance(tuned)},
        space=_space(manifest, constants | noise),
        codes=None,
        tuned_layers=(),
        graphs=graphs,
        files=listed,
        accuracy={},
        training=None,
        methods=methods,
        default_method=default,
        precisions={},
        plans={},
        parametric_inputs=None,
        objective=None,
        then=None,
        fit=None,
    )
    _write_manifest(directory, exported)
    return Bundle.open(directory)


def _constants(tuned: Tuned) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the inversion makes of parameters and features; and of the noise maps."""
    renderer, backend, data = tuned.renderer, tuned.backend, tuned.data
    free = Free.of(data)
    offsets = None if data.channel_offsets is None else data.channel_offsets.astype(np.float32)
    stored = renderer.free.parameters(renderer.kernels(data.codes, offsets))
    changed = renderer.free.changed_parameters(stored, free.weights)
    constants = {name: backend.download(value) for name, value in changed.items()}
    nothing = np.zeros((1, 1, 1, 1), np.float32)
    constants[FEATURE_OFFSET] = nothing if free.features is None else free.features[None]
    maps = renderer.free.noise(free.noise)
    return constants, {name: backend.download(value) for name, value in maps.items()}


def _generators(
    tuned: Tuned,
    directory: Path,
    constants: Mapping[str, Array],
    noise: Mapping[str, Array],
    file: DataFile,
) -> tuple[dict[str, GraphFile], dict[str, BundleFile]]:
    """Write the graphs that render, and the data file that they share."""
    width = tuned.renderer.require_optional_inputs().style_channels
    unstyled = {STYLE_OFFSETS: np.zeros((1, width), np.float32)}
    general = tuned.bundle.graph(PARAMETRIC_GENERATOR)
    models = {
        GENERATOR: bind_inputs(
            general.model, {**constants, **noise, **unstyled}, general.data, file
        ),
        STYLED_GENERATOR: bind_inputs(general.model, constants, general.data, file),
    }
    if NOISE in tuned.bundle.manifest.graphs:
        models[NOISE] = constant_graph(noise, file)
    macs = tuned.bundle.manifest.graphs[PARAMETRIC_GENERATOR].macs
    listed = {}
    for role, model in models.items():
        path = directory / f"{PREFIX}{role}.onnx"
        write_atomically(path, model, BundleError)
        listed[path.name] = _listed(path)
    write_atomically(directory / file.name, bytes(file.content), BundleError)
    listed[file.name] = _listed(directory / file.name)
    graphs = {
        role: GraphFile(f"{PREFIX}{role}.onnx", (file.name,), None if role == NOISE else macs)
        for role in models
    }
    return graphs, listed


def _methods_of_latents(bundle: Bundle) -> tuple[dict[str, Method], str]:
    """The methods without the phases that find codes, and the default one.

    Of a method that is cut short the rest is called :data:`ENCODER`.
    """
    manifest, kept = bundle.manifest, dict[str, Method]()
    renamed: dict[str, str] = {}
    for name, method in manifest.methods.items():
        phases = []
        for phase in method.phases:
            inputs, outputs = inputs_and_outputs(bundle.graph(phase.graph).model)
            if CODES in inputs or any(output.startswith(CODES) for output in outputs):
                break
            phases.append(phase)
        if not phases:
            continue
        whole = len(phases) == len(method.phases)
        called = name if whole else ENCODER if len(phases) == 1 else f"{name}-{ENCODER}"
        if called in kept and kept[called].phases != tuple(phases):
            called = f"{name}-{ENCODER}"
        kept[called] = replace(method, phases=tuple(phases))
        renamed[name] = called
    if not kept:
        raise BundleError(
            f"bundle {manifest.name!r} has no method that finds latents alone, so the exported one "
            "could not invert; export from a bundle with an encoder"
        )
    return kept, renamed.get(manifest.default_method or "", next(iter(kept)))


def _provenance(tuned: Tuned) -> dict[str, str]:
    """Whose generator it was, and what was done with it."""
    data, manifest = tuned.data, tuned.bundle.manifest
    settings: dict[str, Any] = dict(data.settings)
    return {
        TUNED_FROM: f"{manifest.name} space:{manifest.space} digest:{tuned.bundle.digest}",
        "tuned_by": data.method,
        "tuned_settings": json.dumps(settings, sort_keys=True),
        "tuned_to": "unknown" if data.picture is None else f"picture sha256:{data.picture}",
    }


def _space(manifest: Manifest, constants: Mapping[str, Array]) -> str:
    """Identity of a tuned generator (docs/formats.md, section 1)."""
    digest = hashlib.sha256(json.dumps({"base": manifest.space}, separators=(",", ":")).encode())
    for name in sorted(constants):
        array = constants[name]
        digest.update(f"\n{name} {list(array.shape)}\n".encode())
        digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    return digest.hexdigest()


def _rendering(bundle: Bundle, data: InversionData) -> Array:
    """What the new bundle renders, on this machine's processor."""
    backend = open_backend("cpu", bundle, None)
    try:
        renderer = Renderer(bundle.manifest, backend)
        return next(renderer.renderings(data.latents[None], {}))
    finally:
        backend.close()


def _copy(bundle: Bundle, names: list[str], directory: Path, listed: dict[str, BundleFile]) -> None:
    for name in names:
        if name in listed:
            continue
        try:
            shutil.copyfile(bundle.verified_file(name), directory / name)
        except OSError as error:
            raise BundleError(f"cannot write {directory / name}: {reason(error)}") from None
        listed[name] = bundle.manifest.files[name]


def _listed(path: Path) -> BundleFile:
    return BundleFile(sha256(path), path.stat().st_size, STORED)


def _write_manifest(directory: Path, manifest: Manifest) -> None:
    text = json.dumps(manifest.to_json(), indent=2) + "\n"
    write_atomically(directory / MANIFEST_NAME, text.encode(), BundleError)
