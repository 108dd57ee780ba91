"""What a model and a session both do with a bundle: invert, refine, edit, render."""

from __future__ import annotations

import logging
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from .backends.protocol import Backend
from .backends.registry import open_backend
from .editing.blending import Blend, Edited, edit_latents, linear, linear_additions
from .editing.expressions import Amounts
from .errors import BackendError
from .formats.bundle import Bundle
from .formats.directions_file import Direction
from .formats.inversion_file import InversionData, check_fits
from .formats.manifest import BASE_PRECISION
from .imaging.pictures import to_input, to_picture
from .inversion import Inversion
from .inverting.inverter import Inverter, count_iterations
from .inverting.phases import OnIteration, Watch
from .inverting.preparing import Crop, one_crop
from .inverting.state import Size
from .optimising.descent import Limits, OnStep
from .optimising.presets import DEFAULT_STEPS, refine
from .rendering import CODES, LATENTS, RENDERING, Renderer
from .types import Array, Floats, Picture

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceInversion:
    """An inversion whose tensors are where the backend keeps them.

    Attributes
    ----------
    tensors:
        ``latents`` [1,L,W], ``codes`` [1,M,K+1] where the method has some, ``rendering``
        [1,3,H,W], ``reconstruction`` [1,3,h,w], and what else the method's phases have left; on a
        GPU arrays with ``__dlpack__`` or ``__cuda_array_interface__``. They are complete, and
        written again by the next inversion of the same session.
    iterations:
        How many were done.
    """

    tensors: Mapping[str, Any]
    iterations: int


class Work:
    """What one thread works with: a bundle, its view of a backend, and what it keeps between calls.

    Closed where it is dropped, or before that by :meth:`close`.
    """

    def __init__(self, bundle: Bundle, shared: Backend) -> None:
        self.bundle = bundle
        self.backend = shared.for_session()
        self.renderer = Renderer(bundle.manifest, self.backend)
        self.inverter = Inverter(bundle, self.backend, self.renderer)
        own = None if self.backend is shared else self.backend
        self._finalizer = weakref.finalize(self, _release, self.inverter, self.renderer, own)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return not self._finalizer.alive

    def close(self) -> None:
        """Give back its memory; the model's backend stays open."""
        self._finalizer()


def _release(inverter: Inverter, renderer: Renderer, own: Backend | None) -> None:
    inverter.release()
    renderer.release()
    if own is not None:
        own.close()


class Operations(ABC):
    """Everything that a model and a session do."""

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

    def invert(
        self,
        picture: Any,
        iterations: int | None = None,
        until: float | None = None,
        on_iteration: OnIteration | None = None,
        *,
        method: str | None = None,
        align: str = "auto",
        face: str | int = "largest",
    ) -> Inversion:
        """Invert a picture: find latents, and what else the method finds, that reproduce it.

        Parameters
        ----------
        picture:
            A path, the bytes of a picture file, an open binary file, a PIL image, a uint8 array
            ([H,W] grey, [H,W,3] RGB, [H,W,4] RGBA) or anything numpy takes for one; of any size. A
            `Portrait` of `find_portraits` is taken as it is. An array on a GPU is taken where the
            backend takes such arrays, as in :meth:`invert_on_device`.
        iterations:
            Upper bound, 0 to 100; None for the method's own number. 0 leaves out the graph that
            iterates: of HyperStyle, the encoder alone is left.
        until:
            Stop once the reconstruction moves by less than this between iterations (mean absolute
            difference on the [-1,1] scale); None to do all iterations.
        on_iteration:
            Called after every iteration with its number from 1, the rendering float32 [3,H,W] and
            the codes float32 [M,K+1] (None where the method has none).
        method:
            One of the bundle's, by name; None for its default.
        align:
            ``auto``: where the bundle is for faces, and the picture is not aligned already, the
            face is found, cut out and aligned, as the networks were trained; a picture without a
            face is used as it is, and a warning is logged. ``always`` insists on a face, ``never``
            looks for none.
        face:
            Of several faces ``largest`` or a number from 0, the largest.

        Returns
        -------
        With its rendering in ``output``.

        Raises
        ------
        PictureError
            If the picture cannot be read or used, or has no face where one is wanted.
        HyperStyleError
            If a parameter is out of range, or the method does not iterate.
        BundleError
            If the bundle has no such method, or a file of it is missing or altered.
        BackendError
            If the backend fails, or is closed.
        """
        manifest = self.bundle.manifest
        count = count_iterations(manifest, method, iterations, until)  # refused before any work
        work = self._work
        crop: Crop | None = None
        if _on_device(picture):
            target = partial(self._device_target, work, picture)
        else:
            crop, notice = one_crop(picture, manifest, align, face)
            if notice is not None:
                logger.warning("%s", notice)
            target = partial(self._target, work, crop.picture)
        found = work.inverter.run(target, iterations, Watch(until, on_iteration), method)
        download = work.backend.download
        codes = found.tensors.get(CODES)
        settings: dict[str, Any] = {}
        if manifest.method(method).iterating_phase is not None:
            settings["iterations"] = count
        if until is not None:
            settings["until"] = float(until)
        data = InversionData(
            latents=download(found.tensors[LATENTS])[0],
            codes=None if codes is None else download(codes)[0],
            iterations=found.iterations,
            space=manifest.space,
            code_space=None if codes is None or manifest.codes is None else manifest.codes.space,
            bundle_name=manifest.name,
            bundle_digest=self.bundle.digest,
            method=method or manifest.default_method or "",
            settings=settings,
            computed=computed_by(work.backend),
            transform=None if crop is None else crop.transform,
        )
        return Inversion(data, download(found.tensors[RENDERING])[0])

    def invert_on_device(
        self,
        target: Any,
        iterations: int | None = None,
        until: float | None = None,
        *,
        method: str | None = None,
    ) -> DeviceInversion:
        """Invert a target that the networks take as it is, and leave the results where they are.

        Parameters
        ----------
        target:
            float32 [1,3,h,w] in [-1,1], in the size that the method's graphs ask for
            (``manifest.input_size``): an array of numpy, or on a GPU of PyTorch, CuPy, PyCUDA or
            any library with ``__dlpack__`` or ``__cuda_array_interface__``.
        iterations, until, method:
            As for :meth:`invert`.

        Raises
        ------
        BackendError
            If the array is of another shape or type, or not where the backend can take it.
        HyperStyleError
            As for :meth:`invert`.
        """
        work = self._work
        feed = partial(self._device_target, work, target)
        found = work.inverter.run(feed, iterations, Watch(until), method)
        share = work.backend.share
        tensors = {name: share(buffer) for name, buffer in found.tensors.items()}
        return DeviceInversion(tensors, found.iterations)

    def refine(
        self,
        inversion: Inversion,
        picture: Any,
        steps: int = DEFAULT_STEPS,
        *,
        variable: str = "channel_offsets",
        seconds: float | None = None,
        until: float | None = None,
        on_step: OnStep | None = None,
        align: str = "auto",
        face: str | int = "largest",
    ) -> Inversion:
        """Bring an inversion closer to its picture by gradient steps on its kernels.

        Parameters
        ----------
        inversion:
            Of this bundle's space.
        picture:
            What was inverted, as :meth:`invert` takes it.
        steps:
            At most so many; each costs about three times as much as the generator.
        variable:
            ``channel_offsets`` changes one offset per pair of channels, ``codes`` the offset codes:
            less, but within what the hypernetwork was trained on.
        seconds:
            Begin no step after so long; None for any time.
        until:
            Stop once the loss falls by less than this fraction of itself in ten steps.
        on_step:
            Called with (steps done, loss, rendering float32 [3,H,W]), first for none.
        align, face:
            As for :meth:`invert`.

        Returns
        -------
        The same latents with other offsets, its rendering in ``output``: an inversion like others.

        Raises
        ------
        PictureError
            If the picture cannot be read or used.
        HyperStyleError
            If a limit is senseless, the styles are edited, or the bundle cannot refine.
        InversionError
            If the inversion is of another space.
        """
        check_fits(inversion.data, self.bundle.manifest)
        limits = Limits(steps, seconds, until)
        crop, _ = one_crop(picture, self.bundle.manifest, align, face)
        work = self._work
        refined = refine(
            inversion,
            crop.picture,
            self.bundle.manifest,
            work.renderer,
            work.backend,
            limits,
            variable,
            on_step,
        )
        refined = replace(refined, data=replace(refined.data, computed=computed_by(work.backend)))
        return replace(refined, output=self.synthesise(refined)[0])

    def edit(self, inversion: Inversion, amounts: Amounts) -> Inversion:
        """Edit a face along directions of the bundle, e.g. ``{"smile": 2.0, "age": -1.0}``.

        Returns
        -------
        The same face with other latents or styles, its rendering in ``output``.

        Raises
        ------
        EditError
            If a direction is unknown, or an amount is not a finite number.
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

    def sweep(self, inversion: Inversion, edits: Sequence[Amounts]) -> Iterator[Picture]:
        """Render several edits of one face, whose kernels are expanded once for all of them.

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
        return map(to_picture, renderer.renderings(edited.latents, kernels, edited.styles))

    def interpolate(
        self,
        first: Inversion,
        second: Inversion,
        fractions: Sequence[float],
        blend: Blend = linear,
    ) -> Iterator[Picture]:
        """Render what lies between two faces: offsets and styles linearly, latents by `blend`.

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
        """
        for inversion in (first, second):
            check_fits(inversion.data, self.bundle.manifest)
        renderer = self._work.renderer

        def frames() -> Iterator[Picture]:
            for fraction in fractions:
                kernels = renderer.kernels(
                    linear_additions(first.codes, second.codes, fraction),
                    linear_additions(first.channel_offsets, second.channel_offsets, fraction),
                )
                latents = blend(first.latents, second.latents, fraction)[None]
                styles = linear_additions(first.styles, second.styles, fraction)
                rows = None if styles is None else styles[None]
                yield from map(to_picture, renderer.renderings(latents, kernels, rows))

        return frames()

    def render(
        self, inversion: Inversion, latents: Floats | None = None, styles: Array | None = None
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

        Returns
        -------
        uint8 [H,W,3], or [N,H,W,3] for a batch.

        Raises
        ------
        InversionError
            If the inversion is of another space, or the latents have another shape.
        """
        output = self.synthesise(inversion, latents, styles)
        pictures = np.stack([to_picture(rendering) for rendering in output])
        return pictures if latents is not None and latents.ndim == 3 else pictures[0]

    def synthesise(
        self, inversion: Inversion, latents: Floats | None = None, styles: Array | None = None
    ) -> Array:
        """Like :meth:`render`, as float32 [N,3,H,W], about [-1,1] and not clamped."""
        check_fits(inversion.data, self.bundle.manifest)
        renderer = self._work.renderer
        batch = inversion.latents if latents is None else np.asarray(latents, np.float32)
        batch = renderer.as_batch(batch)
        if styles is None and inversion.styles is not None:
            styles = inversion.styles[None]
        if styles is not None:
            renderer.check_styles(styles, len(batch))
        kernels = renderer.kernels(inversion.codes, inversion.channel_offsets)
        return np.stack(list(renderer.renderings(batch, kernels, styles)))

    def offsets(self, inversion: Inversion) -> dict[int, Array]:
        """Expand the weight offsets of an inversion, as the original defines them.

        Returns
        -------
        Offset index -> float32 [O,I,k,k]; the layer's kernel is multiplied by 1 + offset.

        Raises
        ------
        InversionError
            If the inversion is of another space.
        """
        check_fits(inversion.data, self.bundle.manifest)
        work = self._work
        if work.backend.graph_precision == BASE_PRECISION:
            return self._offsets(inversion, work.renderer, work.backend)
        backend = open_backend("cpu", self.bundle, None)  # half a kernel is too coarse to divide by
        try:
            renderer = Renderer(self.bundle.manifest, backend)
            return self._offsets(inversion, renderer, backend)
        finally:
            backend.close()

    def map(self, z: Array) -> Array:
        """Mapping network: random vectors z [B,W] -> w [B,W], float32.

        Raises
        ------
        BundleError
            If the bundle was built without its mapping network.
        """
        backend = self._work.backend
        outputs = backend.run("mapping", {"z": backend.upload(np.asarray(z, np.float32))})
        return backend.download(outputs["w"])

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

    def _target(self, work: Work, picture: Picture, size: Size) -> Any:
        return work.backend.upload(to_input(picture, size))

    def _device_target(self, work: Work, array: Any, size: Size) -> Any:
        wanted = (1, 3, *size)
        shape = tuple(getattr(array, "shape", ()))
        if shape != wanted:
            raise BackendError(
                f"the target must be float32 {list(wanted)}, not {list(shape)}; resize it first"
            )
        return work.backend.upload(array)


def computed_by(backend: Backend) -> dict[str, str]:
    """What a result and its file say of the backend that computed it."""
    return {
        "backend": backend.name,
        "provider": backend.provider,
        "precision": backend.precision,
    }


def _on_device(source: Any) -> bool:
    """Whether something is an array in the memory of a GPU."""
    if hasattr(source, "__cuda_array_interface__"):
        return True
    place = getattr(source, "__dlpack_device__", None)
    return callable(place) and place()[0] not in (1, 3)  # DLPack: the CPU, pinned for CUDA
