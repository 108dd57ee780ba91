"""The steps of the build commands, in order; each shows what it does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import read_regular, sha256
from hyperstyle_rt.formats import strict_json
from hyperstyle_rt.formats.bundle import MAX_MANIFEST_SIZE, Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .refusals import encoder_of_idinvert, encoder_of_photographs, refuse_vgg16
from .requests import (
    AdaptRequest,
    BuildRequest,
    BundleOptions,
    CheckpointOptions,
    LpipsOptions,
    PlanOptions,
)

if TYPE_CHECKING:
    from hyperstyle_rt.backends.plans.build import Target

    from .bundles.writer import BundleFacts
    from .graphs.storage import Storage
    from .networks.lpips import Lpips
    from .networks.vgg16 import Vgg16Features
    from .readers.family import Sources

# torch and onnx take seconds to import: modules that need them are imported where they are used, so
# that --help does without.

console = Console(stderr=True)

OnProgress = Callable[[str], None]


@contextmanager
def progress(first: str) -> Iterator[OnProgress]:
    """Show what is done and for how long, on a terminal only."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as shown:
        task = shown.add_task(first)
        yield lambda step: shown.update(task, description=step)


def build_bundle(request: BuildRequest) -> dict[str, Any]:
    """Checkpoints -> bundle; gives the figures measured."""
    from hyperstyle_rt.imaging.pictures import read_picture

    from .building_stylegan3 import StyleGan3Request, build_stylegan3
    from .bundles.half_graphs import add_half_graphs
    from .bundles.staging import staged
    from .bundles.verification import check_accuracy, measure_accuracy, measure_half
    from .bundles.writer import write_bundle, write_manifest
    from .readers.encoders import read_encoder
    from .readers.family import load_family
    from .readers.lpips import load_lpips
    from .readers.stylegan3_family import find_stylegan3

    options, checkpoints = request.bundle, request.checkpoints
    storage: Storage = "fp16" if request.storage.value == "fp16" else "fp32"
    if checkpoints.generator is not None and holds_photographs(checkpoints.generator):
        return build_photographs(request, checkpoints.generator, storage)
    if checkpoints.generator is not None and holds_stylegan1(checkpoints.generator):
        return build_idinvert(request, checkpoints.generator, storage)
    refuse_vgg16(request.lpips)
    if checkpoints.draft is not None or checkpoints.restyle is not None:
        raise HyperStyleError(
            "--draft and --restyle are for the generator of photographs; leave them out."
        )
    sources = _sources(checkpoints)
    lpips_files = _lpips_files(request.lpips)
    facts, example = _facts(options), read_picture(options.picture)
    with progress("checkpoints") as on_progress, staged(options.out, options.force) as stage:
        files = [read_encoder(source) for source in sources.encoders]
        found = find_stylegan3(sources, files)
        if found is not None:
            methods = [file.kind.method for file in files]
            facts = _from_files(facts, _files(sources, methods) | (lpips_files or {}))
            given = StyleGan3Request(*found, sources, files, lpips_files, facts, storage)
            return build_stylegan3(given, request.precision, example, stage, on_progress)
        _check_inverts(sources)
        family = load_family(sources, files)
        model, encoders = family.model, family.encoders
        if lpips_files is not None and not model.has_hypernetwork:
            raise HyperStyleError(
                "a bundle without HyperStyle refines nothing; leave out --refine-lpips, or give "
                "--checkpoint and --w-encoder."
            )
        lpips = None if lpips_files is None else load_lpips(*lpips_files.values())
        facts = _from_files(facts, _files(sources, encoders) | (lpips_files or {}))
        bundle = write_bundle(model, stage, facts, storage, on_progress, lpips, encoders)
        on_progress("comparison with the torch reference")
        figures = measure_accuracy(model, bundle, example, encoders)
        check_accuracy(figures, storage)
        if "fp16" in request.precision.value:
            bundle = add_half_graphs(model, bundle, on_progress, encoders)
            on_progress("comparison of fp16 with fp32")
            figures["fp16"] = measure_half(bundle, example)
        write_manifest(stage, replace(bundle.manifest, accuracy=figures))
    return figures


def holds_photographs(generator: Path) -> bool:
    """Whether a generator's file is the package random-face: a wheel, or a folder."""
    return generator.suffix == ".whl" or generator.is_dir()


def holds_stylegan1(generator: Path) -> bool:
    """Whether a generator's file is IDInvert's.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    from .readers.idinvert import is_idinvert
    from .readers.network_pickles import SUFFIX
    from .readers.torch_files import read_torch_file

    return generator.suffix.lower() != SUFFIX and is_idinvert(read_torch_file(generator))


def build_idinvert(request: BuildRequest, generator: Path, storage: Storage) -> dict[str, Any]:
    """IDInvert's encoder and generator -> bundle; gives the figures measured."""
    from hyperstyle_rt.imaging.pictures import read_picture

    from .bundles.idinvert_verification import measure_idinvert
    from .bundles.idinvert_writer import add_idinvert_half_graphs, write_idinvert_bundle
    from .bundles.mobile_verification import check_mobile
    from .bundles.staging import staged
    from .bundles.verification import measure_half
    from .bundles.writer import write_manifest
    from .readers.idinvert import read_idinvert

    options, encoder = request.bundle, encoder_of_idinvert(request.checkpoints)
    perceptual_files = _perceptual_files(request.lpips)
    facts, example = _facts(options), read_picture(options.picture)
    with progress("networks") as on_progress, staged(options.out, options.force) as stage:
        model = read_idinvert(generator, encoder, _perceptual(perceptual_files))
        files = {"generator": generator, "encoder": encoder, **perceptual_files}
        facts = _from_files(facts, files)
        bundle = write_idinvert_bundle(model, stage, facts, storage, on_progress)
        on_progress("comparison with the torch reference")
        figures = measure_idinvert(model, bundle, example)
        check_mobile(figures, storage)
        if "fp16" in request.precision.value:
            bundle = add_idinvert_half_graphs(model, bundle, on_progress)
            on_progress("comparison of fp16 with fp32")
            figures["fp16"] = measure_half(bundle, example)
        write_manifest(stage, replace(bundle.manifest, accuracy=figures))
    return figures


def _perceptual_files(options: LpipsOptions) -> dict[str, Path]:
    """What IDInvert's optimisation compares pictures by; no files for none."""
    lpips = _lpips_files(options) or {}
    if options.refine_vgg16 is None:
        return lpips
    if lpips:
        raise HyperStyleError("give --refine-vgg16 or --refine-lpips, not both.")
    return {"refine_vgg16": options.refine_vgg16}


def _perceptual(files: dict[str, Path]) -> Vgg16Features | Lpips | None:
    from .readers.idinvert import read_vgg16
    from .readers.lpips import load_lpips

    if "refine_vgg16" in files:
        return read_vgg16(files["refine_vgg16"])
    return load_lpips(*files.values()) if files else None


def build_photographs(request: BuildRequest, generator: Path, storage: Storage) -> dict[str, Any]:
    """MobileStyleGAN and what was trained for it -> bundle; gives the figures measured."""
    from hyperstyle_rt.imaging.pictures import read_picture

    from .bundles.mobile_verification import check_mobile, measure_mobile
    from .bundles.mobile_writer import STRAIGHT, add_mobile_half_graphs, write_mobile_bundle
    from .bundles.staging import staged
    from .bundles.verification import measure_half
    from .bundles.writer import write_manifest
    from .readers.mobile_parts import read_mobile_model

    options, encoder = request.bundle, encoder_of_photographs(request)
    lpips_files, parts = _lpips_files(request.lpips), request.checkpoints
    trained = {"draft": parts.draft, "restyle": parts.restyle}
    given = {role: path for role, path in trained.items() if path is not None}
    if given and lpips_files is None:
        raise HyperStyleError(
            f"--{next(iter(given))} goes by LPIPS; give --refine-lpips and --refine-lpips-heads, "
            "too."
        )
    files = {"generator": generator, "encoder": encoder, **given, **(lpips_files or {})}
    facts, example = _facts(options), read_picture(options.picture)
    with progress("networks") as on_progress, staged(options.out, options.force) as stage:
        model, digests = read_mobile_model(generator, encoder, **trained, lpips=lpips_files)
        own = {role: file for role, file in files.items() if file.is_file()}
        facts = _from_files(facts, own)
        facts = replace(facts, provenance={**facts.provenance, **digests})
        bundle = write_mobile_bundle(model, stage, facts, storage, on_progress)
        on_progress("comparison with the torch reference")
        figures = measure_mobile(model, bundle, example)
        check_mobile(figures, storage)
        if "fp16" in request.precision.value:
            bundle = add_mobile_half_graphs(model.generator, bundle, on_progress)
            on_progress("comparison of fp16 with fp32")
            figures["fp16"] = measure_half(bundle, example, STRAIGHT)
        write_manifest(stage, replace(bundle.manifest, accuracy=figures))
    return figures


def build_adapted(request: AdaptRequest) -> dict[str, Any]:
    """A fine-tuned generator -> adapted bundle; gives the figures measured."""
    from hyperstyle_rt.imaging.pictures import read_picture

    from .bundles.adapted import load_adapted, measure_adapted, write_adapted
    from .bundles.staging import staged
    from .bundles.writer import write_manifest

    options = request.bundle
    facts, example = _facts(options), read_picture(options.picture)
    base = Bundle.open(find_bundle(request.base))
    if options.out.resolve() == base.directory.resolve():
        raise HyperStyleError(
            f"{options.out} is the bundle that the generator was fine-tuned from, without which "
            "nothing can be adapted; name another --out."
        )
    with progress("generator") as on_progress, staged(options.out, options.force) as stage:
        model = load_adapted(request.adapt, base)
        facts = _from_files(facts, {"generator": request.adapt})
        bundle = write_adapted(model, base, stage, facts, on_progress)
        on_progress("comparison with the torch reference")
        figures = measure_adapted(model, base, bundle, example)
        write_manifest(stage, replace(bundle.manifest, accuracy=figures))
    return figures


def build_plans(out: Path, options: PlanOptions) -> dict[str, str]:
    """Build the TensorRT plans asked for; gives what there is to say about each."""
    from hyperstyle_rt.backends.plans.build import EngineOptions, classic_target, rtx_target
    from hyperstyle_rt.formats.manifest import BASE_PRECISION

    from .engines.plans import add_plans

    bundle = Bundle.open(out)
    targets: list[Callable[[], Target]] = [classic_target] if options.tensorrt else []
    if options.sm is not None:
        targets.append(partial(rtx_target, options.sm))
    engine_options = EngineOptions(
        workspace=None if options.workspace is None else options.workspace << 20,
        timing_cache=options.timing_cache,
        layer_report=options.layer_report,
    )
    said = {}
    with progress("TensorRT") as on_progress:
        for make in targets:
            target = make()
            for precision in (BASE_PRECISION, *bundle.manifest.precisions):
                bundle, built = add_plans(bundle, target, precision, engine_options, on_progress)
                for role, plan in built.items():
                    text = f"{plan.size:,} bytes, {plan.layers} layers, {plan.seconds:.1f} s"
                    said[f"{target.key(precision)}/{role}"] = text
    return said


def _facts(options: BundleOptions) -> BundleFacts:
    """What the manifest is asked to say."""
    from .bundles.writer import BundleFacts

    name, training = options.name or _plain(options.out.name), _training(options.training)
    return BundleFacts(name, options.domain, options.license, training=training)


def _from_files(facts: BundleFacts, files: dict[str, Path]) -> BundleFacts:
    """Facts that name the files the weights come from; a manifest takes names in UTF-8 only."""
    provenance = {
        role: f"{file.name.encode('utf-8', 'replace').decode()} sha256:{sha256(file)}"
        for role, file in files.items()
    }
    return replace(facts, provenance=provenance)


def _plain(directory: str) -> str:
    """Make a bundle's name of its directory's: ``my dir`` -> ``my-dir``."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", directory).strip("-.")[:100] or directory


def _sources(options: CheckpointOptions) -> Sources:
    """The files asked for, if they can make a bundle."""
    from .readers.encoders import EncoderSource
    from .readers.family import Sources

    checkpoint, w_encoder = options.checkpoint, options.w_encoder
    hyperstyle = None
    if checkpoint is not None and w_encoder is not None:
        hyperstyle = checkpoint, w_encoder
    elif checkpoint is not None or w_encoder is not None:
        raise HyperStyleError("HyperStyle needs both; give --checkpoint and --w-encoder.")
    if hyperstyle is None and not options.encoder and options.generator is None:
        raise _nothing()
    return Sources(
        hyperstyle=hyperstyle,
        encoders=tuple(EncoderSource.parse(text) for text in options.encoder or ()),
        generator=options.generator,
        dataset_type=options.dataset_type,
        allow_other_generator=options.allow_other_generator,
    )


def _check_inverts(sources: Sources) -> None:
    """Refuse StyleGAN2's generator alone; one of StyleGAN3 makes a bundle."""
    if sources.hyperstyle is None and not sources.encoders:
        raise _nothing()


def _nothing() -> HyperStyleError:
    return HyperStyleError(
        "nothing to build; give --checkpoint and --w-encoder, or --encoder, or all three."
    )


def _files(sources: Sources, methods: Iterable[str]) -> dict[str, Path]:
    """Files by the names that the provenance gives them."""
    files: dict[str, Path] = {}
    if sources.hyperstyle is not None:
        files["checkpoint"], files["w_encoder"] = sources.hyperstyle
    if sources.generator is not None:
        files["generator"] = sources.generator
    return files | {m: source.path for m, source in zip(methods, sources.encoders, strict=True)}


def _lpips_files(options: LpipsOptions) -> dict[str, Path] | None:
    """Backbone and heads, as the provenance names them; None without them."""
    backbone, heads = options.refine_lpips, options.refine_lpips_heads
    if backbone is None and heads is None:
        return None
    if backbone is None or heads is None:
        raise HyperStyleError("LPIPS needs both; give --refine-lpips and --refine-lpips-heads.")
    return {"refine_lpips": backbone, "refine_lpips_heads": heads}


def _training(path: Path | None) -> dict[str, Any] | None:
    """Training facts for the manifest; None without a file."""
    if path is None:
        return None
    try:
        facts = strict_json.parse(read_regular(path, MAX_MANIFEST_SIZE, HyperStyleError))
    except ValueError as error:
        raise HyperStyleError(f"{path} {error}; give a JSON object") from None
    if not isinstance(facts, dict):
        raise HyperStyleError(f"{path} holds no JSON object of training facts")
    return facts
