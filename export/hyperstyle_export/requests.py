"""What the build commands are asked for: their options."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLE_PICTURE = Path(__file__).resolve().parents[2] / "examples" / "portrait_0.png"
CHECKPOINTS, BUNDLE, TENSORRT, REFINEMENT = "Checkpoints", "Bundle", "TensorRT", "Refinement"
TRITON = "Triton"


def _option(*names: str, says: str, panel: str, **more: Any) -> Any:
    return typer.Option(*names, help=says, rich_help_panel=panel, show_default=False, **more)


def _flag(name: str, *, says: str, panel: str) -> Any:
    return _option(name, says=says, panel=panel, metavar="")


class Storage(str, Enum):
    """Type the weights are stored in."""

    FP32 = "fp32"
    FP16 = "fp16"


class Precision(str, Enum):
    """Precisions the bundle has graphs in."""

    FP32 = "fp32"
    FP32_FP16 = "fp32,fp16"


@dataclass(frozen=True)
class BundleOptions:
    """Where the bundle goes and what its manifest says."""

    out: Annotated[Path, _option("--out", "-o", says="Bundle directory to write.", panel=BUNDLE)]
    name: Annotated[str | None, _option(says="Bundle name; default: from --out.", panel=BUNDLE)] = (
        None
    )
    domain: Annotated[str, _option(says="What the pictures show.", panel=BUNDLE)] = "unknown"
    license: Annotated[
        str, _option(says="Licence of the weights, for the manifest.", panel=BUNDLE)
    ] = "unknown"
    training: Annotated[
        Path | None,
        _option(says="JSON file with training facts, for the manifest.", panel=BUNDLE),
    ] = None
    picture: Annotated[
        Path, _option(says="Aligned picture to measure the finished bundle with.", panel=BUNDLE)
    ] = EXAMPLE_PICTURE
    force: Annotated[bool, _flag("--force", says="Replace an existing bundle.", panel=BUNDLE)] = (
        False
    )


@dataclass(frozen=True)
class LpipsOptions:
    """The network that refinements follow: LPIPS, both files or none; or IDInvert's VGG16."""

    refine_lpips: Annotated[
        Path | None,
        _option(
            says="AlexNet or VGG16: refinements then follow LPIPS. The weights go into the "
            "bundle and stay under their own licence.",
            panel=REFINEMENT,
        ),
    ] = None
    refine_lpips_heads: Annotated[
        Path | None, _option(says="LPIPS heads of the same network.", panel=REFINEMENT)
    ] = None
    refine_vgg16: Annotated[
        Path | None,
        _option(
            says="The vgg16.pth of IDInvert's authors: its optimisation then is the published one.",
            panel=REFINEMENT,
        ),
    ] = None


@dataclass(frozen=True)
class PlanOptions:
    """The TensorRT plans that are wanted, and how they are built."""

    tensorrt: Annotated[
        bool,
        _flag(
            "--tensorrt", says="Also build TensorRT plans for this machine's GPU.", panel=TENSORRT
        ),
    ] = False
    tensorrt_rtx: Annotated[
        bool,
        _flag(
            "--tensorrt-rtx", says="Also build TensorRT-RTX plans, for any --sm.", panel=TENSORRT
        ),
    ] = False
    sm: Annotated[
        int | None,
        _option(says="Compute capability for --tensorrt-rtx: 89 is 8.9.", panel=TENSORRT),
    ] = None
    workspace: Annotated[
        int | None,
        _option(says="MiB of GPU memory a TensorRT layer may use.", panel=TENSORRT, min=1),
    ] = None
    timing_cache: Annotated[
        Path | None,
        _option(says="File of kernel times, for faster builds on one GPU.", panel=TENSORRT),
    ] = None
    layer_report: Annotated[
        bool,
        _flag("--layer-report", says="Write the engine inspector's output.", panel=TENSORRT),
    ] = False

    @property
    def are_wanted(self) -> bool:
        """Whether any plans are."""
        return self.tensorrt or self.tensorrt_rtx

    @property
    def details(self) -> list[str]:
        """The options given that say how plans are built."""
        given = {
            "--workspace": self.workspace is not None,
            "--timing-cache": self.timing_cache is not None,
            "--layer-report": self.layer_report,
        }
        return [option for option, is_given in given.items() if is_given]


@dataclass(frozen=True)
class CheckpointOptions:
    """The files of a bundle, all of one generator."""

    checkpoint: Annotated[
        Path | None, _option(says="HyperStyle checkpoint (.pt).", panel=CHECKPOINTS)
    ] = None
    w_encoder: Annotated[
        Path | None, _option(says="Its W-encoder's checkpoint (.pt).", panel=CHECKPOINTS)
    ] = None
    encoder: Annotated[
        list[str] | None,
        _option(
            says="pSp, e4e or ReStyle checkpoint (.pt); give one for each method. The file says "
            "which it is, or you do: e4e=FILE. Or IDInvert's (.pth). Of photographs, the one of "
            "tools/photos (.safetensors).",
            panel=CHECKPOINTS,
            metavar="[METHOD=]FILE",
        ),
    ] = None
    generator: Annotated[
        Path | None,
        _option(
            says="StyleGAN2 generator (.pt with g_ema, or NVIDIA's .pkl) that the others are for; "
            "default: the one in the first of them. Or StyleGAN3's (.pkl), alone or with encoders. "
            "Or IDInvert's (.pth). Or the generator of photographs: the wheel of random-face, or "
            "the folder of the installed package.",
            panel=CHECKPOINTS,
        ),
    ] = None
    draft: Annotated[
        Path | None,
        _option(
            says="Head of a draft for the generator of photographs (.safetensors, by tools/photos "
            "heads): descent then takes most steps on its first blocks alone.",
            panel=CHECKPOINTS,
        ),
    ] = None
    restyle: Annotated[
        Path | None,
        _option(
            says="Learnt step of the latents for the generator of photographs (.safetensors, by "
            "tools/photos): the method restyle.",
            panel=CHECKPOINTS,
        ),
    ] = None
    dataset_type: Annotated[
        str | None,
        _option(says="Replaces the checkpoints' option; 'cars' crops rows.", panel=CHECKPOINTS),
    ] = None
    allow_other_generator: Annotated[
        bool,
        _flag(
            "--allow-other-generator",
            says="Take files whose generator differs in values; the bundle's serves all.",
            panel=CHECKPOINTS,
        ),
    ] = False


@dataclass(frozen=True)
class BuildRequest:
    """Checkpoints -> bundle."""

    checkpoints: CheckpointOptions
    bundle: BundleOptions
    storage: Annotated[
        Storage,
        typer.Option(help="fp16 halves the files; arithmetic stays in float32."),
    ] = Storage.FP32
    precision: Annotated[
        Precision,
        typer.Option(help="fp32,fp16 adds graphs whose arithmetic is fp16, for GPUs."),
    ] = Precision.FP32
    lpips: LpipsOptions = LpipsOptions()
    plans: PlanOptions = PlanOptions()


@dataclass(frozen=True)
class AdaptRequest:
    """A fine-tuned generator and its base -> adapted bundle."""

    adapt: Annotated[
        Path, _option(says="Fine-tuned generator (.pt with g_ema, or .pkl).", panel=CHECKPOINTS)
    ]
    base: Annotated[
        Path, _option(says="Bundle the generator was fine-tuned from.", panel=CHECKPOINTS)
    ]
    bundle: BundleOptions
    plans: PlanOptions = PlanOptions()


class Kind(str, Enum):
    """Where Triton runs the models of a repository."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True)
class TritonRequest:
    """A bundle -> model repository."""

    triton: Annotated[
        Path,
        _option(
            "--triton", says="Model repository to write the bundle's models into.", panel=TRITON
        ),
    ]
    bundle: Annotated[
        str | None,
        _option(says="Bundle directory or name; default: the embedded one.", panel=TRITON),
    ] = None
    precision: Annotated[
        str, typer.Option(help="Of the graphs: fp32, or fp16 if the bundle has it.", metavar="NAME")
    ] = "fp32"
    plans: Annotated[
        str | None,
        _option(
            says="TensorRT plans of the bundle in place of its graphs: VERSION-smARCH-PRECISION.",
            panel=TRITON,
        ),
    ] = None
    kind: Annotated[
        Kind,
        typer.Option(help="Where the models run: on a GPU if there is one, or say which."),
    ] = Kind.AUTO
    instances: Annotated[
        int, typer.Option(min=1, help="Inversions and edits at once.", metavar="N")
    ] = 2
    force: Annotated[
        bool, _flag("--force", says="Replace models of the same names.", panel=TRITON)
    ] = False
