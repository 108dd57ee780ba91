"""Folders of pictures: what is in them, and an endless, resumable, shuffled stream of batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear
from hyperstyle_rt.types import Array
from numpy.typing import NDArray
from picture_sets.folders import FACTORS_FILE, KnownPictures, known_pictures, pictures_in
from torch import Tensor

from .errors import TrainingError


@dataclass(frozen=True)
class PictureSet:
    """Pictures, and their factors where a folder holds a table of them.

    Attributes
    ----------
    paths:
        Of the pictures, folder by folder, by name.
    factors:
        [N,F] float32; rows of NaN where unknown. F is 0 if no folder has a table.
    factor_names:
        F names.
    """

    paths: tuple[Path, ...]
    factors: Array
    factor_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def known(self) -> NDArray[np.bool_]:
        """Which pictures have factors, [N]."""
        if not self.factor_names:
            return np.zeros(len(self), bool)
        return np.asarray(~np.isnan(self.factors).any(axis=1), bool)


def find_pictures(folders: Sequence[Path]) -> PictureSet:
    """List the PNG, JPEG and WebP pictures directly in the folders.

    A table in a folder (:mod:`picture_sets.folders`) gives the factors of its pictures. Pictures
    beyond its last row are left out; those that are still being drawn may be missing.

    Raises
    ------
    TrainingError
        If a folder is missing, no folder, or holds no pictures, or a table is damaged, of other
        factors than another folder's, or does not tell which pictures it is of.
    """
    paths: list[Path] = []
    tables: list[tuple[int, KnownPictures]] = []
    for folder in folders:
        if (folder / FACTORS_FILE).exists():
            known = known_pictures(folder, TrainingError)
            tables.append((len(paths), known))
            paths += known.paths
        else:
            paths += pictures_in(folder, TrainingError)
    names = tables[0][1].names if tables else ()
    factors = np.full((len(paths), len(names)), np.nan, np.float32)
    for start, known in tables:
        if known.names != names:
            raise TrainingError(
                f"{paths[start].parent / FACTORS_FILE} has other factors than the table of another "
                "folder; render both with one version of the renderer"
            )
        factors[start : start + len(known.paths)] = known.values
    return PictureSet(tuple(paths), factors, names)


def read_batch(paths: Sequence[Path], size: tuple[int, int]) -> Tensor:
    """Read pictures as uint8 [B,3,h,w], channels last, resized to ``size`` (height, width).

    Raises
    ------
    PictureError
        If a picture cannot be read; it is named.
    """
    batch = np.stack([resize_bilinear(read_picture(path), size) for path in paths])
    return torch.from_numpy(batch).permute(0, 3, 1, 2)


def to_float(pictures: Tensor) -> Tensor:
    """Map uint8 [B,3,h,w] to float32 in [-1,1], channels last."""
    return (pictures.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


class PictureStream:
    """Endless picture numbers, shuffled anew in every epoch.

    The folders are listed again at the start of every epoch, so pictures that arrive while training
    runs are taken up. The order depends on the seed and the epoch alone; of several processes each
    has its own share of it.

    Parameters
    ----------
    folders:
        Where the pictures are.
    most:
        Largest number taken at once.
    """

    def __init__(
        self, folders: Sequence[Path], most: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self._folders, self._most, self._seed = tuple(folders), most, seed
        self._rank, self._world = rank, world
        self._epoch, self._position = 0, 0
        self.pictures = find_pictures(folders)
        self._order = self._shuffled()

    def take(self, count: int) -> Tensor:
        """The next numbers into `pictures`, int64 [count]; ask `pictures` anew after each call.

        What an epoch leaves over that is too few is dropped.
        """
        if self._position + count > len(self._order):
            self._epoch, self._position = self._epoch + 1, 0
            self.pictures = find_pictures(self._folders)
            self._order = self._shuffled()
        start = self._position
        self._position += count
        return self._order[start : self._position]

    def state_dict(self) -> dict[str, int | str]:
        """The position; restored, the stream goes on with the batch that would have come next."""
        names = "\n".join(path.name for path in self.pictures.paths)
        return {"epoch": self._epoch, "position": self._position, "names": names}

    def load_state_dict(self, state: dict[str, int | str]) -> None:
        """Return to a stored position; where pictures have gone since, a new epoch begins."""
        self._epoch, self._position = int(state["epoch"]), int(state["position"])
        names = str(state["names"]).split("\n")
        self.pictures = _only(find_pictures(self._folders), names)
        if len(self.pictures) != len(names):
            self._epoch, self._position = self._epoch + 1, 0
            self.pictures = find_pictures(self._folders)
        self._order = self._shuffled()

    def _shuffled(self) -> Tensor:
        source = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        count = len(self.pictures)
        rounds = -(-self._most * self._world // count)  # more than one if a batch exceeds it
        order = torch.cat([torch.randperm(count, generator=source) for _ in range(rounds)])
        return order[self._rank :: self._world]


def _only(pictures: PictureSet, names: Sequence[str]) -> PictureSet:
    """The pictures that were there when the list of names was made, in its order."""
    wanted = iter([*names, None])
    name, kept = next(wanted), []
    for number, path in enumerate(pictures.paths):
        if path.name == name:
            kept.append(number)
            name = next(wanted)
    return PictureSet(
        tuple(pictures.paths[i] for i in kept), pictures.factors[kept], pictures.factor_names
    )
