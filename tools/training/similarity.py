"""Embeddings whose cosine says whether two pictures show the same: a loss by weight file.

Three kinds of file are known, told apart by their keys: for faces ArcFace's IR-SE50, as the
official training uses it, and CurricularFace's IR-101, with which the official evaluation measures
(docs/spec.md, section 7); and ResNet-50 trained by MoCo v2 for everything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from hyperstyle_export.networks.config import IR_SE50_TRUNK, TrunkConfig
from hyperstyle_export.networks.encoder import IRSEUnit, ir_se_body
from hyperstyle_export.readers.torch_files import read_torch_file
from torch import Tensor, nn

from .checkpoint import load_state
from .errors import TrainingError

FACE_SIDE = 256
FACE_ROWS, FACE_COLUMNS = slice(35, 223), slice(32, 220)  # of an aligned 256 px face
ARCFACE_SIDE = 112
RESNET_SIDE = 224
RESNET50_GROUPS = ((64, 3), (128, 4), (256, 6), (512, 3))
EXPANSION = 4
MOCO_PREFIX = "module.encoder_q."
SE_REDUCTION = 16
SE_KEY = "body.0.res_layer.5.fc1.weight"
IR_101_TRUNK = TrunkConfig(groups=((64, 3), (128, 13), (256, 30), (512, 3)))


class FaceEmbedding(nn.Module):
    """An IR network of face recognition over the inner part of an aligned face."""

    def __init__(self, body: nn.Sequential, last: nn.Module) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        )
        self.body = body
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.6),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, 512),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Faces [B,3,h,w] in [-1,1], aligned -> unit embeddings [B,512]."""
        if x.shape[2:] != (FACE_SIDE, FACE_SIDE):
            x = F.adaptive_avg_pool2d(x, FACE_SIDE)
        return self.embed(F.adaptive_avg_pool2d(x[:, :, FACE_ROWS, FACE_COLUMNS], ARCFACE_SIDE))

    def embed(self, chips: Tensor) -> Tensor:
        """Faces [B,3,112,112] in [-1,1], aligned as ArcFace does -> unit embeddings [B,512]."""
        return F.normalize(self.output_layer(self.body(self.input_layer(chips))))


class ArcFace(FaceEmbedding):
    """IR-SE50."""

    def __init__(self) -> None:
        super().__init__(ir_se_body(IR_SE50_TRUNK, SE_REDUCTION), nn.BatchNorm1d(512))


class CurricularFace(FaceEmbedding):
    """IR-101: without squeeze-and-excitation, and without a last affine map.

    The official evaluation finds five points in either picture and warps the face to ArcFace's
    reference; here, where all faces are aligned, the inner part is that of the training loss.
    """

    def __init__(self) -> None:
        body = ir_se_body(IR_101_TRUNK, SE_REDUCTION)
        for unit in body:
            assert isinstance(unit, IRSEUnit)
            del unit.res_layer[-1]  # squeeze-and-excitation
        super().__init__(body, nn.BatchNorm1d(512, affine=False))


class Bottleneck(nn.Module):
    """ResNet-50's block."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nn.Module):
    """ResNet-50 up to its pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        width_before = 64
        for number, (width, count) in enumerate(RESNET50_GROUPS, start=1):
            blocks = []
            for block in range(count):
                stride = 2 if number > 1 and block == 0 else 1
                blocks.append(Bottleneck(width_before, width, stride))
                width_before = width * EXPANSION
            self.add_module(f"layer{number}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Pictures [B,3,h,w] in [-1,1] -> unit embeddings [B,2048]."""
        x = F.interpolate(x, (RESNET_SIDE, RESNET_SIDE), mode="bilinear")
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for number in range(1, len(RESNET50_GROUPS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return F.normalize(x.mean((2, 3)))


class Similarity:
    """1 - cosine of embeddings, as a loss."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        self._network = network
        self._dtype = dtype

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Of pictures [B,3,h,w] in [-1,1], [B]; gradients flow to `x` alone."""
        of_x = self._embed(x)
        with torch.no_grad():
            of_y = self._embed(y)
        return 1 - (of_x * of_y).sum(1)

    def _embed(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, self._dtype, enabled=self._dtype != torch.float32):
            embedding: Tensor = self._network(x)
        return embedding.float()


def load_embedding(path: Path) -> nn.Module:
    """Read ArcFace's IR-SE50, CurricularFace's IR-101, or ResNet-50; frozen, in eval mode.

    ResNet-50 may have MoCo's prefix.
    """
    contents = read_torch_file(path)
    state = contents.get("state_dict", contents)
    if not isinstance(state, Mapping):
        state = contents
    network: nn.Module
    if "output_layer.3.weight" in state:
        network = ArcFace() if SE_KEY in state else CurricularFace()
    elif any(key.removeprefix(MOCO_PREFIX) == "layer1.0.conv3.weight" for key in state):
        state = {k.removeprefix(MOCO_PREFIX): v for k, v in state.items()}
        # The classifier or projection head is not used, nor is MoCo's second encoder.
        state = {k: v for k, v in state.items() if re.match(r"(conv1|bn1|layer\d)\.", k)}
        network = ResNet50()
    else:
        raise TrainingError(
            f"{path} is no embedding network that is known: give ArcFace's IR-SE50 or "
            "CurricularFace's IR-101 for faces, or a ResNet-50 trained by MoCo v2"
        )
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    load_state(network, {**counters, **state}, str(path))
    return network.eval().requires_grad_(False)


def optional_similarity(
    weight: float, path: Path | None, device: torch.device, dtype: torch.dtype
) -> Similarity | None:
    """The loss if its weight is not zero, which then wants a file.

    Raises
    ------
    TrainingError, CheckpointError
        If there is no file, or it is of no known kind.
    """
    if not weight:
        return None
    if path is None:
        raise TrainingError(
            f"loss.similarity is {weight}, which wants an embedding network: give --similarity "
            "FILE, or set it to 0"
        )
    return Similarity(load_embedding(path).to(device), dtype)
