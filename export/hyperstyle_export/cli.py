"""Command line of build_engines.py: checkpoints, or a fine-tuned generator -> engine bundle."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import typer
from hyperstyle_rt.cli.option_groups import command
from hyperstyle_rt.cli.program import Command, CommandGroup
from hyperstyle_rt.cli.terminal import (
    NoteHandler,
    facts_table,
    figures_table,
    print_error,
    print_tables,
)
from hyperstyle_rt.errors import HyperStyleError

from .building import build_adapted, build_bundle, build_plans
from .requests import AdaptRequest, BuildRequest, BundleOptions, PlanOptions, TritonRequest

BUILD_EXAMPLES = """
[bold]Examples[/bold]

python export/build_engines.py --checkpoint hyperstyle_ffhq.pt --w-encoder faces_w_encoder.pt \
--out engines/ffhq --domain faces

python export/build_engines.py --checkpoint hyperstyle_ffhq.pt --w-encoder faces_w_encoder.pt \
--encoder e4e_ffhq_encode.pt --encoder restyle_e4e_ffhq_encode.pt --out engines/ffhq

python export/build_engines.py --checkpoint hyperstyle_cars.pt --w-encoder cars_w_encoder.pt \
--out engines/cars --storage fp16

python export/build_engines.py --checkpoint hyperstyle_ffhq.pt --w-encoder faces_w_encoder.pt \
--out engines/ffhq --precision fp32,fp16 --tensorrt

python export/build_engines.py --checkpoint hyperstyle_ffhq.pt --w-encoder faces_w_encoder.pt \
--out engines/ffhq --precision fp32,fp16 --tensorrt-rtx --sm 89

python export/build_engines.py --checkpoint hyperstyle_ffhq.pt --w-encoder faces_w_encoder.pt \
--out engines/ffhq --refine-lpips alexnet.ckpt --refine-lpips-heads alex.pth

python export/build_engines.py --generator random_face-2021.7.21.1-py3-none-any.whl \
--encoder encoder.safetensors --restyle restyle.safetensors --draft head256.safetensors \
--refine-lpips alexnet.ckpt --refine-lpips-heads alex.pth --out engines/faces --storage fp16

python export/build_engines.py --generator styleganinv_ffhq256_generator.pth \
--encoder styleganinv_ffhq256_encoder.pth --refine-vgg16 vgg16.pth --out engines/idinvert

A fine-tuned generator has options of its own: python export/build_engines.py --adapt --help
So has a model repository for Triton: python export/build_engines.py --triton --help
"""

ADAPT_EXAMPLES = """
[bold]Examples[/bold]

python export/build_engines.py --adapt toonify.pt --base engines/ffhq --out engines/toon

python export/build_engines.py --adapt toonify.pt --base engines/ffhq --out engines/toon \
--tensorrt
"""

TRITON_EXAMPLES = """
[bold]Examples[/bold]

python export/build_engines.py --triton models --bundle faces

python export/build_engines.py --triton models --bundle engines/ffhq --precision fp16 --kind gpu

tritonserver --model-repository models
"""

BUILD_COMMAND = "build"
BY_OPTION = {"--adapt": "adapt", "--triton": "triton"}
"""Option -> internal name of its command, which users do not type."""


class CommandByOption(CommandGroup):
    """Commands of one script: with --adapt or --triton these, else that which builds a bundle.

    The types of contexts and commands are click's in some versions of typer, its own in others.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Put the name of the command before its options."""
        words = [word.partition("=")[0] for word in args]
        named = next((BY_OPTION[word] for word in words if word in BY_OPTION), BUILD_COMMAND)
        if named != BUILD_COMMAND and "--help" in args:
            args = ["--help"]  # also where the option has no value yet
        return super().parse_args(ctx, [named, *args])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Give the command that :meth:`parse_args` has named; its usage shows no name."""
        return "", self.get_command(ctx, args[0]), args[1:]


def build(request: BuildRequest) -> None:
    """Turn checkpoints into an engine bundle of ONNX graphs: of HyperStyle, pSp, e4e, ReStyle, ...

    Any set that shares one generator makes one bundle, with a method for each.

    Nothing in the files is executed. The bundle appears whole or not at all; before it does, it is
    run in ONNX Runtime beside the torch networks, and the differences go into its manifest.
    TensorRT plans are added after that; where they cannot be built, the bundle is kept without
    them and the exit status is 1.
    """
    request = replace(request, bundle=_resolved(request.bundle))
    _run(request.bundle, request.plans, lambda: build_bundle(request))


def adapt(request: AdaptRequest) -> None:
    """Turn a fine-tuned generator into a bundle that renders what its base inverts.

    Its storage and precisions are those of the base. Nothing in the file is executed, and the
    bundle appears whole or not at all.
    """
    request = replace(request, bundle=_resolved(request.bundle))
    _run(request.bundle, request.plans, lambda: build_adapted(request))


def triton(request: TritonRequest) -> None:
    """Write the models of a bundle into a model repository of Triton.

    NAME_invert and NAME_edit take pictures and inversions; they call the graphs, which are models
    of their own. Triton's Python needs hyperstyle-rt: pip install hyperstyle-rt.
    """
    from hyperstyle_rt.formats.bundle import Bundle
    from hyperstyle_rt.formats.bundle_lookup import find_bundle

    from .triton.config import Instances
    from .triton.repository import write_repository

    instances = Instances(loops=request.instances, kind=f"KIND_{request.kind.name}")
    try:
        bundle = Bundle.open(find_bundle(request.bundle))
        names = write_repository(
            bundle, request.triton, request.precision, instances, request.force, request.plans
        )
    except HyperStyleError as error:
        print_error(str(error))
        raise typer.Exit(2) from None
    facts = {"directory": str(request.triton), "models": ", ".join(names)}
    print_tables(facts_table("Model repository", facts), to_error=True)


app = typer.Typer(
    cls=CommandByOption,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command(BUILD_COMMAND, cls=Command, epilog=BUILD_EXAMPLES)(command(BuildRequest, build))
app.command(BY_OPTION["--adapt"], cls=Command, epilog=ADAPT_EXAMPLES)(command(AdaptRequest, adapt))
app.command(BY_OPTION["--triton"], cls=Command, epilog=TRITON_EXAMPLES)(
    command(TritonRequest, triton)
)


def _resolved(options: BundleOptions) -> BundleOptions:
    return replace(options, out=options.out.resolve())  # the working directory may be replaced


def _run(options: BundleOptions, plans: PlanOptions, work: Callable[[], dict[str, Any]]) -> None:
    """Write a bundle and its plans and show what was measured; the exit status tells the rest."""
    logging.basicConfig(format="%(message)s", handlers=[NoteHandler()])
    try:
        if plans.tensorrt_rtx != (plans.sm is not None):
            raise HyperStyleError("--tensorrt-rtx and --sm go together; give both or neither.")
        if plans.details and not plans.are_wanted:
            raise HyperStyleError(
                f"{plans.details[0]} is for TensorRT plans; give --tensorrt or --tensorrt-rtx, "
                "too, or leave it out."
            )
        figures = work()
    except HyperStyleError as error:
        print_error(str(error))
        raise typer.Exit(2) from None
    print_tables(figures_table("Bundle", {"directory": str(options.out), **figures}), to_error=True)
    if not plans.are_wanted:
        return
    try:
        sizes = build_plans(options.out, plans)
    except HyperStyleError as error:
        print_error(f"{error}; the ONNX bundle in {options.out} is whole without plans.")
        raise typer.Exit(1) from None
    print_tables(facts_table("TensorRT plans", sizes), to_error=True)
