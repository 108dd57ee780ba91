"""Two ways of computing a bundle, tensor by tensor.

Every graph that a method runs is compared on the reference's inputs, so that a fault shows where it
is, and whole inversions, each on its own, so that what accumulates shows, too. The method runs as
for a user: there is one loop.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..backends.protocol import Backend, asked_precision
from ..backends.registry import BACKENDS, PRECISIONS, open_backend
from ..errors import BackendError, BundleError
from ..formats.bundle import Bundle
from ..formats.manifest import BASE_PRECISION
from ..imaging.pictures import to_picture
from ..model import Model
from ..optimising.names import FAST
from ..rendering import CODES, LATENTS, RECONSTRUCTION, RENDERING, Renderer
from ..types import Array, Picture
from .differences import BOUNDS, Comparison, Difference, measure, worst_of
from .shadowing import ShadowedBackend

MAPPING = "mapping"

# What can be compared without torch: name -> backend and precision.
CONTENDERS = {
    entry.name if precision == BASE_PRECISION else f"{entry.name}-{precision}": (
        entry.name,
        precision,
    )
    for precision in dict.fromkeys(p for entry in BACKENDS for p in entry.precisions)
    for entry in BACKENDS
    if precision in entry.precisions
}


@dataclass(frozen=True)
class Contender:
    """A way of computing a bundle's graphs.

    Attributes
    ----------
    name:
        For people.
    backend:
        What runs the graphs.
    has_stored_weights:
        Whether it computes with the weights as the bundle stores them, rounded where they are.
    """

    name: str
    backend: Backend
    has_stored_weights: bool = True


def open_contender(
    name: str, bundle: Bundle, threads: int | None = None, device: int | None = None
) -> Contender:
    """Open one of :data:`CONTENDERS`.

    Raises
    ------
    BackendError
        If there is no such contender, or it is not usable here.
    BundleError
        If the bundle has no graphs of its precision.
    """
    if name not in CONTENDERS:
        raise BackendError(f"there is no {name!r} to compare; choose among {', '.join(CONTENDERS)}")
    backend, precision = CONTENDERS[name]
    return Contender(name, open_backend(backend, bundle, threads, precision, device))


def contenders_at_hand(bundle: Bundle) -> list[str]:
    """Those of :data:`CONTENDERS` that this machine and the bundle have.

    A backend that is offered may still fail when a graph is opened.
    """
    found = []
    for name in CONTENDERS:
        with contextlib.suppress(BackendError, BundleError):
            open_contender(name, bundle).backend.close()
            found.append(name)
    return found


def sample_picture(bundle: Bundle, seed: int) -> Picture:
    """Make a picture by the bundle itself, of random latents or, without mapping, the average.

    Returns
    -------
    uint8 [h,w,3] in the size that the bundle's networks look at.

    Raises
    ------
    BundleError, BackendError
        If a graph is missing or altered, or the CPU cannot be used.
    """
    manifest, backend = bundle.manifest, open_backend("cpu", bundle, None)
    shape = (1, manifest.num_latents, manifest.latent_width)
    average = bundle.latent_average()
    latents = np.zeros(shape, np.float32) if average is None else average[None]
    if MAPPING in manifest.graphs:
        width = backend.signature(MAPPING).inputs["z"].shape[1]
        z = np.random.default_rng(seed).standard_normal((1, width or 1), np.float32)
        w = backend.download(backend.run(MAPPING, {"z": backend.upload(z)})["w"])
        rows = w.reshape(1, -1, shape[2])  # one for all layers, or one for each
        latents = np.ascontiguousarray(np.broadcast_to(rows, shape))
    renderer = Renderer(manifest, backend)
    rendered = renderer.render(backend.upload(latents), renderer.base_kernels())
    picture = to_picture(backend.download(rendered[RECONSTRUCTION])[0])
    backend.close()
    return picture


def compare(
    reference: Contender,
    candidate: Contender,
    bundle: Bundle,
    pictures: Sequence[Picture],
    iterations: int | None,
    on_progress: Callable[[str], None],
    *,
    method: str | None = None,
) -> Comparison:
    """Compare every graph of a method on the reference's inputs, and whole inversions.

    Parameters
    ----------
    pictures:
        uint8 [H,W,3] each, aligned.
    iterations:
        Of the whole inversions, after the first of which is compared as well; None for the
        method's own number, and for a method that does not iterate.
    on_progress:
        Called with what is computed next.
    method:
        By name; None for the bundle's default.

    Raises
    ------
    BundleError
        If the bundle has no such method.
    BackendError
        If a graph cannot be run.
    """
    precision = _coarsest(reference, candidate, bundle)
    differences: list[Difference] = []
    for number, picture in enumerate(pictures):
        on_progress(f"picture {number}: graphs")
        differences += worst_of(_graphs(reference, candidate, bundle, number, picture, method))
        on_progress(f"picture {number}: inversions")
        bound = BOUNDS[precision, "inversion"]
        runs = [
            _inversions(contender, bundle, picture, iterations, method)
            for contender in (reference, candidate)
        ]
        for stage, tensors in runs[0].items():
            differences += [
                measure(stage, name, number, expected, runs[1][stage][name], bound)
                for name, expected in tensors.items()
            ]
    return Comparison(reference.name, candidate.name, tuple(differences))


def _coarsest(reference: Contender, candidate: Contender, bundle: Bundle) -> str:
    """The precision whose bounds apply."""
    contenders = (reference, candidate)
    precisions = {asked_precision(contender.backend) for contender in contenders}
    if not all(contender.has_stored_weights for contender in contenders):
        manifest = bundle.manifest
        names = {name for graph in manifest.graphs.values() for name in (graph.file, *graph.data)}
        precisions |= {manifest.files[name].stored for name in names}
    return max(precisions, key=PRECISIONS.index)


def _graphs(
    reference: Contender,
    candidate: Contender,
    bundle: Bundle,
    number: int,
    picture: Picture,
    method: str | None,
) -> Iterator[Difference]:
    """Differences of all outputs of all graphs that one iteration of the method runs."""
    bound = BOUNDS[_coarsest(reference, candidate, bundle), "graph"]
    found: list[Difference] = []

    def on_graph(role: str, name: str, expected: Array, actual: Array) -> None:
        found.append(measure(role, name, number, expected, actual, bound))

    scales = _channel_scales(bundle, reference, candidate)
    shadowed = ShadowedBackend(reference.backend, candidate.backend, on_graph, scales)
    count = 1 if bundle.manifest.method(method).iterating_phase is not None else None
    Model(bundle, shadowed).invert(picture, count, method=method, align="never", effort=FAST)
    yield from found


def _inversions(
    contender: Contender,
    bundle: Bundle,
    picture: Picture,
    iterations: int | None,
    method: str | None,
) -> dict[str, dict[str, Array]]:
    """Stage -> what is found, after 1 and after all iterations, or once where none are done."""
    chosen = bundle.manifest.method(method)
    counts: dict[str, int | None] = {"inversion": None}
    if chosen.iterating_phase is not None:
        last = chosen.iterations if iterations is None else iterations
        counts = {f"after {count}": count for count in (1, last)}
    model = Model(bundle, contender.backend)
    found = {}
    for stage, count in counts.items():
        inversion = model.invert(picture, count, method=method, align="never", effort=FAST)
        tensors = {LATENTS: inversion.latents, CODES: inversion.codes, RENDERING: inversion.output}
        found[stage] = {name: array for name, array in tensors.items() if array is not None}
    return found


def _channel_scales(bundle: Bundle, reference: Contender, candidate: Contender) -> dict[str, Array]:
    """What fp16 graphs divide kernels by, from those without offsets: [O,1,1,1] each."""
    for contender in (reference, candidate):
        backend = contender.backend
        if backend.graph_precision == BASE_PRECISION:
            kernels = Renderer(bundle.manifest, backend).base_kernels()
            return {name: _channel_scale(backend.download(k)) for name, k in kernels.items()}
    return {}  # both have the same types


def _channel_scale(kernel: Array) -> Array:
    largest = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True)
    return np.asarray(largest * np.float32(math.sqrt(kernel[0].size)), np.float32)
