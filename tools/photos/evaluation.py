"""How well an encoder's latents reconstruct photographs: L2, LPIPS and identity at 256 px."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from evaluation.identity import load_identity
from evaluation.metrics import squared_error
from hyperstyle_export.networks.latent_encoder import FeaturesConfig, LatentEncoder
from hyperstyle_export.networks.lpips import Lpips
from hyperstyle_export.networks.mobilestylegan import MobileStyleGan
from hyperstyle_export.readers.lpips import load_lpips
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .errors import PhotosError

SIDE = 256


@dataclass(frozen=True)
class Judges:
    """Networks that compare pictures; identity is None where no file was given."""

    lpips: Lpips
    identity: nn.Module | None

    @staticmethod
    def read(lpips_backbone: Path, lpips_heads: Path, identity: Path | None) -> Judges:
        """Read their files.

        Raises
        ------
        CheckpointError, EvaluationError, TrainingError
            If one cannot be read or is of no known network.
        """
        known = None if identity is None else load_identity(identity)
        return Judges(load_lpips(lpips_backbone, lpips_heads), known)


@dataclass(frozen=True)
class Figures:
    """Of every picture, [N] each; identity is the distance of unit embeddings."""

    l2: Tensor
    lpips: Tensor
    identity: Tensor | None

    def summary(self) -> dict[str, float]:
        """Means of L2 and LPIPS, the median of identity."""
        figures = {"l2": float(self.l2.mean()), "lpips": float(self.lpips.mean())}
        if self.identity is not None:
            figures["identity"] = float(self.identity.median())
        return figures


def read_encoder(path: Path) -> tuple[LatentEncoder, Tensor]:
    """Read what `save_encoder` wrote: the network in float32, and the average latent.

    Raises
    ------
    PhotosError
        If the file cannot be read or is of another network.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise PhotosError(f"cannot read the encoder {path}: {error}") from error
    encoder = LatentEncoder(FeaturesConfig(), state.get("latent_avg", torch.zeros(1)).numel())
    own = encoder.state_dict()
    read = {k: state[f"encoder.{k}"].float() for k in own if f"encoder.{k}" in state}
    fits = "latent_avg" in state and all(k in read and read[k].shape == own[k].shape for k in own)
    if not fits:
        raise PhotosError(f"{path} is no encoder of photographs; train one")
    encoder.load_state_dict(read)
    return encoder.eval().requires_grad_(False), state["latent_avg"]


def read_photographs(paths: Sequence[Path]) -> Tensor:
    """Aligned pictures as [N,3,256,256] in [-1,1].

    Raises
    ------
    PictureError
        If one cannot be read; it is named.
    """
    pictures: list[NDArray[np.uint8]] = [
        resize_bilinear(read_picture(path), (SIDE, SIDE)) for path in paths
    ]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def reconstructed(
    encoder: LatentEncoder, average: Tensor, model: MobileStyleGan, pictures: Tensor
) -> Tensor:
    """What the whole generator makes of the pictures' latents, averaged to 256 px, in [-1,1]."""
    made = []
    with torch.inference_mode():
        for picture in torch.split(pictures, 1):
            rendered = model.synthesis(encoder(picture) + average)
            made.append(F.avg_pool2d(rendered, rendered.shape[-1] // SIDE).clamp(-1, 1))
    return torch.cat(made)


def compared(made: Tensor, truth: Tensor, judges: Judges) -> Figures:
    """Figures of reconstructions [N,3,256,256] beside the pictures themselves."""
    pairs = list(zip(torch.split(made, 8), torch.split(truth, 8), strict=True))
    with torch.inference_mode():
        distances = torch.cat([judges.lpips(a, b) for a, b in pairs])
        faces, identity = None, judges.identity
        if identity is not None:
            faces = torch.cat([(identity(a) - identity(b)).norm(dim=1) for a, b in pairs])
        return Figures(squared_error(made, truth), distances, faces)
