"""What a model and a session do with gradient steps: optimise an inversion, or let them follow."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .errors import InversionError
from .exporting_operations import ExportingOperations
from .formats.inversion_file import InversionData
from .formats.inversion_fit import check_fits
from .inversion import Inversion
from .inverting.phases import OnIteration
from .inverting.preparing import Crop, one_crop
from .optimising.descent import OnStep
from .optimising.effort import Follower, Plan
from .optimising.latent_statistics import average_latents
from .optimising.masks import mask_of
from .optimising.names import FAST
from .optimising.presets import DEFAULT_PRESET, find_preset
from .optimising.running import Optimiser, Request, check_bundle
from .types import Array
from .work import computed_by


class OptimisingOperations(ExportingOperations):
    """What is done by gradient steps, from what a method has found or from nothing."""

    @abstractmethod
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
        """Invert a picture by a method of the bundle."""

    def optimise(
        self,
        inversion: Inversion | None,
        picture: Any,
        preset: str = DEFAULT_PRESET,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        until: float | None = None,
        variables: Sequence[str] | None = None,
        mask: Any | None = None,
        on_step: OnStep | None = None,
        align: str = "auto",
        face: str | int = "largest",
    ) -> Inversion:
        """Bring an inversion closer to its picture by gradient descent.

        Parameters
        ----------
        inversion:
            Of this bundle's space, to start from. None to start from nothing, or from an inversion
            by the bundle's default method where the preset needs one.
        picture:
            What was inverted, as :meth:`invert` takes it.
        preset:
            One of :data:`~hyperstyle_rt.optimising.presets.PRESETS`: what changes, by which loss
            and at what pace.
        steps:
            At most so many in all; None for the preset's own number.
        seconds:
            Begin no step after so long; None for any time.
        until:
            Stop once the loss falls by less than this fraction of itself in ten steps.
        variables:
            What `refine` changes, any at once: ``channel_offsets`` (one offset per pair of
            channels) where none is named, ``codes`` (less, but within what the hypernetwork was
            trained on), ``latents`` or ``w``, ``noise``, ``weights``, ``features``.
        mask:
            A picture laid over what is inverted, of any size: white counts, black does not.
            ``"face"`` for the face that is found in it. None for the whole picture, and of
            ``hybrid`` for the face.
        on_step:
            Called with (steps done, loss, rendering float32 [3,H,W]), first for none. Where the
            last step went astray, the state that is gone back to is told under the same number.
        align, face:
            As for :meth:`invert`.

        Returns
        -------
        With its rendering in ``output``: an inversion like others.

        Raises
        ------
        PictureError
            If the picture or mask cannot be read or used.
        HyperStyleError
            If there is no such preset or variable, a limit is out of range, the styles are edited,
            or gradients cannot be computed in this precision.
        BundleError
            If the bundle has not the graphs.
        InversionError
            If the inversion is of another space, or its rendering is not finite.
        """
        manifest = self.bundle.manifest
        if inversion is not None:
            check_fits(inversion.data, manifest)
        names = None if variables is None else tuple(variables)
        request = Request(preset, names, steps, seconds, until, None, on_step)
        needs_inversion = inversion is None and find_preset(preset).needs_inversion
        has_latents = inversion is not None or needs_inversion
        check_bundle(self.bundle, self._work.backend, request, has_latents)
        crop, _ = one_crop(picture, manifest, align, face)
        if needs_inversion:
            inversion = self.invert(crop, effort=FAST)
        return self._optimised(inversion, crop, request, mask)

    def _optimised(
        self, inversion: Inversion | None, crop: Crop, request: Request, mask: Any | None
    ) -> Inversion:
        """Optimise an inversion of a crop, or start from the average latent."""
        if inversion is not None and inversion.styles is not None:
            raise InversionError("styles are edited; optimise the inversion before the edit")
        work, preset = self._work, request.preset
        shown = mask_of(mask, crop.picture, preset, self.bundle.manifest)
        request = replace(request, mask=shown)
        data = self._blank(preset, crop.transform) if inversion is None else inversion.data
        optimiser = Optimiser(self.bundle, work.renderer, work.backend, crop.picture, request)
        found = optimiser.run(data, inversion is not None)
        if inversion is not None and found is data:
            return inversion
        result = Inversion(replace(found, computed=computed_by(work.backend)))
        return replace(result, output=self.synthesise(result)[0])

    def follow(
        self,
        inversion: Inversion,
        crop: Crop,
        plan: Plan,
        *,
        steps: int | None = None,
        variables: Sequence[str] | None = None,
        mask: Any | None = None,
        on_step: OnStep | None = None,
    ) -> Inversion:
        """Let the gradient steps of a plan follow a method: what :meth:`invert` does last.

        Parameters
        ----------
        inversion:
            As the method has found it.
        crop:
            What was inverted.
        plan:
            As :func:`~hyperstyle_rt.optimising.effort.plan_of` makes it.
        steps, variables, mask, on_step:
            As for :meth:`optimise`; without `steps`, at most as many as the plan says. With a mask,
            none of them is left out: what fits is said of whole pictures.

        Raises
        ------
        HyperStyleError, BundleError
            As :meth:`optimise`.
        """
        manifest = self.bundle.manifest
        if mask is not None:
            plan = replace(plan, none=None, enough=None)
        follower = Follower(plan, manifest, crop.picture)
        names = None if variables is None else tuple(variables)
        request = Request(plan.preset, names, steps, on_step=on_step, follower=follower)
        found = self._optimised(inversion, crop, request, mask)
        settings = {**found.data.settings, "effort": follower.to_json()}
        return replace(found, data=replace(found.data, settings=settings))

    def _blank(self, method: str, transform: Array | None) -> InversionData:
        """An inversion of nothing: the average latent."""
        manifest = self.bundle.manifest
        return InversionData(
            latents=average_latents(self.bundle, self._work.backend),
            codes=None,
            iterations=0,
            space=manifest.inversion_space,
            code_space=None,
            bundle_name=manifest.name,
            bundle_digest=self.bundle.digest,
            method=method,
            settings={},
            computed=computed_by(self._work.backend),
            transform=transform,
        )
