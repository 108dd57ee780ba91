"""The inversion loop: encoder, then hypernetwork and generator a few times over.

Paper 3.3, spec 3. All maths is in the bundle's graphs; this module chains them. The whole state of
an inversion is the latents and the offset codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backends import Array, Backend, LoopingBackend, open_backend
from .bundle import Bundle, find_bundle
from .errors import BundleError, HyperStyleError, InversionError
from .imaging import check_picture, read_picture, to_input, to_picture
from .inversion_file import InversionData, check_belongs, read_inversion, write_inversion
from .manifest import BASE_PRECISION, MAX_ITERATIONS

Picture = NDArray[np.uint8]

LARGEST_KEPT = 512
"""Resolution up to which the base weights, 94 MB, are kept: at 1024 memory is what is short."""

OnIteration = Callable[[int, Array, Array], None]
"""Called with (iteration from 1, reconstruction float32 [3,H,W], codes float32 [M,K+1])."""


@dataclass(frozen=True)
class Inversion:
    """A picture as latents and offset codes of one bundle.

    Attributes
    ----------
    data:
        What an inversion file holds.
    output:
        Reconstruction, float32 [3,H,W], about [-1,1], not clamped; None when read from a file.
    """

    data: InversionData
    output: Array | None = None

    @property
    def latents(self) -> Array:
        """w+ latents, float32 [L,W]."""
        return self.data.latents

    @property
    def codes(self) -> Array:
        """Accumulated offset codes, float32 [M,K+1]; the last column counts the iterations."""
        return self.data.codes

    @property
    def iterations(self) -> int:
        """How many iterations the codes sum up."""
        return self.data.iterations

    @property
    def image(self) -> Picture:
        """Reconstruction, uint8 [H,W,3] RGB, truncated as in the original.

        Raises
        ------
        InversionError
            If the inversion was read from a file: `model.render(inversion)` makes the picture.
        """
        if self.output is None:
            raise InversionError(
                "an inversion read from a file has no picture; make it with model.render(inversion)"
            )
        return to_picture(self.output)

    def save(self, path: str | Path) -> None:
        """Write an inversion file (.safetensors), replacing one of that name as a whole.

        Raises
        ------
        InversionError
            If the file cannot be written.
        """
        write_inversion(path, self.data, _latent_averages.get(self.data.bundle_digest))

    @classmethod
    def load(cls, path: str | Path) -> Inversion:
        """Read an inversion file.

        A file stores its latents relative to its bundle's average where it can: the bundle must
        have been opened in this process, or be found under its name.

        Raises
        ------
        InversionError
            If the file is missing, damaged, or of a bundle that is not at hand.
        """
        return cls(read_inversion(path, _latent_average_of))


_latent_averages: dict[str, Array] = {}
"""Bundle digest -> average latent [L,W] of the bundles opened in this process."""


def _latent_average_of(bundle_name: str, bundle_digest: str) -> Array | None:
    """The average latent of the bundle an inversion file names; None if it is not at hand."""
    if bundle_digest not in _latent_averages:
        try:
            bundle = Bundle.open(find_bundle(bundle_name))
        except BundleError:
            return None
        _remember_latent_average(bundle)
    return _latent_averages.get(bundle_digest)


def _remember_latent_average(bundle: Bundle) -> None:
    average = bundle.latent_average()
    if average is not None:
        _latent_averages[bundle.digest] = average


class HyperStyle:
    """A bundle opened on a backend.

    Not thread-safe: open one per thread.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self.backend = backend
        self._base_weights: dict[str, Any] | None = None
        _remember_latent_average(bundle)

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        backend: str = "auto",
        *,
        threads: int | None = None,
        precision: str = BASE_PRECISION,
    ) -> HyperStyle:
        """Open a bundle.

        Parameters
        ----------
        path:
            Directory or name of a bundle; None for the embedded default.
        backend:
            One of :data:`~hyperstyle_rt.backends.BACKENDS`.
        threads:
            CPU threads; None for ONNX Runtime's own choice.
        precision:
            ``fp32``, or ``fp16`` for a GPU if the bundle was built with it. On a CPU fp16 graphs
            are computed in float32 and save nothing.

        Raises
        ------
        BundleError
            If the bundle is missing, altered, or of another format version.
        BackendError
            If the backend is not usable on this machine.
        """
        bundle = Bundle.open(find_bundle(path))
        return cls(bundle, open_backend(backend, bundle, threads, precision))

    def invert(
        self,
        image: str | Path | Picture,
        iterations: int | None = None,
        until: float | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Inversion:
        """Invert an aligned picture.

        Parameters
        ----------
        image:
            Path of a picture, or uint8 [H,W,3] RGB of any size.
        iterations:
            Upper bound of hypernetwork iterations; None for the bundle's default, 0 for the
            encoder alone.
        until:
            Stop once the reconstruction moves by less than this between iterations (mean absolute
            difference on the [-1,1] scale); None to do all iterations.
        on_iteration:
            Called after every iteration.

        Raises
        ------
        PictureError
            If the picture cannot be read or used.
        """
        picture = check_picture(image) if isinstance(image, np.ndarray) else read_picture(image)
        count = self._check_iterations(iterations)
        if until is not None and not until >= 0:
            raise HyperStyleError(f"until must be a number of at least 0, not {until}")
        backend, manifest = self.backend, self.bundle.manifest
        x = backend.upload(to_input(picture, manifest.input_size))
        codes = backend.upload(self._zero_codes())
        if isinstance(backend, LoopingBackend) and on_iteration is None and until is None:
            made = backend.run_loop(x, codes, count)
            return self._inversion(made.latents, made.codes, made.image, count)
        latents = backend.run("encoder", {"image": x})["latents"]
        result = self._generate(latents, self._base(codes))
        done, before = 0, None
        while done < count:
            codes = backend.run(
                "hypernet",
                {"image": x, "reconstruction": result["reconstruction"], "codes_in": codes},
            )["codes"]
            result = self._generate(latents, self._weights(codes))
            done += 1
            if on_iteration is not None:
                on_iteration(done, backend.download(result["image"])[0], backend.download(codes)[0])
            if until is not None:
                now = backend.download(result["reconstruction"])
                if before is not None and float(np.abs(now - before).mean()) < until:
                    break
                before = now
        return self._inversion(latents, codes, result["image"], done)

    def _inversion(self, latents: Any, codes: Any, image: Any, iterations: int) -> Inversion:
        """Bring the buffers of an inversion to the host."""
        data = InversionData(
            latents=self.backend.download(latents)[0],
            codes=self.backend.download(codes)[0],
            iterations=iterations,
            bundle_name=self.bundle.manifest.name,
            bundle_digest=self.bundle.digest,
            transform=None,
        )
        return Inversion(data, self.backend.download(image)[0])

    def render(self, inversion: Inversion, latents: Array | None = None) -> Picture:
        """Render an inversion, or other latents with the weights of its face.

        Parameters
        ----------
        inversion:
            Made by this model or read from a file.
        latents:
            None for the inversion's own; float32 [L,W] or [N,L,W] for edits of it: the weights are
            expanded once for all of them.

        Returns
        -------
        uint8 [H,W,3], or [N,H,W,3] for a batch.

        Raises
        ------
        InversionError
            If the inversion belongs to another bundle, or the latents have another shape.
        """
        output = self.synthesise(inversion, latents)
        pictures = np.stack([to_picture(image) for image in output])
        return pictures if latents is not None and latents.ndim == 3 else pictures[0]

    def synthesise(self, inversion: Inversion, latents: Array | None = None) -> Array:
        """Like :meth:`render`, as float32 [N,3,H,W], about [-1,1] and not clamped."""
        check_belongs(inversion.data, self.bundle)
        manifest = self.bundle.manifest
        rows, width = manifest.num_latents, manifest.style_width
        batch = inversion.latents if latents is None else np.asarray(latents, np.float32)
        if batch.ndim not in (2, 3) or batch.shape[-2:] != (rows, width):
            raise InversionError(
                f"latents must be [{rows},{width}] or [N,{rows},{width}], not {list(batch.shape)}"
            )
        weights = self._weights(self.backend.upload(inversion.codes[None]))
        batch = batch.reshape(-1, rows, width)
        return self.backend.download(self._generate(self.backend.upload(batch), weights)["image"])

    def offsets(self, inversion: Inversion) -> dict[int, Array]:
        """Expand the accumulated weight offsets of an inversion, as the original defines them.

        Returns
        -------
        Offset index -> float32 [O,I,k,k]; the layer's weight is multiplied by 1 + offset.
        """
        check_belongs(inversion.data, self.bundle)
        backend = self.backend
        if backend.precision != BASE_PRECISION:  # half a weight is too coarse to divide by
            backend = open_backend("cpu", self.bundle, None)
        weights, base = (
            backend.run("weights", {"codes": backend.upload(codes)})
            for codes in (inversion.codes[None], self._zero_codes())
        )
        expanded = {}
        for layer in self.bundle.manifest.tuned_layers:
            name = f"weight.{layer.name}"
            tuned = backend.download(weights[name])
            expanded[layer.index] = tuned / backend.download(base[name]) - 1
        return expanded

    def map(self, z: Array) -> Array:
        """Mapping network: random vectors z [B,W] -> w [B,W], float32 (spec 4).

        Raises
        ------
        BundleError
            If the bundle was built without its mapping network.
        """
        z = np.asarray(z, np.float32)
        return self.backend.download(
            self.backend.run("mapping", {"z": self.backend.upload(z)})["w"]
        )

    def _generate(self, latents: Any, weights: dict[str, Any]) -> dict[str, Any]:
        return self.backend.run("generator", {"latents": latents, **weights})

    def _weights(self, codes: Any) -> dict[str, Any]:
        return self.backend.run("weights", {"codes": codes})

    def _base(self, zero_codes: Any) -> dict[str, Any]:
        """The weights without offsets, from which every inversion starts; kept where it fits."""
        weights = self._base_weights or self._weights(zero_codes)
        small = self.bundle.manifest.resolution <= LARGEST_KEPT
        if small and not isinstance(self.backend, LoopingBackend):  # it records its whole loop
            self._base_weights = weights
        return weights

    def _zero_codes(self) -> Array:
        manifest = self.bundle.manifest
        return np.zeros((1, len(manifest.tuned_layers), manifest.code_width + 1), np.float32)

    def _check_iterations(self, iterations: int | None) -> int:
        if iterations is None:
            return self.bundle.manifest.default_iterations
        if not 0 <= iterations <= MAX_ITERATIONS:
            raise HyperStyleError(
                f"iterations must be from 0 to {MAX_ITERATIONS}, not {iterations}"
            )
        return iterations
