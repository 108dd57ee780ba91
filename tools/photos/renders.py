"""Training sets of a generator's own pictures: w is known. Shards that a kill cannot spoil."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.networks.mobilestylegan import MobileStyleGan, PictureHead
from hyperstyle_rt.files import make_directory, write_atomically
from npz_files import read_npz
from numpy.typing import NDArray

from .errors import PhotosError
from .small import average_latent, build_small_generator

SHARD = 256
BATCH = 8
PSI = (0.7, 1.0)
SEED_STRIDE = 1_000_000  # seeds of a set's shards: seed * stride + shard

Pictures = NDArray[np.uint8]
Latents = NDArray[np.float32]


@dataclass(frozen=True)
class RenderSet:
    """Pictures and the latents they show.

    Attributes
    ----------
    w:
        float32 [N,W].
    pictures:
        uint8 [N,3,h,h].
    """

    w: Latents
    pictures: Pictures

    def __len__(self) -> int:
        return len(self.w)


def draw_latents(
    model: MobileStyleGan, average: torch.Tensor, seed: int, shard: int, count: int
) -> torch.Tensor:
    """Latents of a shard, truncated by a psi of 0.7 to 1 each: [count,W]."""
    random = np.random.default_rng(seed * SEED_STRIDE + shard)
    z = random.standard_normal((count, model.config.style_width)).astype(np.float32)
    psi = random.uniform(*PSI, (count, 1)).astype(np.float32)
    with torch.inference_mode():
        w = model.mapping(torch.from_numpy(z))
        return average + torch.from_numpy(psi) * (w - average)


def render_set(
    model: MobileStyleGan,
    head: PictureHead | None,
    blocks: int,
    folder: Path,
    seed: int,
    count: int,
    report: Callable[[int], None],
) -> None:
    """Write shards `NNNN.npz` of 256 pictures until the folder has `count`; what is there is kept.

    Parameters
    ----------
    model, head, blocks:
        The small generator; without a head the whole one, averaged to the same side.
    folder:
        Of the set.
    seed:
        Of the set: other seeds give other pictures.
    count:
        Rounded up to whole shards.
    report:
        Called with the pictures done after every shard.
    """
    make_directory(folder, PhotosError)
    average, render = average_latent(model), _renderer(model, head, blocks)
    for shard in range(-(-count // SHARD)):
        path = folder / f"{shard:04d}.npz"
        if not path.exists():
            w = draw_latents(model, average, seed, shard, SHARD).numpy()
            pictures = [to_bytes(render(w[i : i + BATCH])) for i in range(0, SHARD, BATCH)]
            stored = io.BytesIO()
            np.savez(stored, w=w, x=np.concatenate(pictures))
            write_atomically(path, stored.getvalue(), PhotosError)
        report((shard + 1) * SHARD)


def to_bytes(pictures: NDArray[np.float32]) -> Pictures:
    """[-1,1] as bytes."""
    return np.clip(np.round((pictures + 1) * 127.5), 0, 255).astype(np.uint8)


def read_set(folder: Path, shards: int | None = None) -> RenderSet:
    """Read a set, or its first shards.

    Raises
    ------
    PhotosError
        If there are none, or one is damaged.
    """
    paths = sorted(folder.glob("[0-9]*.npz"))[:shards]
    if not paths:
        raise PhotosError(f"{folder} holds no shards; render some with: python tools/photos render")
    w, pictures = zip(*(_read_shard(path) for path in paths), strict=True)
    return RenderSet(np.concatenate(w), np.concatenate(pictures))


def _read_shard(path: Path) -> tuple[Latents, Pictures]:
    try:
        w, pictures = read_npz(path, "w", "x")
    except ValueError as error:
        raise PhotosError(f"{path} is damaged or no shard; delete it and render again") from error
    fits = w.dtype == np.float32 and pictures.dtype == np.uint8 and pictures.ndim == 4
    if not fits or w.ndim != 2 or len(w) != len(pictures):
        raise PhotosError(f"{path} is no shard of latents and pictures")
    return w, pictures


def _renderer(
    model: MobileStyleGan, head: PictureHead | None, blocks: int
) -> Callable[[Latents], NDArray[np.float32]]:
    """W [N,W] -> pictures, by OpenVINO where it is installed (twice as fast), or ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.onnx"
        save_model(build_small_generator(model, head, blocks), path)
        try:
            import openvino
        except ImportError:
            return _onnxruntime(path)
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled: Any = openvino.Core().compile_model(str(path), "CPU", options)
        return lambda w: np.asarray(next(iter(compiled([w]).values())))


def _onnxruntime(path: Path) -> Callable[[Latents], NDArray[np.float32]]:
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda w: np.asarray(session.run(None, {"w": w})[0])
