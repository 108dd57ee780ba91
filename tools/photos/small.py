"""The small twin of a generator: its first blocks and an RGB head fitted to them.

MobileStyleGAN is published with its last head only, so a loss at 256 px would pay for 1024. A head
for the features of fewer blocks, fitted to renders of the whole generator, gives pictures of twice
their side for a fraction of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from hyperstyle_export.graphs.builder import BATCH, GraphBuilder
from hyperstyle_export.graphs.mobilestylegan import MobileSynthesis
from hyperstyle_export.networks.mobilestylegan import (
    START_SIDE,
    Kernels,
    MobileStyleGan,
    PictureHead,
    model_from_state,
)
from hyperstyle_export.readers.mobilestylegan_ir import read_random_face
from hyperstyle_rt.files import write_atomically
from hyperstyle_rt.formats.tensors import serialize
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .errors import PhotosError

AVERAGE_SAMPLES = 50_000
AVERAGE_SEED = 0


class SmallGenerator(nn.Module):
    """Latents to small pictures.

    Parameters
    ----------
    model:
        The whole generator.
    head:
        Of the features of its first blocks: a fitted `PictureHead`, or, after all of them, the
        generator's own.
    blocks:
        Blocks before the head.
    """

    def __init__(self, model: MobileStyleGan, head: nn.Module, blocks: int) -> None:
        super().__init__()
        self.synthesis, self.head, self.blocks = model.synthesis, head, blocks

    @property
    def side(self) -> int:
        """Of its pictures."""
        return picture_side(self.blocks)

    def forward(self, latents: Tensor, kernels: Kernels | None = None) -> Tensor:
        """Latents [N,W] or [N,L,W], kernels as `SynthesisNetwork` takes them -> [N,3,side,side].

        The head's style is the row of the last convolution before it.
        """
        row = latents if latents.ndim == 2 else latents[:, 3 * self.blocks]
        features = self.synthesis.features(latents, kernels, self.blocks)
        picture: Tensor = self.head(features, row)
        return picture


def picture_side(blocks: int) -> int:
    """Side of the picture of a head after so many blocks."""
    return START_SIDE * 2 ** (blocks + 1)


def read_generator(path: Path) -> MobileStyleGan:
    """The published generator from the wheel or an installed copy of random-face; frozen."""
    weights = read_random_face(path)
    state = {key: torch.from_numpy(value) for key, value in weights.state.items()}
    return model_from_state(state, weights.config)


def average_latent(model: MobileStyleGan) -> Tensor:
    """Mean of w, [W]; the same every time."""
    random = np.random.default_rng(AVERAGE_SEED)
    z = random.standard_normal((AVERAGE_SAMPLES, model.config.style_width)).astype(np.float32)
    with torch.inference_mode():
        return model.mapping(torch.from_numpy(z)).mean(0)


def save_head(head: PictureHead, blocks: int, path: Path) -> None:
    """Write a fitted head as safetensors."""
    state = {key: value.numpy() for key, value in head.state_dict().items()}
    write_atomically(path, serialize(state, {"blocks": str(blocks)}), PhotosError)


def read_head(path: Path, model: MobileStyleGan, blocks: int) -> PictureHead:
    """Read a head fitted to the features after `blocks` blocks.

    Raises
    ------
    PhotosError
        If the file cannot be read or is of other features.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise PhotosError(f"cannot read the head {path}: {error}") from error
    width = len(state.get("squeeze.bias", ()))
    head = PictureHead(model.config.channels[blocks], model.config.style_width, width)
    own: Mapping[str, Tensor] = head.state_dict()
    if state.keys() != own.keys() or any(state[k].shape != own[k].shape for k in own):
        raise PhotosError(f"{path} is no head for the features after {blocks} blocks; fit one")
    head.load_state_dict(state)
    return head.eval().requires_grad_(False)


def build_small_generator(model: MobileStyleGan, head: PictureHead | None, blocks: int) -> ir.Model:
    """`SmallGenerator` as a graph, for rendering: w [N,W] -> picture [N,3,side,side].

    Without a head, the whole generator's picture averaged to that side.
    """
    b, side = GraphBuilder("small_generator"), picture_side(blocks)
    latents = b.input("w", [BATCH, model.config.style_width])
    synthesis = MobileSynthesis(b, model, latents)
    if head is None:
        window = [model.config.resolution // side] * 2
        whole = synthesis.picture(synthesis.features(model.config.blocks))
        picture = b.op("AveragePool", whole, kernel_shape=window, strides=window)
    else:
        state = {f"head.{key}": value for key, value in head.state_dict().items()}
        picture = synthesis.head(synthesis.features(blocks), state)
    b.output("picture", picture, [BATCH, 3, side, side])
    return b.build()
