"""From latents, codes and channel offsets to renderings: the graphs from ``weights`` on.

One face's kernels are expanded once and serve any number of latents, in batches that keep memory
flat. A bundle without codes has its kernels in its generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .backends.protocol import Backend, Buffers, RecordingBackend
from .errors import BundleError, InversionError
from .formats.manifest import Manifest
from .formats.optional_inputs import OptionalInputs
from .free_inputs import (
    FEATURE_OFFSET,
    NOTHING_FREE,
    PARAMETRIC_GENERATOR,
    Free,
    FreeInputs,
)
from .types import Array

# Names that every host knows, in graphs and in the state of a method.
LATENTS = "latents"
CODES = "codes"
RENDERING = "rendering"
RECONSTRUCTION = "reconstruction"

# Roles of graphs.
WEIGHTS = "weights"
GENERATOR = "generator"
STYLED_GENERATOR = "styled_generator"
TRANSFORMED_GENERATOR = "transformed_generator"
CHANNEL_OFFSETS = "channel_offsets"

STYLE_OFFSETS = "style_offsets"
TRANSFORM = "transform"

BATCH_PIXELS = 8 << 16  # of the generated squares: 8 pictures at 256, 2 at 512, 1 from 1024 up

LARGEST_KEPT = 512
"""Resolution up to which the kernels of zero codes are kept; at 1024 they are 94 MB."""


class Renderer:
    """The graphs of a bundle that lead to pictures, on a backend; one thread's."""

    def __init__(self, manifest: Manifest, backend: Backend) -> None:
        self._manifest = manifest
        self._backend = backend
        # A recording keeps its own kernels, so keeping them here would save nothing.
        self._keeps_base = manifest.resolution <= LARGEST_KEPT and not isinstance(
            backend, RecordingBackend
        )
        self._base: Buffers | None = None
        self.free = FreeInputs(manifest, backend)

    def zero_codes(self) -> Array | None:
        """Codes [M,K+1] that change no kernel; None where the bundle knows no codes."""
        codes = self._manifest.codes
        if codes is None:
            return None
        return np.zeros((len(self._manifest.tuned_layers), codes.width), np.float32)

    def expand(self, codes: Any | None) -> Buffers:
        """Expand codes, a buffer [1,M,K+1], into the kernels ``weight.<layer>`` [O,I,k,k]."""
        if WEIGHTS not in self._manifest.graphs:
            return {}
        return self._backend.run(WEIGHTS, {} if codes is None else {CODES: codes})

    def base_kernels(self, zero_codes: Any | None = None) -> Buffers:
        """Kernels of the generator itself, those of codes of zero.

        Parameters
        ----------
        zero_codes:
            The buffer [1,M,K+1] if there is one already.
        """
        if self._base is not None:
            return self._base
        if zero_codes is None and self._manifest.codes is not None:
            zero_codes = self._upload(self.zero_codes())
        kernels = self.expand(zero_codes)
        if self._keeps_base:
            self._base = kernels
        return kernels

    def kernels(self, codes: Array | None, channel_offsets: Array | None = None) -> Buffers:
        """Kernels of an inversion.

        Parameters
        ----------
        codes:
            float32 [M,K+1]; None for zero.
        channel_offsets:
            float32 [P]; None for zero.

        Raises
        ------
        BundleError
            If the bundle was built without the graph that adds channel offsets.
        """
        tuned = self.base_kernels() if codes is None else self.expand(self._upload(codes))
        if channel_offsets is None:
            return tuned
        base = self.base_kernels()
        return self.add_channel_offsets(tuned, base, self._backend.upload(channel_offsets))

    def add_channel_offsets(self, tuned: Buffers, base: Buffers, offsets: Any) -> Buffers:
        """Add channel offsets, a buffer [P], to kernels; `base` are those of codes of zero."""
        self._require(CHANNEL_OFFSETS, "add channel offsets to its kernels")
        inputs = {name.replace("weight.", "tuned.", 1): value for name, value in tuned.items()}
        inputs |= base_inputs(base)
        return self._backend.run(CHANNEL_OFFSETS, {CHANNEL_OFFSETS: offsets, **inputs})

    def render(
        self, latents: Any, kernels: Buffers, free: Free = NOTHING_FREE, styles: Any | None = None
    ) -> Buffers:
        """Render a buffer of latents [N,L,W].

        Parameters
        ----------
        free:
            What is changed beside latents and kernels.
        styles:
            A buffer [1 or N,S], added to the styles of all layers; None for nothing.

        Returns
        -------
        ``rendering`` [N,3,H,W] and ``reconstruction`` [N,3,h,w].

        Raises
        ------
        BundleError
            If the bundle has no generator that takes these.
        """
        return self._run(latents, self._prepare(kernels, free, None, styles is not None), styles)

    def renderings(
        self,
        latents: Array,
        kernels: Buffers,
        styles: Array | None = None,
        noise: Mapping[str, Array] | None = None,
        free: Free = NOTHING_FREE,
        transforms: Array | None = None,
    ) -> Iterator[Array]:
        """Render latents in batches.

        Parameters
        ----------
        latents:
            float32 [N,L,W].
        styles:
            float32 [1 or N,S], added to the styles of all layers; None for zeros.
        noise:
            ``noise.<layer>`` -> float32 [1,1,s,s]; None for that of `free`.
        free:
            What is changed beside latents and kernels.
        transforms:
            float32 [1 or N,3,3], from places of a rendering to places of the one that is not moved;
            None for no motion.

        Yields
        ------
        float32 [3,H,W], about [-1,1], not clamped, N times.

        Raises
        ------
        BundleError
            If the bundle has no generator that takes these.
        """
        upload, size = self._backend.upload, self.batch_size
        graph, fixed = self._prepare(kernels, free, noise, styles is not None)
        if transforms is not None:
            check_moves(self._manifest, needs_parameters=graph == PARAMETRIC_GENERATOR)
            graph = TRANSFORMED_GENERATOR

        def rows_of(values: Array | None, batch: slice) -> Any | None:
            if values is None:
                return None
            return upload(values if len(values) == 1 else values[batch])

        for start in range(0, len(latents), size):
            batch = slice(start, start + size)
            if transforms is not None:
                fixed = {**fixed, TRANSFORM: rows_of(transforms, batch)}
            outputs = self._run(upload(latents[batch]), (graph, fixed), rows_of(styles, batch))
            yield from self._backend.download(outputs[RENDERING])

    def _prepare(
        self, kernels: Buffers, free: Free, noise: Mapping[str, Array] | None, styled: bool
    ) -> tuple[str, Buffers]:
        """The generator that takes what is free, and all its inputs but latents and styles."""
        if noise is not None:
            self.require_optional_inputs()
            maps = {name: self._backend.upload(array) for name, array in noise.items()}
        if free.needs_parameters:
            self.free.parametric()
            stored = self.free.parameters(kernels)
            return PARAMETRIC_GENERATOR, {
                **self.free.changed_parameters(stored, free.weights),
                **(self.free.noise(free.noise) if noise is None else maps),
                FEATURE_OFFSET: self.free.feature_offset(free.features),
            }
        if styled or noise is not None or free.noise is not None:
            self.require_optional_inputs()
            inputs = self.free.noise(free.noise) if noise is None else maps
            return STYLED_GENERATOR, {**kernels, **inputs}
        return GENERATOR, dict(kernels)

    def _run(
        self, latents: Any, prepared: tuple[str, Buffers], styles: Any | None = None
    ) -> Buffers:
        graph, fixed = prepared
        inputs = {LATENTS: latents, **fixed}
        if graph != GENERATOR:
            width = self.require_optional_inputs().style_channels
            nothing = np.zeros((1, width), np.float32)
            inputs[STYLE_OFFSETS] = self._backend.upload(nothing) if styles is None else styles
        return self._backend.run(graph, inputs)

    def as_batch(self, latents: Any) -> Array:
        """Latents [L,W] or [N,L,W] as float32 [N,L,W].

        Raises
        ------
        InversionError
            If they are of another shape, none, or not finite.
        """
        rows, width = self._manifest.num_latents, self._manifest.latent_width
        wanted = f"latents must be [{rows},{width}] or [N,{rows},{width}]"
        try:
            with np.errstate(over="ignore"):  # what is beyond float32 is refused below
                batch = np.asarray(latents, np.float32)
        except (TypeError, ValueError):
            raise InversionError(f"{wanted} in numbers; give an array of them") from None
        if batch.ndim not in (2, 3) or batch.shape[-2:] != (rows, width) or not batch.size:
            raise InversionError(f"{wanted}, not {list(batch.shape)}")
        if not np.isfinite(batch).all():
            raise InversionError(f"{wanted}, all finite; some are not, so give others")
        return batch.reshape(-1, rows, width)

    def check_styles(self, styles: Array, count: int) -> None:
        """Refuse styles that are not float32 [1 or N,S], for `count` latents.

        Raises
        ------
        BundleError
            If the bundle has no generator that takes styles.
        InversionError
            If they are something else.
        """
        channels = self.require_optional_inputs().style_channels
        if styles.dtype != np.float32 or styles.shape not in {(1, channels), (count, channels)}:
            raise InversionError(
                f"styles must be float32 [1 or {count},{channels}], not {styles.dtype} "
                f"{list(styles.shape)}"
            )

    @property
    def batch_size(self) -> int:
        """How many latents are rendered at once."""
        return min(
            self._backend.largest_batch, max(1, BATCH_PIXELS // self._manifest.resolution**2)
        )

    def require_optional_inputs(self) -> OptionalInputs:
        """Refuse a bundle without a generator that takes style offsets and noise."""
        inputs = self._manifest.optional_inputs
        if inputs is None:
            raise BundleError(
                f"the generator of bundle {self._manifest.name!r} takes neither style offsets nor "
                "noise; build the bundle again with this version"
            )
        return inputs

    def draw_noise(self, seed: int) -> dict[str, Array]:
        """Normal noise for :meth:`renderings`, the same for the same seed; empty for no noise.

        Raises
        ------
        BundleError
            If the bundle has no generator that takes noise.
        """
        layers = self.require_optional_inputs().noise
        source = np.random.default_rng(seed)
        return {
            f"noise.{layer.name}": source.standard_normal(
                (1, 1, layer.side, layer.side), dtype=np.float32
            )
            for layer in layers
        }

    def release(self) -> None:
        """Give back what is kept."""
        self._base = None
        self.free.release()

    def _require(self, graph: str, purpose: str) -> None:
        if graph not in self._manifest.graphs:
            raise BundleError(
                f"bundle {self._manifest.name!r} has no graph to {purpose}; build it again with "
                "this version"
            )

    def _upload(self, codes: Array | None) -> Any:
        assert codes is not None
        return self._backend.upload(codes[None])


def check_moves(manifest: Manifest, needs_parameters: bool = False) -> None:
    """Refuse a bundle whose generator cannot move its pictures.

    Parameters
    ----------
    needs_parameters:
        Whether weights or features of the inversion's own are to be rendered.

    Raises
    ------
    BundleError
        If so.
    """
    if needs_parameters or TRANSFORMED_GENERATOR not in manifest.graphs:
        raise BundleError(
            f"the generator of bundle {manifest.name!r} cannot move its pictures, as those of "
            "StyleGAN3 can; render them as they are"
        )


def base_inputs(base: Buffers) -> Buffers:
    """Kernels of codes of zero, under the names ``base.<layer>`` that graphs read them by."""
    return {name.replace("weight.", "base.", 1): value for name, value in base.items()}
