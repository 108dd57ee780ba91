"""Any set of checkpoints that share one generator -> the networks of one bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..networks.config import HyperStyleConfig
from ..networks.family import Family
from ..networks.generator import Generator
from ..networks.hyperstyle import HyperStyle
from .checkpoints import check_fir, crop_rows, input_size, layout_of, load_strictly
from .encoders import EncoderFile, EncoderSource, load_encoder, read_encoder
from .layouts import infer_generator
from .official import check_input_size, latent_average, load_model, read_generator
from .stylegan3 import is_stylegan3
from .torch_files import CheckpointError

# What two files of one generator may differ in: it is no part of the synthesis.
_NOT_COMPARED = ("style.",)


@dataclass(frozen=True)
class Sources:
    """The files of a bundle.

    Attributes
    ----------
    hyperstyle:
        HyperStyle's checkpoint and its W-encoder's; None for a bundle without.
    encoders:
        Of pSp, e4e and ReStyle.
    generator:
        A StyleGAN2 file that all others are for; None to take that of the first of them.
    dataset_type:
        Replaces the files' own option; one that contains "cars" crops rows.
    allow_other_generator:
        Whether a file's generator may differ in values from the bundle's, which then serves.
    """

    hyperstyle: tuple[Path, Path] | None = None
    encoders: Sequence[EncoderSource] = ()
    generator: Path | None = None
    dataset_type: str | None = None
    allow_other_generator: bool = False


@dataclass(frozen=True)
class _Base:
    """The generator of a bundle and the file it is from."""

    decoder: Mapping[str, Tensor]
    path: Path
    resolution: int


def load_family(sources: Sources, files: Sequence[EncoderFile] | None = None) -> Family:
    """Read files into networks, and refuse those that are not of one generator.

    Parameters
    ----------
    files:
        The encoders' files, if they have been read.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged, of another kind, of an unsupported layout, or for another
        generator than the others.
    """
    if files is None:
        files = [read_encoder(source) for source in sources.encoders]
    check_methods(files)
    _check_families(files)
    given = None if sources.generator is None else read_generator(sources.generator)
    if sources.hyperstyle is not None:
        model, path = load_model(*sources.hyperstyle, sources.dataset_type), sources.hyperstyle[0]
        if sources.generator is not None and given is not None:
            decoder, _ = given
            base = _base(decoder, sources.generator)
            _check_generator(model.decoder.state_dict(), path, base, sources.allow_other_generator)
            config = replace(model.config, generator=decoder.config)
            _check_tuned(model.config, config, path, sources.generator)
            model.decoder, model.config = decoder, config
            path = sources.generator
    else:
        model, path = _model_of_encoders(sources, files, given)
    base = _base(model.decoder, path)
    for file in files:
        if file.decoder:
            _check_generator(file.decoder, file.path, base, sources.allow_other_generator)
        _check_geometry(file, model.config, sources, path)
    return Family(model, {file.kind.method: load_encoder(file, model) for file in files})


def _base(decoder: Generator, path: Path) -> _Base:
    return _Base(decoder.state_dict(), path, decoder.config.resolution)


def check_methods(files: Sequence[EncoderFile]) -> None:
    """A bundle has one encoder of a kind."""
    seen: dict[str, Path] = {}
    for file in files:
        other = seen.setdefault(file.kind.method, file.path)
        if other is not file.path:
            raise CheckpointError(
                f"{file.path} and {other} are both {file.kind.method} encoders; a bundle has one "
                "of a kind: build two bundles; where both have the same generator, inversions of "
                "one go with the other."
            )


def _model_of_encoders(
    sources: Sources, files: Sequence[EncoderFile], given: tuple[Generator, Tensor | None] | None
) -> tuple[HyperStyle, Path]:
    """The generator alone, given or that of the first file that has one."""
    first = next((file for file in files if file.decoder), files[0])
    if sources.generator is not None and given is not None:
        (decoder, average), path = given, sources.generator
        average = first.latent_avg if average is None else average
    elif first.decoder:
        decoder, average, path = _decoder(first), first.latent_avg, first.path
    else:
        raise CheckpointError(
            f"{first.path} has no 'decoder.' keys: it holds an encoder without its generator; give "
            "the generator with --generator."
        )
    said = sources.dataset_type
    kind = (first.dataset_type or "") if said is None else said
    size = input_size(kind, first.opts, first.path)
    model = HyperStyle.of_generator(decoder, (), size, crop_rows(kind, decoder.config))
    check_input_size(model.config, first.path)
    model.latent_avg = latent_average(average, decoder, path)
    return model, path


def _decoder(file: EncoderFile) -> Generator:
    check_fir(file.decoder, file.path, "decoder")
    with layout_of(file.path):
        config = infer_generator(file.decoder)
    with torch.device("meta"):
        decoder = Generator(config)
    load_strictly(decoder, file.decoder, file.path, "decoder")
    return decoder


def _check_families(files: Sequence[EncoderFile]) -> None:
    """Refuse what is for a generator of another family than StyleGAN2."""
    for file in files:
        if is_stylegan3(file.decoder):
            raise CheckpointError(
                f"{file.path} is for a generator of StyleGAN3, and the others are not: the files "
                "are not of one model."
            )


def _check_generator(
    decoder: Mapping[str, Tensor], path: Path, base: _Base, allow_others: bool
) -> None:
    """Refuse a file whose generator is not the bundle's."""
    with layout_of(path):
        resolution = infer_generator(decoder).resolution
    if resolution != base.resolution:
        raise CheckpointError(
            f"{path} is for a generator of {resolution} px, but that of {base.path} has "
            f"{base.resolution} px: the files are not of one model."
        )
    if not allow_others:
        check_values(decoder, path, base.decoder, base.path, _NOT_COMPARED)


def _check_tuned(
    trained: HyperStyleConfig, given: HyperStyleConfig, path: Path, generator: Path
) -> None:
    """Refuse a generator whose kernels have other shapes than those HyperStyle makes offsets to."""
    own, other = trained.generator.style_width, given.generator.style_width
    if own != other:
        raise CheckpointError(
            f"{path} makes latents of width {own}, but the generator in {generator} wants {other}; "
            "give one of that width."
        )
    for ours, theirs in zip(trained.tuned, given.tuned, strict=True):
        if ours.weight_shape != theirs.weight_shape:
            raise CheckpointError(
                f"{path} changes kernels of shape {ours.weight_shape} in {ours.name!r}, but those "
                f"of the generator in {generator} have {theirs.weight_shape} there; give one of "
                "the same channels."
            )


def check_values(
    decoder: Mapping[str, Tensor],
    path: Path,
    base: Mapping[str, Tensor],
    base_path: Path,
    not_compared: tuple[str, ...],
) -> None:
    """Refuse a file whose generator has other values than a bundle's.

    Parameters
    ----------
    decoder, path:
        The file's generator, and the file.
    base, base_path:
        The bundle's.
    not_compared:
        How the names of tensors begin that are no part of the synthesis.
    """
    for key, value in base.items():
        if key.startswith(not_compared):
            continue
        own = decoder.get(key)
        if own is None or own.shape != value.shape:
            difference = "lacks it" if own is None else f"has shape {tuple(own.shape)}"
        elif torch.equal(own, value):
            continue
        else:
            change = float((own - value).norm() / value.norm().clamp(min=1e-30))
            difference = f"differs by {change:.2g} of its size"
        raise CheckpointError(
            f"the generator of {path} is not that of {base_path} ('decoder.{key}' {difference}), "
            "so that latents of one mean something else to the other; give files of one generator, "
            f"or --allow-other-generator to render all with that of {base_path.name}."
        )


def _check_geometry(
    file: EncoderFile, config: HyperStyleConfig, sources: Sources, base: Path
) -> None:
    """Refuse a file for pictures of another shape."""
    if sources.dataset_type is not None or file.dataset_type is None:
        return
    rows = crop_rows(file.dataset_type, config.generator)
    size = input_size(file.dataset_type, file.opts, file.path)
    if (rows, size) != (config.crop_rows, config.input_size):
        height, width = config.input_size
        raise CheckpointError(
            f"{file.path} is for pictures of {size[0]} x {size[1]} "
            f"(opts.dataset_type {file.dataset_type!r}), and {base} for {height} x {width}: the "
            "files are not of one model; if they are, say what it shows with --dataset-type."
        )
