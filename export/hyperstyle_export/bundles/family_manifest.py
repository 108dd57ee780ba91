"""The manifest of a bundle whose generator is of another family than StyleGAN2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.formats.manifest_entries import TunedLayer
from hyperstyle_rt.formats.methods import Method
from hyperstyle_rt.formats.optional_inputs import OptionalInputs
from hyperstyle_rt.formats.parametric_inputs import ObjectiveFacts, ParametricInputs

from ..graphs.perceptual import PerceptualTerm
from .writer import BundleFacts, GraphFiles


class Sizes(Protocol):
    """What a configuration of any generator tells of its sizes."""

    @property
    def resolution(self) -> int:
        """Side of its square pictures."""

    @property
    def num_latents(self) -> int:
        """Rows of its latents."""

    @property
    def style_width(self) -> int:
        """Width of a row."""


def family_manifest(
    facts: BundleFacts,
    written: GraphFiles,
    sizes: Sizes,
    space: str,
    input_size: tuple[int, int],
    methods: Mapping[str, Method],
    optional_inputs: OptionalInputs,
    *,
    parametric_inputs: ParametricInputs | None = None,
    perceptual: PerceptualTerm | None,
    tuned_layers: Sequence[TunedLayer] = (),
    then: str | None = None,
) -> Manifest:
    """Make the manifest of a bundle without offset codes.

    Parameters
    ----------
    methods:
        The default one first.
    parametric_inputs:
        Of a generator all of whose weights may change; None for another.
    perceptual:
        Of the bundle's objectives; None where it has none.
    then:
        Preset that follows the default method.
    """
    return Manifest(
        name=facts.name,
        domain=facts.domain,
        license=facts.license,
        provenance=facts.provenance,
        space=space,
        resolution=sizes.resolution,
        image_size=(sizes.resolution, sizes.resolution),
        input_size=input_size,
        crop_rows=None,
        num_latents=sizes.num_latents,
        latent_width=sizes.style_width,
        codes=None,
        tuned_layers=tuple(tuned_layers),
        graphs=written.graphs,
        files=dict(sorted(written.files.items())),
        accuracy={},
        training=facts.training,
        methods=methods,
        default_method=next(iter(methods), None),
        optional_inputs=optional_inputs,
        parametric_inputs=parametric_inputs,
        objective=(
            None if perceptual is None else ObjectiveFacts(perceptual.network, perceptual.weight)
        ),
        then=then,
    )
