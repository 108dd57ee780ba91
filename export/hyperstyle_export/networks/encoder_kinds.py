"""The encoders that files of pSp, e4e and ReStyle hold, by the names of their official classes."""

from __future__ import annotations

from dataclasses import dataclass

from .config import Body, Head


@dataclass(frozen=True)
class EncoderKind:
    """An official class of encoder.

    Attributes
    ----------
    method:
        The method that it is, as users name it.
    is_iterative:
        Whether it reads its own last reconstruction beside the picture: ReStyle.
    """

    method: str
    body: Body
    head: Head
    is_progressive: bool = False
    is_iterative: bool = False


# What `opts.encoder_type` says -> what the file holds. pSp and ReStyle share the names of their
# feature pyramids: a file of six channels is of ReStyle.
ENCODER_KINDS: dict[str, EncoderKind] = {
    "GradualStyleEncoder": EncoderKind("psp", "ir_se", "pyramid"),
    "BackboneEncoderUsingLastLayerIntoW": EncoderKind("psp-w", "ir_se", "mean"),
    "Encoder4Editing": EncoderKind("e4e", "ir_se", "pyramid", is_progressive=True),
    "SingleStyleCodeEncoder": EncoderKind("e4e-w", "ir_se", "mean"),
    "BackboneEncoder": EncoderKind("restyle-psp", "ir_se", "last", is_iterative=True),
    "ResNetBackboneEncoder": EncoderKind("restyle-psp", "resnet", "last", is_iterative=True),
    "ResNetGradualStyleEncoder": EncoderKind("restyle-psp", "resnet", "pyramid", is_iterative=True),
    "ProgressiveBackboneEncoder": EncoderKind(
        "restyle-e4e", "ir_se", "last", is_progressive=True, is_iterative=True
    ),
    "ResNetProgressiveBackboneEncoder": EncoderKind(
        "restyle-e4e", "resnet", "last", is_progressive=True, is_iterative=True
    ),
}
RESTYLE_PYRAMID = EncoderKind("restyle-psp", "ir_se", "pyramid", is_iterative=True)

ENCODER_METHODS = tuple(dict.fromkeys(kind.method for kind in ENCODER_KINDS.values()))
"""The methods that are an encoder alone: psp, psp-w, e4e, e4e-w, restyle-psp, restyle-e4e."""


def role_of(method: str) -> str:
    """Role of the graph of such a method."""
    return method.replace("-", "_")
