"""What a model and a session do with pictures: invert them, and optimise what was found."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .errors import BackendError, HyperStyleError
from .formats.inversion_file import InversionData
from .formats.manifest import Manifest
from .imaging.pictures import to_input
from .inversion import Inversion
from .inverting.inverter import Found, count_iterations
from .inverting.phases import OnIteration, Watch
from .inverting.preparing import one_crop
from .inverting.state import Size
from .optimising.effort import Plan, effort_of, plan_of
from .optimising.running import Request, check_bundle
from .optimising_operations import OptimisingOperations
from .rendering import CODES, LATENTS, RENDERING
from .types import Array, Picture
from .work import Work, computed_by

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


class Operations(OptimisingOperations):
    """Everything that a model and a session do."""

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
        effort: str | None = None,
        start: Inversion | None = None,
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
        effort:
            ``fast``: the method alone. ``auto``: then the gradient steps that the bundle names, if
            it names some and the picture does not fit as well as pictures of the bundle's kind do;
            until it does, at most all. ``best``: all of them, those of ``refine`` where it names
            none. None for ``auto``, and for ``fast`` where a method, iterations or `until` are
            given. What was done is in ``settings["effort"]``.
        start:
            An inversion of a picture much like this one, of the same space, as of the frame before
            of a film. A method that corrects latents, as ReStyle does, iterates on from its
            latents. HyperStyle goes on from its codes alone, as it finds the latents of every
            picture anew; they are first scaled down to leave room for `iterations`, so that of the
            method's own number, the default, nothing of them is left. Gradient steps go on from
            what such steps had found for it. None to start from the average latent.

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
        InversionError
            If `start` is of another space.
        """
        manifest = self.bundle.manifest
        count_iterations(manifest, method, iterations, until)  # refused before any work
        plan = plan_of(manifest, effort_of(effort, method, iterations, until), iterations, method)
        work, crop = self._work, None
        if _on_device(picture):
            _refuse_steps(plan, effort)
            transform, target = None, partial(_upload_target, work, picture)
        else:
            if plan is not None:
                check_bundle(self.bundle, work.backend, Request(plan.preset), True)
            crop, notice = one_crop(picture, manifest, align, face)
            if notice is not None:
                logger.warning("%s", notice)
            transform, target = crop.transform, partial(_make_target, work, crop.picture)
        before = None if start is None else start.data
        watch = Watch(until, on_iteration)
        found = work.inverter.run(target, iterations, watch, method, before)
        settings = _settings(manifest, iterations, until, method)
        if start is not None:
            settings["started"] = start.method
        inversion = self._inversion(work, found, method, settings, transform)
        if plan is None or crop is None:
            return inversion
        return self.follow(inversion.with_steps_of(start), crop, plan)

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
        upload = partial(_upload_target, work, target)
        found = work.inverter.run(upload, iterations, Watch(until), method)
        share = work.backend.share
        tensors = {name: share(buffer) for name, buffer in found.tensors.items()}
        return DeviceInversion(tensors, found.iterations)

    def _inversion(
        self,
        work: Work,
        found: Found,
        method: str | None,
        settings: Mapping[str, Any],
        transform: Array | None,
    ) -> Inversion:
        """Bring what a method has found to the host."""
        download, manifest = work.backend.download, self.bundle.manifest
        codes = found.tensors.get(CODES)
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
            transform=transform,
        )
        return Inversion(data, download(found.tensors[RENDERING])[0])


def _settings(
    manifest: Manifest, iterations: int | None, until: float | None, method: str | None
) -> dict[str, Any]:
    """What an inversion says of how it was asked for."""
    settings: dict[str, Any] = {}
    if manifest.method(method).iterating_phase is not None:
        settings["iterations"] = count_iterations(manifest, method, iterations)
    if until is not None:
        settings["until"] = float(until)
    return settings


def _refuse_steps(plan: Plan | None, effort: str | None) -> None:
    """Refuse gradient steps that were asked for on an array that stays on the device."""
    if plan is not None and effort is not None:
        raise HyperStyleError(
            "gradient steps need the picture on the host; give it as a picture, or leave out effort"
        )


def _make_target(work: Work, picture: Picture, size: Size) -> Any:
    """A picture as a graph's input."""
    return work.backend.upload(to_input(picture, size))


def _upload_target(work: Work, array: Any, size: Size) -> Any:
    """An array that is a graph's input already: backends would make float32 of any other."""
    wanted = f"the target must be float32 {[1, 3, *size]}"
    if not _on_device(array):
        try:
            array = np.asarray(array)
        except (TypeError, ValueError, RuntimeError) as error:
            raise BackendError(
                f"{wanted}, and numpy takes this for none ({error}); convert it first"
            ) from None
    interface = getattr(array, "__cuda_array_interface__", {})
    shape = getattr(array, "shape", interface.get("shape"))
    if shape is not None and tuple(shape) != (1, 3, *size):  # a capsule alone the backend checks
        raise BackendError(f"{wanted}, not {list(shape)}; resize it first")
    kind = str(getattr(array, "dtype", interface.get("typestr", "<f4"))).removeprefix("torch.")
    if kind not in ("float32", "<f4"):
        raise BackendError(f"{wanted} in [-1, 1], not {kind}; convert it first")
    return work.backend.upload(array)


def _on_device(source: Any) -> bool:
    """Whether something is an array in the memory of a GPU."""
    if hasattr(source, "__cuda_array_interface__"):
        return True
    place = getattr(source, "__dlpack_device__", None)
    return callable(place) and place()[0] not in (1, 3)  # DLPack: the CPU, pinned for CUDA
