"""What a model and a session do with a generator that an inversion has tuned: export it."""

from __future__ import annotations

from pathlib import Path

from .errors import InversionError
from .exporting.tuned import Tuned, check_exportable, export_tuned
from .inversion import Inversion
from .rendering_operations import RenderingOperations


class ExportingOperations(RenderingOperations):
    """Rendering, and tuned generators as bundles of their own."""

    def export_bundle(
        self,
        inversion: Inversion,
        directory: str | Path,
        *,
        name: str | None = None,
        overwrite: bool = False,
    ) -> Inversion:
        """Write the generator as an inversion has tuned it: a bundle of its own.

        All that the inversion changes beside latents (codes, channel offsets, free weights, noise,
        features) becomes part of the generator, in float32. The bundle renders and edits like
        others, and inverts by what of its methods finds latents. It has a space of its own, as it
        is another generator.

        Parameters
        ----------
        inversion:
            Of this bundle's space; most often one that `pti` has found.
        directory:
            Where the bundle is written, whole or not at all.
        name:
            Of the new bundle; None for the directory's.
        overwrite:
            Whether a bundle that is there is replaced.

        Returns
        -------
        The same picture in terms of the new bundle, its rendering in ``output``: to be saved beside
        it and edited with it.

        Raises
        ------
        BundleError
            If this bundle lacks the graphs, the directory cannot be written to, or holds anything
            that may not be replaced.
        InversionError
            If the inversion is of another space, or its styles are edited.
        HyperStyleError
            If the graphs are not computed in float32.
        """
        if inversion.styles is not None:
            raise InversionError("styles are edited; export the inversion before the edit")
        rendering = self.synthesise(inversion)[0]
        work = self._work
        tuned = Tuned(self.bundle, work.renderer, work.backend, inversion.data, rendering)
        return Inversion(export_tuned(tuned, Path(directory), name, overwrite), rendering)

    def check_export(self) -> None:
        """Refuse what :meth:`export_bundle` cannot export from, before any work.

        Raises
        ------
        BundleError, HyperStyleError
            If the bundle lacks the graphs, or they are not computed in float32.
        """
        check_exportable(self.bundle, self._work.backend)
