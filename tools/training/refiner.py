"""The hypernetwork as it is trained: codes centred, offsets expanded from sums of codes.

Codes end in a leaky ReLU whose slope below zero is 0.01. Training keeps them on its linear side:
the last convolution's bias starts at CENTRE, and an ordinary head reads the code minus CENTRE, so
that a code of zero is in the middle of what it can say. `to_official` folds this into the head's
bias.
"""

from __future__ import annotations

import torch
from hyperstyle_export.networks.hypernetwork import (
    Hypernetwork,
    RefinementBlock,
    SharedRefinementBlock,
)
from torch import Tensor, nn

CENTRE = 4.0
CODE_START = 0.05  # of the last convolution's usual size: codes start small about the centre
RESIDUAL_START = 0.5  # gain of the second batch normalisation of a block
SHARED_START = 0.02  # of the shared hypernetwork's usual size: offsets start small


class Refiner(nn.Module):
    """One iteration: picture and reconstruction to accumulated codes and offsets.

    Parameters
    ----------
    hypernetwork:
        Owner of the parameters; its heads are centred.
    dtype:
        Of the convolutions but the last of every block.
    """

    def __init__(self, hypernetwork: Hypernetwork, dtype: torch.dtype) -> None:
        super().__init__()
        self.hypernetwork = hypernetwork
        self._dtype = dtype

    def forward(
        self, picture: Tensor, reconstruction: Tensor, codes: Tensor, counts: Tensor
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Add this iteration's codes.

        Parameters
        ----------
        picture, reconstruction:
            [B,3,h,w].
        codes, counts:
            Sums over the iterations before, [B,M,K] and how many they were, [B].

        Returns
        -------
        The sums with this iteration, and the offsets they stand for: [B,O,I,1,1] of ordinary
        layers, [B,C,C,3,3] of shared ones.
        """
        codes = codes + self.codes(picture, reconstruction)
        return codes, self.expand(codes, counts + 1)

    def codes(self, picture: Tensor, reconstruction: Tensor) -> Tensor:
        """Centred codes of one iteration, float32 [B,M,K]."""
        network = self.hypernetwork
        both = torch.cat([picture, reconstruction], 1).contiguous(memory_format=torch.channels_last)
        device = picture.device.type
        with torch.autocast(device, self._dtype, enabled=self._dtype != torch.float32):
            features = network.body(network.relu(network.bn1(network.conv1(both))))
            inner = [block.convs[:-2](features) for block in self._blocks()]
        rows = []
        for block, x in zip(self._blocks(), inner, strict=True):
            x = block.convs[-2:](x.float())
            if isinstance(block, SharedRefinementBlock):
                rows.append(block.linear(x.flatten(1)))
            else:
                rows.append(x.mean((2, 3)) - CENTRE)
        return torch.stack(rows, 1)

    def expand(self, codes: Tensor, counts: Tensor) -> dict[int, Tensor]:
        """Sums of offsets from sums of centred codes [B,M,K] of `counts` [B] iterations."""
        offsets = {}
        for row, (index, block) in enumerate(self.hypernetwork.refinement_blocks.items()):
            code, count = codes[:, row], counts[:, None]
            if isinstance(block, SharedRefinementBlock):
                offsets[int(index)] = block.hypernet.expand(code, count)
                continue
            assert isinstance(block, RefinementBlock)
            head = head_of(block)
            assert head.bias is not None
            flat = code @ head.weight.flatten(1).T + count * head.bias
            offsets[int(index)] = flat.view(-1, *block.layer.weight_shape[:2], 1, 1)
        return offsets

    def _blocks(self) -> list[SharedRefinementBlock | RefinementBlock]:
        return list(self.hypernetwork.refinement_blocks.values())  # type: ignore[arg-type]


def head_of(block: RefinementBlock) -> nn.Conv2d:
    """The affine map of an ordinary block."""
    head: nn.Conv2d = block.output[-1]  # type: ignore[assignment]
    return head


def ordinary_blocks(network: Hypernetwork) -> dict[int, RefinementBlock]:
    """Offset index -> ordinary refinement block."""
    return {
        int(index): block
        for index, block in network.refinement_blocks.items()
        if isinstance(block, RefinementBlock)
    }


def affine_maps(network: Hypernetwork) -> dict[str, tuple[Tensor, Tensor]]:
    """Name -> matrix and bias of every map from codes to offsets."""
    maps: dict[str, tuple[Tensor, Tensor]] = {}
    for index, block in ordinary_blocks(network).items():
        head = head_of(block)
        assert head.bias is not None
        maps[str(index)] = (head.weight, head.bias)
    if network.config.shared_layers:
        shared = network.shared_weight_hypernet
        maps |= {"w1": (shared.w1, shared.b1), "w2": (shared.w2, shared.b2)}
    return maps


@torch.no_grad()
def to_official(network: Hypernetwork, damping: float) -> None:
    """Fold the centring into the heads, and scale all offsets by ``damping``."""
    for block in ordinary_blocks(network).values():
        head = head_of(block)
        assert head.bias is not None
        head.weight.mul_(damping)
        head.bias.mul_(damping).sub_(CENTRE * head.weight.flatten(1).sum(1))
    if network.config.shared_layers:
        network.shared_weight_hypernet.w1.mul_(damping)
        network.shared_weight_hypernet.b1.mul_(damping)


@torch.no_grad()
def from_official(network: Hypernetwork) -> None:
    """The inverse of `to_official` with a damping of 1, to go on training a published file."""
    for block in ordinary_blocks(network).values():
        head = head_of(block)
        assert head.bias is not None
        head.bias.add_(CENTRE * head.weight.flatten(1).sum(1))


@torch.no_grad()
def initialise(network: Hypernetwork, columns: dict[int, Tensor]) -> None:
    """Begin: heads along ``columns``, codes about the centre, a stem that also sees differences.

    Two thirds of the stem's filters see the picture minus the reconstruction, the rest the picture
    alone: what matters is where the two differ.
    """
    for index, block in ordinary_blocks(network).items():
        for convolution in block.convs:
            if isinstance(convolution, nn.Conv2d):
                nn.init.kaiming_normal_(convolution.weight, 0.01)
                assert convolution.bias is not None
                convolution.bias.zero_()
        last = block.convs[-2]
        last.weight.mul_(CODE_START)  # type: ignore[operator]
        last.bias.fill_(CENTRE)  # type: ignore[operator]
        head = head_of(block)
        assert head.bias is not None
        head.weight.copy_(columns[index][:, :, None, None])
        head.bias.zero_()
    if network.config.shared_layers:
        network.shared_weight_hypernet.w1.mul_(SHARED_START)
    for residual in network.body:
        residual.bn2.weight.fill_(RESIDUAL_START)  # type: ignore[operator, union-attr]
    stem = network.conv1.weight
    comparing = 2 * len(stem) // 3
    stem[:comparing, 3:] = -stem[:comparing, :3]
    stem[comparing:, 3:] = 0
