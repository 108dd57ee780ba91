"""The inversion loop: encoder, then hypernetwork and generator a few times over.

Paper 3.3, spec 3. All maths is in the bundle's graphs; this module chains them. The whole state of
an inversion is the latents and the offset codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backends.protocol import Backend, LoopingBackend
from .backends.registry import open_backend
from .editing.blending import Blend, Edited, edit_latents, linear, linear_additions
from .editing.directions import Direction, bundle_directions
from .editing.expressions import Amounts
from .errors import HyperStyleError
from .formats.bundle import Bundle, find_bundle
from .formats.inversion_file import InversionData, check_belongs
from .formats.manifest import BASE_PRECISION, MAX_ITERATIONS
from .imaging.pictures import check_picture, read_picture, to_input, to_picture
from .inversion import Inversion as Inversion
from .inversion import remember_latent_average
from .optimising.refinement import DEFAULT_STEPS, Limits, OnStep, refine
from .rendering import Renderer
from .types import Array, Floats, Picture

LARGEST_KEPT = 512
"""Resolution up to which the base weights, 94 MB, are kept: at 1024 memory is what is short."""

OnIteration = Callable[[int, Array, Array], None]
"""Called with (iteration from 1, reconstruction float32 [3,H,W], codes float32 [M,K+1])."""


class Model:
    """A bundle opened on a backend.

    Not thread-safe: open one per thread.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self.backend = backend
        self._renderer = Renderer(bundle.manifest, backend)
        self._base_weights: dict[str, Any] | None = None
        remember_latent_average(bundle)

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        backend: str = "auto",
        *,
        threads: int | None = None,
        precision: str = BASE_PRECISION,
    ) -> Model:
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
        bundle.require_inverting()
        return cls(bundle, open_backend(backend, bundle, threads, precision))

    def invert(
        self,
        image: str | Path | Picture,
        iterations: int | None = None,
        until: float | None = None,
        on_iteration: OnIteration | None = None,
        *,
        transform: NDArray[Any] | None = None,
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
        transform:
            Kept with the inversion: [3,3], from pixels of the photo that the picture was cut out of
            to pixels of a rendered one, ``portrait.transform_to(manifest.resolution)``.

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
        if isinstance(backend, LoopingBackend) and on_iteration is None:
            made = backend.run_loop(x, codes, count, until)
            return self._inversion(made.latents, made.codes, made.image, made.iterations, transform)
        latents = backend.run("encoder", {"image": x})["latents"]
        result = self._renderer.generate(latents, self._base(codes))
        done, before = 0, None
        while done < count:
            codes = backend.run(
                "hypernet",
                {"image": x, "reconstruction": result["reconstruction"], "codes_in": codes},
            )["codes"]
            result = self._renderer.generate(latents, self._renderer.weights(codes))
            done += 1
            if on_iteration is not None:
                on_iteration(done, backend.download(result["image"])[0], backend.download(codes)[0])
            if until is not None:
                now = backend.download(result["reconstruction"])
                if before is not None and float(np.abs(now - before).mean()) < until:
                    break
                before = now
        return self._inversion(latents, codes, result["image"], done, transform)

    def _inversion(
        self,
        latents: Any,
        codes: Any,
        image: Any,
        iterations: int,
        transform: NDArray[Any] | None,
    ) -> Inversion:
        """Bring the buffers of an inversion to the host."""
        data = InversionData(
            latents=self.backend.download(latents)[0],
            codes=self.backend.download(codes)[0],
            iterations=iterations,
            bundle_name=self.bundle.manifest.name,
            bundle_digest=self.bundle.digest,
            transform=None if transform is None else np.asarray(transform, np.float32),
        )
        return Inversion(data, self.backend.download(image)[0])

    def refine(
        self,
        inversion: Inversion,
        image: str | Path | Picture,
        steps: int = DEFAULT_STEPS,
        *,
        space: str = "channels",
        seconds: float | None = None,
        until: float | None = None,
        on_step: OnStep | None = None,
    ) -> Inversion:
        """Bring an inversion closer to its picture by gradient steps on the weight offsets.

        Parameters
        ----------
        inversion:
            Of this model.
        image:
            What was inverted, aligned: path, or uint8 [H,W,3] RGB of any size.
        steps:
            At most so many; each costs about three times as much as the generator.
        space:
            ``channels`` changes one free offset per pair of channels, ``codes`` the offset codes:
            less, but within what the hypernetwork was trained on.
        seconds:
            Begin no step after so long; None for any time.
        until:
            Stop once the loss falls by less than this fraction of itself in ten steps.
        on_step:
            Called with (steps done, loss, image float32 [3,H,W]), first for none.

        Returns
        -------
        The same latents with other offsets, its picture in ``output``: an inversion like others.

        Raises
        ------
        PictureError
            If the picture cannot be read or used.
        HyperStyleError
            If a limit is senseless, the styles are edited, or the bundle cannot refine.
        InversionError
            If the inversion belongs to another bundle.
        """
        check_belongs(inversion.data, self.bundle)
        picture = check_picture(image) if isinstance(image, np.ndarray) else read_picture(image)
        limits = Limits(steps, seconds, until)
        manifest, backend = self.bundle.manifest, self.backend
        refined = refine(inversion, picture, manifest, backend, limits, space, on_step)
        return replace(refined, output=self.synthesise(refined)[0])

    @cached_property
    def directions(self) -> dict[str, Direction]:
        """The bundle's directions by name, those of :meth:`edit`; empty if it has none.

        Raises
        ------
        BundleError, EditError
            If the bundle's file of directions is altered or damaged.
        """
        return bundle_directions(self.bundle)

    def edit(self, inversion: Inversion, amounts: Amounts) -> Inversion:
        """Edit a face along directions of the bundle, e.g. ``{"smile": 2.0, "age": -1.0}``.

        Returns
        -------
        The same face with other latents or styles, its picture in ``output``.

        Raises
        ------
        EditError
            If a direction is unknown, or an amount is not a finite number.
        InversionError
            If the inversion belongs to another bundle.
        """
        made = self._edited(inversion, [amounts])
        styles = None if made.styles is None else made.styles[0]
        edited = Inversion(replace(inversion.data, latents=made.latents[0]), styles=styles)
        return replace(edited, output=self.synthesise(edited)[0])

    def sweep(self, inversion: Inversion, edits: Sequence[Amounts]) -> Iterator[Picture]:
        """Render several edits of one face, whose weights are expanded once for all of them.

        Yields
        ------
        uint8 [H,W,3], one for each edit.

        Raises
        ------
        EditError, InversionError
            As :meth:`edit`, before the first picture.
        """
        made = self._edited(inversion, edits)
        weights = self._renderer.face(inversion.codes, inversion.channels)
        return map(to_picture, self._renderer.images(made.latents, weights, made.styles))

    def interpolate(
        self,
        first: Inversion,
        second: Inversion,
        fractions: Sequence[float],
        blend: Blend = linear,
    ) -> Iterator[Picture]:
        """Render what lies between two faces: offset codes and styles linearly, latents by `blend`.

        Parameters
        ----------
        fractions:
            0 is the first face, 1 the second.
        blend:
            :func:`~hyperstyle_rt.editing.linear` or another way between latents.

        Yields
        ------
        uint8 [H,W,3], one for each fraction.

        Raises
        ------
        InversionError
            If one of the inversions belongs to another bundle.
        """
        for inversion in (first, second):
            check_belongs(inversion.data, self.bundle)
        for fraction in fractions:
            weights = self._renderer.face(
                linear(first.codes, second.codes, fraction),
                linear_additions(first.channels, second.channels, fraction),
            )
            latents = blend(first.latents, second.latents, fraction)
            styles = linear_additions(first.styles, second.styles, fraction)
            rows = None if styles is None else styles[None]
            yield from map(to_picture, self._renderer.images(latents[None], weights, rows))

    def render(
        self, inversion: Inversion, latents: Floats | None = None, styles: Array | None = None
    ) -> Picture:
        """Render an inversion, or other latents with the weights of its face.

        Parameters
        ----------
        inversion:
            Made by this model or read from a file.
        latents:
            None for the inversion's own; [L,W] or [N,L,W] for edits of it, taken as float32:
            the weights are expanded once for all of them.
        styles:
            None for the inversion's own; float32 [1 or N,S], added to the styles of all layers.

        Returns
        -------
        uint8 [H,W,3], or [N,H,W,3] for a batch.

        Raises
        ------
        InversionError
            If the inversion belongs to another bundle, or the latents have another shape.
        """
        output = self.synthesise(inversion, latents, styles)
        pictures = np.stack([to_picture(image) for image in output])
        return pictures if latents is not None and latents.ndim == 3 else pictures[0]

    def synthesise(
        self, inversion: Inversion, latents: Floats | None = None, styles: Array | None = None
    ) -> Array:
        """Like :meth:`render`, as float32 [N,3,H,W], about [-1,1] and not clamped."""
        check_belongs(inversion.data, self.bundle)
        batch = inversion.latents if latents is None else np.asarray(latents, np.float32)
        batch = self._renderer.as_batch(batch)
        if styles is None and inversion.styles is not None:
            styles = inversion.styles[None]
        if styles is not None:
            self._renderer.check_styles(styles, len(batch))
        weights = self._renderer.face(inversion.codes, inversion.channels)
        return np.stack(list(self._renderer.images(batch, weights, styles)))

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
        renderer = Renderer(self.bundle.manifest, backend)
        weights = renderer.face(inversion.codes, inversion.channels)
        base = renderer.face(self._zero_codes()[0], None)
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
        buffer = self.backend.upload(np.asarray(z, np.float32))
        return self.backend.download(self.backend.run("mapping", {"z": buffer})["w"])

    def _edited(self, inversion: Inversion, edits: Sequence[Amounts]) -> Edited:
        check_belongs(inversion.data, self.bundle)
        return edit_latents(self.directions, inversion.latents, edits, inversion.styles)

    def _base(self, zero_codes: Any) -> dict[str, Any]:
        """The weights without offsets, from which every inversion starts; kept where it fits."""
        weights = self._base_weights or self._renderer.weights(zero_codes)
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
