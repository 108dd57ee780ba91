"""How well an encoder's latents reconstruct photographs: L2, LPIPS and identity at 256 px."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from evaluation.identity import load_identity
from evaluation.metrics import squared_error
from hyperstyle_export.networks.draft_step import DraftSearch
from hyperstyle_export.networks.latent_encoder import LatentEncoder
from hyperstyle_export.networks.lpips import Lpips
from hyperstyle_export.networks.mobilestylegan import MobileStyleGan
from hyperstyle_export.readers.lpips import load_lpips
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear
from numpy.typing import NDArray
from torch import Tensor, nn

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


@dataclass(frozen=True, eq=False)
class Inverter:
    """What finds latents, and the generator that shows them.

    Attributes
    ----------
    average:
        Latent that the encoder's are relative to, [W].
    search:
        What iterates after the encoder; None for the encoder alone.
    """

    model: MobileStyleGan
    encoder: LatentEncoder
    average: Tensor
    search: DraftSearch | None = None

    def latents(self, picture: Tensor) -> Tensor:
        """The encoder's, of a picture [1,3,256,256]: [1,L,W]."""
        with torch.inference_mode():
            w = self.encoder(picture) + self.average
        return w[:, None].repeat(1, self.model.config.num_latents, 1)

    def shown(self, latents: Tensor) -> Tensor:
        """What the whole generator makes of latents, averaged to 256 px, in [-1,1]."""
        with torch.inference_mode():
            rendered = self.model.synthesis(latents)
            return F.avg_pool2d(rendered, rendered.shape[-1] // SIDE).clamp(-1, 1)


def reconstructed(inverter: Inverter, pictures: Tensor, iterations: int) -> list[Tensor]:
    """Reconstructions [N,3,256,256] of the encoder's latents and of those after every iteration.

    Where there is something that iterates, what it begins with comes between: iteration 0.
    """
    made = [_trajectory(inverter, picture, iterations) for picture in torch.split(pictures, 1)]
    return [torch.cat(shown) for shown in zip(*made, strict=True)]


def _trajectory(inverter: Inverter, picture: Tensor, iterations: int) -> Iterator[Tensor]:
    latents = inverter.latents(picture)
    yield inverter.shown(latents)
    if inverter.search is None:
        return
    latents, known = inverter.search.approach(picture, latents)
    for _ in range(iterations):
        shown = inverter.shown(latents)
        yield shown
        latents, known = inverter.search.iterate(picture, shown.clone(), latents, known)
    yield inverter.shown(latents)


def compared(made: Tensor, truth: Tensor, judges: Judges) -> Figures:
    """Figures of reconstructions [N,3,256,256] beside the pictures themselves."""
    pairs = list(zip(torch.split(made, 8), torch.split(truth, 8), strict=True))
    with torch.inference_mode():
        distances = torch.cat([judges.lpips(a, b) for a, b in pairs])
        faces, identity = None, judges.identity
        if identity is not None:
            faces = torch.cat([(identity(a) - identity(b)).norm(dim=1) for a, b in pairs])
        return Figures(squared_error(made, truth), distances, faces)
