"""What a model and a session do with inversions: edit, interpolate and render them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from .backends.protocol import Backend, asked_precision
from .backends.registry import open_backend
from .editing.blending import (
    Blend,
    Edited,
    edit_latents,
    finite_fractions,
    linear,
    linear_additions,
    linear_free,
)
from .editing.expressions import Amounts
from .errors import InversionError
from .formats.bundle import Bundle
from .formats.directions_file import Direction
from .formats.inversion_fit import check_fits
from .formats.manifest import BASE_PRECISION
from .free_inputs import Free
from .imaging.pictures import to_picture
from .inversion import Inversion
from .rendering import Renderer, check_moves
from .transforms import as_transforms
from .types import Array, Floats, Picture
from .work import Work


class RenderingOperations(ABC):
    """What is done with inversions of a bundle's space, whatever method found them."""

    bundle: Bundle

    @property
    @abstractmethod
    def _work(self) -> Work:
        """What the calling thread works with."""

    @property
    @abstractmethod
    def directions(self) -> Mapping[str, Direction]:
        """The bundle's directions by name, those of :meth:`edit`; empty if it has none.

        Raises
        ------
        BundleError, EditError
            If the bundle's file of directions is altered or damaged.
        """

    def edit(self, inversion: Inversion, amounts: Amounts) -> Inversion:
        """Edit a face along directions of the bundle, e.g. ``{"smile": 2.0, "age": -1.0}``.

        Returns
        -------
        The same face with other latents or styles, its rendering in ``output``.

        Raises
        ------
        EditError
            If a direction is unknown, or an amount is not a finite number or too large.
        InversionError
            If the inversion is of another space.
        """
        edited = self._edited(inversion, [amounts])
        data = inversion.data
        steps = {name: float(amount) for name, amount in amounts.items()}
        settings = {**data.settings, "edits": [*data.settings.get("edits", ()), steps]}
        result = Inversion(
            replace(data, latents=edited.latents[0], settings=settings),
            styles=None if edited.styles is None else edited.styles[0],
        )
        return replace(result, output=self.synthesise(result)[0])

    def sweep(
        self, inversion: Inversion, edits: Sequence[Amounts], transform: Floats | None = None
    ) -> Iterator[Picture]:
        """Render several edits of one face, whose kernels are expanded once for all of them.

        Parameters
        ----------
        transform:
            As for :meth:`render`.

        Yields
        ------
        uint8 [H,W,3], one for each edit.

        Raises
        ------
        EditError, InversionError
            As :meth:`edit`, before the first picture.
        """
        edited = self._edited(inversion, edits)
        renderer = self._work.renderer
        kernels = renderer.kernels(inversion.codes, inversion.channel_offsets)
        free, motions = Free.of(inversion.data), self._motions(transform, len(edited.latents))
        renderings = renderer.renderings(
            edited.latents, kernels, edited.styles, free=free, transforms=motions
        )
        return map(to_picture, renderings)

    def interpolate(
        self,
        first: Inversion,
        second: Inversion,
        fractions: Sequence[float],
        blend: Blend = linear,
    ) -> Iterator[Picture]:
        """Render what lies between two faces: latents by `blend`, all else linearly.

        Noise of one face alone moves towards the stored noise.

        Parameters
        ----------
        first, second:
            Of this bundle's space, whatever methods found them; what one of them lacks is zero.
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
            If one of the inversions is of another space; before the first picture.
        EditError
            If a fraction is not a finite number; likewise.
        """
        numbers = finite_fractions(fractions)
        for inversion in (first, second):
            check_fits(inversion.data, self.bundle.manifest)
        renderer = self._work.renderer
        ends = Free.of(first.data), Free.of(second.data)
        noisy = any(end.noise is not None for end in ends)
        stored_noise = renderer.free.stored_noise() if noisy else None

        def frames() -> Iterator[Picture]:
            for fraction in numbers:
                kernels = renderer.kernels(
                    linear_additions(first.codes, second.codes, fraction),
                    linear_additions(first.channel_offsets, second.channel_offsets, fraction),
                )
                latents = blend(first.latents, second.latents, fraction)[None]
                styles = linear_additions(first.styles, second.styles, fraction)
                rows = None if styles is None else styles[None]
                free = linear_free(*ends, fraction, stored_noise)
                yield from map(to_picture, renderer.renderings(latents, kernels, rows, free=free))

        return frames()

    def render(
        self,
        inversion: Inversion,
        latents: Floats | None = None,
        styles: Array | None = None,
        transform: Floats | None = None,
    ) -> Picture:
        """Render an inversion, or other latents with the kernels of its face.

        Parameters
        ----------
        inversion:
            Of this bundle's space, found or read from a file.
        latents:
            None for the inversion's own; float32 [L,W] or [N,L,W] for edits of it: the kernels are
            expanded once for all of them.
        styles:
            None for the inversion's own; float32 [1 or N,S], added to the styles of all layers.
        transform:
            Of a generator that can move its pictures, StyleGAN3's: [3,3] or [N,3,3], from places
            (x, y, 1) of the picture that is made to places of the one that is not moved, both in
            units of the side from the centre. :func:`~hyperstyle_rt.unaligned_transform` gives the
            one that turns a face as it is in its photo. None for no motion.

        Returns
        -------
        uint8 [H,W,3], or [N,H,W,3] for a batch.

        Raises
        ------
        InversionError
            If the inversion is of another space, or the latents or transforms have another shape,
            none, or what is no finite number.
        BundleError
            If the generator cannot move its pictures.
        """
        output = self.synthesise(inversion, latents, styles, transform)
        pictures = np.stack([to_picture(rendering) for rendering in output])
        return pictures if latents is not None and np.ndim(latents) == 3 else pictures[0]

    def synthesise(
        self,
        inversion: Inversion,
        latents: Floats | None = None,
        styles: Array | None = None,
        transform: Floats | None = None,
    ) -> Array:
        """Like :meth:`render`, as float32 [N,3,H,W], about [-1,1] and not clamped."""
        check_fits(inversion.data, self.bundle.manifest)
        renderer = self._work.renderer
        batch = renderer.as_batch(inversion.latents if latents is None else latents)
        if styles is None and inversion.styles is not None:
            styles = inversion.styles[None]
        if styles is not None:
            renderer.check_styles(styles, len(batch))
        kernels = renderer.kernels(inversion.codes, inversion.channel_offsets)
        free, motions = Free.of(inversion.data), self._motions(transform, len(batch))
        renderings = renderer.renderings(batch, kernels, styles, free=free, transforms=motions)
        return np.stack(list(renderings))

    def offsets(self, inversion: Inversion) -> dict[int, Array]:
        """Expand the weight offsets of an inversion, as the original defines them.

        Returns
        -------
        Offset index -> float32 [O,I,k,k]; the layer's kernel is multiplied by 1 + offset.

        Raises
        ------
        InversionError
            If the inversion is of another space, or has free weights, which are no offsets.
        """
        check_fits(inversion.data, self.bundle.manifest)
        if inversion.data.weights is not None:
            raise InversionError(
                "the inversion has free weights, of which weight offsets are not all; take the "
                "offsets of an inversion without them"
            )
        work = self._work
        if asked_precision(work.backend) == BASE_PRECISION:
            return self._offsets(inversion, work.renderer, work.backend)
        backend = open_backend("cpu", self.bundle, None)  # others are too coarse to divide by
        try:
            renderer = Renderer(self.bundle.manifest, backend)
            return self._offsets(inversion, renderer, backend)
        finally:
            backend.close()

    def map(self, z: Array) -> Array:
        """Mapping network: random vectors z [B,W] -> w, float32.

        Returns
        -------
        [B,W]; [B,L,W] of a generator whose mapping network gives every layer a row of its own.

        Raises
        ------
        BundleError
            If the bundle was built without its mapping network.
        """
        backend = self._work.backend
        outputs = backend.run("mapping", {"z": backend.upload(np.asarray(z, np.float32))})
        return backend.download(outputs["w"])

    def _motions(self, transform: Floats | None, count: int) -> Array | None:
        if transform is not None:
            check_moves(self.bundle.manifest)
        return as_transforms(transform, count)

    def _edited(self, inversion: Inversion, edits: Sequence[Amounts]) -> Edited:
        check_fits(inversion.data, self.bundle.manifest)
        return edit_latents(self.directions, inversion.latents, edits, inversion.styles)

    def _offsets(
        self, inversion: Inversion, renderer: Renderer, backend: Backend
    ) -> dict[int, Array]:
        tuned = renderer.kernels(inversion.codes, inversion.channel_offsets)
        base = renderer.base_kernels()
        return {
            layer.index: backend.download(tuned[name]) / backend.download(base[name]) - 1
            for layer in self.bundle.manifest.tuned_layers
            for name in (f"weight.{layer.name}",)
        }
