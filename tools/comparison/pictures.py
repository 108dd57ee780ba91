"""The pictures of a comparison: a user's, or renders of the bundle's own kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from hyperstyle_rt.errors import HyperStyleError, PictureError
from hyperstyle_rt.files import make_directory, read_regular
from hyperstyle_rt.formats.inversion_file import InversionData
from hyperstyle_rt.imaging.pictures import resize_bilinear, write_picture
from hyperstyle_rt.inversion import Inversion
from hyperstyle_rt.inverting.preparing import one_crop
from hyperstyle_rt.model import Model
from hyperstyle_rt.optimising.latent_statistics import MAPPING
from hyperstyle_rt.types import Array
from hyperstyle_rt.work import computed_by
from picture_sets.folders import pictures_beside
from portraits.dataset import Recipe, draw_set, picture_path

from .errors import ComparisonError

HELD_OUT_SEED = 900_001
"""Of renders: the bundle was trained on others."""

RENDERED = "rendered faces"  # domain of bundles that were trained on tools/portraits
TRUNCATION = (0.7, 1.0)
"""Of random faces, drawn between these for each: what networks were trained on (tools/photos)."""
AVERAGED_OVER = 4096  # random vectors, for the mean latent
LARGEST_FILE = 256 << 20


@dataclass(frozen=True)
class Sample:
    """A picture that is inverted.

    Attributes
    ----------
    name:
        Of its file.
    digest:
        SHA-256 of the file.
    path:
        PNG of the crop that is inverted, in the generator's size.
    """

    name: str
    digest: str
    path: Path

    @property
    def key(self) -> str:
        """What files about it are called."""
        return f"{Path(self.name).stem}-{self.digest[:12]}"


def find_files(arguments: Sequence[Path], out: Path) -> list[Path]:
    """The files a user means; what a comparison has left below `out` is none of them.

    Raises
    ------
    PictureError
        If none is named, or none is there.
    """
    found = pictures_beside(arguments, out)
    if not found:
        raise PictureError("there is nothing to compare; give pictures, folders, or --renders")
    if not any(path.exists() for path in found):
        raise PictureError(f"there is no {found[0]}; give pictures or folders that exist")
    return found


def prepare(
    files: Sequence[Path], model: Model, align: str, folder: Path
) -> tuple[list[Sample], list[str]]:
    """Crop the pictures that can be inverted, and keep the crops in a folder.

    Returns
    -------
    samples:
        In the order of the files; of two with the same content the first.
    problems:
        A sentence for every file that cannot be used.
    """
    make_directory(folder, ComparisonError)
    samples: dict[str, Sample] = {}
    problems = []
    for file in files:
        try:
            data = read_regular(file, LARGEST_FILE, PictureError)
            digest = sha256(data).hexdigest()
            crop, _ = one_crop(data, model.bundle.manifest, align)
        except HyperStyleError as error:
            problems.append(f"{file.name}: {error}")
            continue
        sample = Sample(file.name, digest, folder / f"{file.stem}-{digest[:12]}.png")
        if not sample.path.exists():
            write_picture(
                sample.path, resize_bilinear(crop.picture, model.bundle.manifest.image_size)
            )
        samples.setdefault(digest, sample)
    return list(samples.values()), problems


def draw_renders(
    model: Model, count: int, seed: int, folder: Path, report: Callable[[int, int], None]
) -> list[Path]:
    """Draw pictures of a bundle's own kind that it has not been trained on; kept ones are kept.

    Portraits of `tools/portraits` for a bundle that was trained on them; random faces of its own
    generator, as far from the mean as :data:`TRUNCATION` says, for others.

    Parameters
    ----------
    seed:
        Picture i depends on it and on i alone.
    report:
        Called with (drawn, count).

    Raises
    ------
    HyperStyleError
        If the renderer has not been prepared, the bundle lacks its mapping network, or the folder
        holds another set.
    """
    manifest = model.bundle.manifest
    if manifest.domain == RENDERED:
        draw_set(folder, Recipe(seed, manifest.resolution), count, 1, report)
        return [picture_path(folder, index) for index in range(count)]
    make_directory(folder, ComparisonError)
    paths = [folder / f"{seed}-{index:06d}.png" for index in range(count)]
    missing = [(index, path) for index, path in enumerate(paths) if not path.exists()]
    if missing:
        plain, mean = _plain_inversion(model), _mean(model)
        for index, path in missing:
            psi = np.random.default_rng([seed, index, 1]).uniform(*TRUNCATION)
            latents = mean + np.float32(psi) * (_mapped(model, [seed, index], 1)[0] - mean)
            write_picture(path, model.render(plain, np.broadcast_to(latents, plain.latents.shape)))
            report(index + 1, count)
    return paths


def _mean(model: Model) -> Array:
    """Mean latent of the mapping network, [W], or [L,W] where it gives a row for every style."""
    return np.asarray(_mapped(model, [HELD_OUT_SEED], AVERAGED_OVER).mean(0), np.float32)


def _mapped(model: Model, seed: list[int], count: int) -> Array:
    """Latents of normal random vectors, [count,W] or [count,L,W]."""
    width = model.backend.signature(MAPPING).inputs["z"].shape[-1]
    source = np.random.default_rng(seed)
    return model.map(source.standard_normal((count, width or 0), dtype=np.float32))


def _plain_inversion(model: Model) -> Inversion:
    """An inversion of nothing, whose kernels are the generator's own."""
    manifest = model.bundle.manifest
    return Inversion(
        InversionData(
            latents=np.zeros((manifest.num_latents, manifest.latent_width), np.float32),
            codes=None,
            iterations=0,
            space=manifest.inversion_space,
            code_space=None,
            bundle_name=manifest.name,
            bundle_digest=model.bundle.digest,
            method="random",
            settings={},
            computed=computed_by(model.backend),
        )
    )
