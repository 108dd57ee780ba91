"""Options that a family of generators does not take, refused before anything is read."""

from __future__ import annotations

from pathlib import Path

from hyperstyle_rt.errors import HyperStyleError

from .requests import BuildRequest, CheckpointOptions, LpipsOptions


def encoder_of_idinvert(given: CheckpointOptions) -> Path:
    """The one encoder; refuses what such a bundle cannot have."""
    if given.checkpoint is not None or given.w_encoder is not None:
        raise HyperStyleError(
            "HyperStyle checkpoints are for StyleGAN2, and this generator is IDInvert's; give its "
            "--encoder alone."
        )
    for option, path in (("--draft", given.draft), ("--restyle", given.restyle)):
        if path is not None:
            raise HyperStyleError(f"{option} is for the generator of photographs; leave it out.")
    _refuse_options_of_families(given)
    encoders = given.encoder or []
    if len(encoders) != 1:
        raise HyperStyleError(
            "IDInvert's generator takes one --encoder, the '..._encoder.pth' of the same model; "
            "give one."
        )
    return Path(encoders[0].removeprefix("idinvert="))


def encoder_of_photographs(request: BuildRequest) -> Path:
    """The one encoder; refuses what such a bundle cannot have."""
    given, encoders = request.checkpoints, request.checkpoints.encoder or []
    if given.checkpoint is not None or given.w_encoder is not None:
        raise HyperStyleError(
            "HyperStyle checkpoints are for StyleGAN2; give --encoder for this generator."
        )
    _refuse_options_of_families(given)
    refuse_vgg16(request.lpips)
    if len(encoders) != 1:
        raise HyperStyleError("the generator of photographs takes one --encoder; give one.")
    return Path(encoders[0])


def _refuse_options_of_families(given: CheckpointOptions) -> None:
    """Refuse what has no effect where one encoder goes with one generator."""
    options = {
        "--dataset-type": given.dataset_type is not None,
        "--allow-other-generator": given.allow_other_generator,
    }
    for option, is_given in options.items():
        if is_given:
            raise HyperStyleError(f"{option} is for StyleGAN2 and StyleGAN3; leave it out.")


def refuse_vgg16(options: LpipsOptions) -> None:
    """Refuse the network of IDInvert's optimisation where the generator is another."""
    if options.refine_vgg16 is not None:
        raise HyperStyleError(
            "--refine-vgg16 is for IDInvert; give its generator with --generator, or leave it out."
        )
