"""From latents and offset codes to pictures: the ``weights`` and the ``generator`` graph.

Inverting, editing and adapting share this half of the method. One face's weights are expanded once
and serve any number of latents, in batches that keep memory flat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .backends.protocol import Backend, Buffers
from .errors import BundleError, InversionError
from .formats.manifest import Manifest
from .formats.optional_inputs import OptionalInputs
from .types import Array

STYLE_OFFSETS = "style_offsets"

BATCH_PIXELS = 8 << 16  # of the generated squares: 8 pictures at 256, 2 at 512, 1 from 1024 up


class Renderer:
    """A bundle's ``weights`` and ``generator`` graphs on a backend."""

    def __init__(self, manifest: Manifest, backend: Backend) -> None:
        self._manifest = manifest
        self._backend = backend

    def weights(self, codes: Any) -> Buffers:
        """Expand offset codes, a buffer [1,M,K+1], into the weights of the tuned layers."""
        return self._backend.run("weights", {"codes": codes})

    def face(self, codes: Array, channels: Array | None) -> Buffers:
        """The weights of a face: of its codes [M,K+1] and its free offsets [P], if it has some.

        Raises
        ------
        BundleError
            If it has free offsets, and the bundle was built without the graphs that know them.
        """
        tuned = self.weights(self._backend.upload(codes[None]))
        if channels is None:
            return tuned
        self.require_refinement()
        base = self.weights(self._backend.upload(np.zeros_like(codes[None])))
        return self.with_channels(tuned, base, self._backend.upload(channels))

    def with_channels(self, tuned: Buffers, base: Buffers, channels: Any) -> Buffers:
        """Add free offsets, a buffer [P], to weights; `base` are those of codes of zero."""
        inputs = {name.replace("weight.", "tuned.", 1): value for name, value in tuned.items()}
        inputs |= base_inputs(base)
        return self._backend.run("channels", {"channels": channels, **inputs})

    def require_refinement(self) -> None:
        """Refuse a bundle without the graphs of the refinement."""
        if not self._manifest.refinement:
            raise BundleError(
                f"bundle {self._manifest.name!r} has no graphs to refine inversions or to render "
                "refined ones; build it again with this version"
            )

    def generate(self, latents: Any, weights: Buffers, extras: Buffers | None = None) -> Buffers:
        """Render a buffer of latents [N,L,W]: ``image`` [N,3,H,W] and ``reconstruction`` [N,3,h,w].

        Parameters
        ----------
        extras:
            Optional inputs of the graph, by name; left out, they are the graph's own.
        """
        return self._backend.run("generator", {"latents": latents, **weights, **(extras or {})})

    def images(
        self,
        latents: Array,
        weights: Buffers,
        styles: Array | None = None,
        noise: Mapping[str, Array] | None = None,
    ) -> Iterator[Array]:
        """Render latents in batches.

        Parameters
        ----------
        latents:
            float32 [N,L,W].
        styles:
            float32 [1 or N,S], added to the styles of all layers; None for zeros.
        noise:
            Graph input ``noise.<layer>`` -> float32 [1,1,side,side]; None for the stored noise.

        Yields
        ------
        float32 [3,H,W], about [-1,1], not clamped, N times.

        Raises
        ------
        BundleError
            If the bundle's generator has no such inputs.
        """
        if styles is not None or noise is not None:
            self.require_optional_inputs()
        upload, size = self._backend.upload, self.batch_size
        noises = {name: upload(array) for name, array in (noise or {}).items()}
        for start in range(0, len(latents), size):
            batch = slice(start, start + size)
            extras = dict(noises)
            if styles is not None:
                extras[STYLE_OFFSETS] = upload(styles if len(styles) == 1 else styles[batch])
            made = self.generate(upload(latents[batch]), weights, extras)
            yield from self._backend.download(made["image"])

    def as_batch(self, latents: Array) -> Array:
        """Latents [L,W] or [N,L,W] as [N,L,W].

        Raises
        ------
        InversionError
            If they are of another shape.
        """
        rows, width = self._manifest.num_latents, self._manifest.style_width
        if latents.ndim not in (2, 3) or latents.shape[-2:] != (rows, width):
            raise InversionError(
                f"latents must be [{rows},{width}] or [N,{rows},{width}], not {list(latents.shape)}"
            )
        return latents.reshape(-1, rows, width)

    def check_styles(self, styles: Array, count: int) -> None:
        """Refuse styles that are not float32 [1 or N,S], for `count` latents.

        Raises
        ------
        BundleError
            If the bundle's generator takes none.
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
        """Refuse a bundle that was built before generators had optional inputs."""
        inputs = self._manifest.optional_inputs
        if inputs is None:
            raise BundleError(
                f"the generator of bundle {self._manifest.name!r} takes neither style offsets nor "
                "noise; build the bundle again with this version"
            )
        return inputs

    def draw_noise(self, seed: int) -> dict[str, Array]:
        """Normal noise for :meth:`images`, the same for the same seed; empty where none is added.

        Raises
        ------
        BundleError
            If the bundle's generator takes no noise.
        """
        layers = self.require_optional_inputs().noise
        source = np.random.default_rng(seed)
        return {
            f"noise.{layer.name}": source.standard_normal(
                (1, 1, layer.side, layer.side), dtype=np.float32
            )
            for layer in layers
        }


def base_inputs(base: Buffers) -> Buffers:
    """Weights of codes of zero, under the names that graphs of the refinement read them by."""
    return {name.replace("weight.", "base.", 1): value for name, value in base.items()}
