"""Two ways of computing a bundle, tensor by tensor: how far apart they are, and whether too far.

Every graph is compared on the reference's inputs, so that a fault shows where it is, and the whole
inversion on its own, so that what accumulates shows, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from ..backends.protocol import Backend
from ..backends.registry import open_backend
from ..errors import BackendError
from ..formats.bundle import Bundle
from ..formats.manifest import BASE_PRECISION, Manifest
from ..imaging.pictures import to_input, to_picture
from ..types import Array, Picture

PICTURE_PEAK = 2.0  # pictures are in [-1,1]

# What can be compared without torch: backend and precision.
DEVICES = ("cpu", "cuda", "tensorrt", "ort-tensorrt")
CONTENDERS = (*DEVICES, *(f"{device}-fp16" for device in DEVICES))


@dataclass(frozen=True)
class Bound:
    """How far a tensor may be from the reference's.

    Attributes
    ----------
    relative:
        Largest difference over the reference's largest magnitude.
    cosine:
        Smallest cosine of the angle between the two.
    psnr:
        Smallest peak signal-to-noise ratio in dB: peak 2 for pictures, else the reference's range.
    """

    relative: float
    cosine: float
    psnr: float


# One graph fed the reference's inputs, and whole inversions, which carry errors on. Measured on
# official-layout models with synthetic weights: fp32 within 1e-5, fp16 within 5e-3 and 59 dB.
BOUNDS = {
    ("fp32", "graph"): Bound(1e-4, 0.999999, 80.0),
    ("fp32", "inversion"): Bound(1e-3, 0.99999, 60.0),
    ("fp16", "graph"): Bound(8e-3, 0.9999, 50.0),
    ("fp16", "inversion"): Bound(5e-2, 0.999, 45.0),
}


@dataclass(frozen=True)
class Difference:
    """One tensor of the candidate against the reference's.

    Attributes
    ----------
    stage:
        Graph, or number of iterations of a whole inversion.
    tensor:
        Its name in the graphs.
    picture:
        Which picture, from 0.
    max_abs, mean_abs, relative, psnr, cosine:
        As in :class:`Bound`; the PSNR of equal tensors is infinite.
    within:
        Whether all are within the bounds; never for what is not finite.
    """

    stage: str
    tensor: str
    picture: int
    max_abs: float
    mean_abs: float
    relative: float
    psnr: float
    cosine: float
    within: bool


@dataclass(frozen=True)
class Comparison:
    """All differences between two contenders."""

    reference: str
    candidate: str
    differences: tuple[Difference, ...]

    def outside(self) -> list[Difference]:
        """List the differences out of bounds, the largest first."""
        failed = [d for d in self.differences if not d.within]
        return sorted(failed, key=lambda d: -d.relative if d.relative == d.relative else -math.inf)

    def worst(self) -> list[Difference]:
        """List the largest difference of every tensor at every stage, over all pictures."""
        found: dict[tuple[str, str], Difference] = {}
        for difference in self.differences:
            key = difference.stage, difference.tensor
            if key not in found or not difference.relative <= found[key].relative:
                found[key] = difference
        return list(found.values())

    def to_json(self) -> dict[str, Any]:
        """Make a JSON document; numbers that are not finite become null."""
        rows = [
            {
                k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in row.items()
            }
            for row in map(asdict, self.differences)
        ]
        return {
            "reference": self.reference,
            "candidate": self.candidate,
            "ok": not self.outside(),
            "bounds": {" ".join(key): asdict(bound) for key, bound in BOUNDS.items()},
            "differences": rows,
        }


class Contender(Protocol):
    """Something that computes a bundle's graphs on arrays; all float32."""

    name: str
    precision: str

    def latents(self, image: Array) -> Array:
        """Encoder: image [1,3,h,w] -> latents [1,L,W]."""
        ...

    def codes(self, image: Array, reconstruction: Array, codes_in: Array) -> Array:
        """Hypernet: accumulated codes [1,M,K+1]."""
        ...

    def weights(self, codes: Array) -> dict[str, Array]:
        """Weights [O,I,k,k] by tensor name; those of fp16 are normalised."""
        ...

    def generate(self, latents: Array, codes: Array) -> dict[str, Array]:
        """Generator with the contender's own weights: image, reconstruction."""
        ...


class BackendContender:
    """A backend as a contender."""

    def __init__(self, name: str, backend: Backend) -> None:
        self.name, self.precision = name, backend.precision
        self._backend = backend

    def latents(self, image: Array) -> Array:
        """Encoder."""
        return self._run("encoder", image=image)["latents"]

    def codes(self, image: Array, reconstruction: Array, codes_in: Array) -> Array:
        """Hypernet."""
        feeds = {"image": image, "reconstruction": reconstruction, "codes_in": codes_in}
        return self._run("hypernet", **feeds)["codes"]

    def weights(self, codes: Array) -> dict[str, Array]:
        """Weights."""
        return self._run("weights", codes=codes)

    def generate(self, latents: Array, codes: Array) -> dict[str, Array]:
        """Generator; the weights stay where the backend keeps them."""
        backend = self._backend
        weights = backend.run("weights", {"codes": backend.upload(codes)})
        made = backend.run("generator", {"latents": backend.upload(latents), **weights})
        return {name: backend.download(buffer) for name, buffer in made.items()}

    def _run(self, role: str, **inputs: Array) -> dict[str, Array]:
        buffers = {name: self._backend.upload(array) for name, array in inputs.items()}
        made = self._backend.run(role, buffers)
        return {name: self._backend.download(buffer) for name, buffer in made.items()}


def open_contender(name: str, bundle: Bundle, threads: int | None = None) -> Contender:
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
    device = name.removesuffix("-fp16")
    precision = BASE_PRECISION if device == name else "fp16"
    backend = open_backend(device, bundle, threads, precision)
    return BackendContender(name, backend)


def sample_picture(bundle: Bundle, seed: int) -> Picture:
    """Make a picture by the bundle itself, of a random face or, without mapping, the average one.

    Returns
    -------
    uint8 [h,w,3] in the size that encoder and hypernetwork read.
    """
    manifest, backend = bundle.manifest, open_backend("cpu", bundle, None)
    shape = (1, manifest.num_latents, manifest.style_width)
    average = bundle.latent_average()
    latents = np.zeros(shape, np.float32) if average is None else average[None]
    if "mapping" in manifest.graphs:
        z = np.random.default_rng(seed).standard_normal((1, manifest.style_width), np.float32)
        w = backend.download(backend.run("mapping", {"z": backend.upload(z)})["w"])
        latents = np.broadcast_to(w[:, None], shape)
    made = BackendContender("cpu", backend).generate(latents, _zero_codes(manifest))
    return to_picture(made["reconstruction"][0])


def compare(
    reference: Contender,
    candidate: Contender,
    manifest: Manifest,
    pictures: Sequence[Picture],
    iterations: int,
    on_progress: Callable[[str], None],
) -> Comparison:
    """Compare every graph on the reference's inputs, and inversions after 1 and all iterations.

    Parameters
    ----------
    pictures:
        uint8 [H,W,3] each.
    on_progress:
        Called with what is computed next.
    """
    precision = _coarsest(reference, candidate, manifest)
    scales = _channel_scales(reference.weights(_zero_codes(manifest)))
    differences = []
    for number, picture in enumerate(pictures):
        on_progress(f"picture {number}: graphs")
        image = to_input(picture, manifest.input_size)
        pairs = list(_graphs(reference, candidate, image, _zero_codes(manifest), scales))
        on_progress(f"picture {number}: inversions")
        runs = [
            _inversion(c, image, _zero_codes(manifest), iterations) for c in (reference, candidate)
        ]
        pairs += [
            (stage, name, expected, runs[1][stage][name])
            for stage, tensors in runs[0].items()
            for name, expected in tensors.items()
        ]
        for stage, name, expected, actual in pairs:
            bound = BOUNDS[precision, "inversion" if stage in runs[0] else "graph"]
            differences.append(_difference(stage, name, number, expected, actual, bound))
    return Comparison(reference.name, candidate.name, tuple(differences))


def _coarsest(reference: Contender, candidate: Contender, manifest: Manifest) -> str:
    """The precision whose bounds apply.

    Backends share the weights as the bundle stores them; anything else has them unrounded.
    """
    contenders = (reference, candidate)
    precisions = {contender.precision for contender in contenders}
    if not all(isinstance(contender, BackendContender) for contender in contenders):
        precisions |= {manifest.files[name].precision for name in manifest.graphs.values()}
    return "fp16" if "fp16" in precisions else "fp32"


def _graphs(
    reference: Contender,
    candidate: Contender,
    image: Array,
    codes: Array,
    scales: Mapping[str, Array],
) -> Iterator[tuple[str, str, Array, Array]]:
    """(graph, tensor, expected, actual) of every graph; the reference's tensors go in."""
    latents = reference.latents(image)
    yield "encoder", "latents", latents, candidate.latents(image)
    start = reference.generate(latents, codes)["reconstruction"]
    once = reference.codes(image, start, codes)
    yield "hypernet", "codes", once, candidate.codes(image, start, codes)
    expected = _plain(reference, reference.weights(once), scales)
    actual = _plain(candidate, candidate.weights(once), scales)
    for name in expected:
        yield "weights", name, expected[name], actual[name]
    expected, actual = (c.generate(latents, once) for c in (reference, candidate))
    for name in expected:
        yield "generator", name, expected[name], actual[name]


def _inversion(
    contender: Contender, image: Array, codes: Array, iterations: int
) -> dict[str, dict[str, Array]]:
    """Latents, codes and image after 1 and after all iterations."""
    latents, found = contender.latents(image), {}
    made = contender.generate(latents, codes)
    for iteration in range(1, iterations + 1):
        codes = contender.codes(image, made["reconstruction"], codes)
        made = contender.generate(latents, codes)
        if iteration in (1, iterations):
            stage = f"after {iteration}"
            found[stage] = {"latents": latents, "codes": codes, "image": made["image"]}
    return found


def _channel_scales(base: Mapping[str, Array]) -> dict[str, Array]:
    """What fp16 weights are divided by, from the weights without offsets: [O,1,1,1] each."""
    return {
        name: np.abs(weight).max(axis=(1, 2, 3), keepdims=True)
        * np.float32(math.sqrt(weight[0].size))
        for name, weight in base.items()
    }


def _plain(
    contender: Contender, weights: Mapping[str, Array], scales: Mapping[str, Array]
) -> dict[str, Array]:
    if contender.precision == BASE_PRECISION:
        return dict(weights)
    return {name: weight * scales[name] for name, weight in weights.items()}


def _difference(
    stage: str, tensor: str, picture: int, expected: Array, actual: Array, bound: Bound
) -> Difference:
    """Measure one tensor in double precision."""
    a, b = actual.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    with np.errstate(all="ignore"):  # whatever is not finite is out of bounds
        error = np.abs(a - b)
        relative = float(error.max() / max(np.abs(b).max(), 1e-30))
        squared = float(np.square(error).mean())
        picture_like = tensor in ("image", "reconstruction")
        peak = PICTURE_PEAK if picture_like else float(b.max() - b.min())
        psnr = math.inf if squared == 0 else float(10 * np.log10(peak**2 / squared))
        cosine = float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30))
    within = relative <= bound.relative and psnr >= bound.psnr and cosine >= bound.cosine
    return Difference(
        stage,
        tensor,
        picture,
        float(error.max()),
        float(error.mean()),
        relative,
        psnr,
        cosine,
        bool(within),
    )


def _zero_codes(manifest: Manifest) -> Array:
    return np.zeros((1, len(manifest.tuned_layers), manifest.code_width + 1), np.float32)
