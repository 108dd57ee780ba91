"""MobileStyleGAN from the OpenVINO models in which it is published.

The PyPI package ``random-face`` carries a mapping and a synthesis network as OpenVINO models. Their
graphs are walked from the output to the input, and whatever is not exactly MobileStyleGAN is
refused: a file that is read is computed as OpenVINO computes it.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from hyperstyle_rt.files import read_regular

from ..networks.mobilestylegan import MobileStyleGanConfig
from .mobilestylegan_graphs import MappingReader, SynthesisReader
from .openvino_ir import Array, IrError, IrGraph

MODELS = ("MappingNetwork", "SynthesisNetwork")
FOLDER = PurePosixPath("random_face/data")
MAX_BYTES = 256 << 20

RANDOM_FACE = {
    "MappingNetwork.bin": "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305",
    "MappingNetwork.xml": "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b",
    "SynthesisNetwork.bin": "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645",
    "SynthesisNetwork.xml": "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd",
}
"""SHA-256 of the models of random-face 2021.7.21.1: 1024 px, distilled from StyleGAN2-FFHQ."""


ORIGIN = (
    "MobileStyleGAN by Sergei Belousov (arXiv:2104.04767), package random-face 2021.7.21.1, whose "
    "LICENSE is Apache-2.0; distilled from NVIDIA's StyleGAN2 trained on FFHQ, which NVIDIA "
    "publishes under non-commercial terms"
)
"""Whose they are: for provenances."""


@dataclass(frozen=True)
class MobileStyleGanWeights:
    """What the two models hold.

    Attributes
    ----------
    config:
        Sizes of the networks.
    state:
        float32 arrays under the keys of `networks.mobilestylegan.MobileStyleGan`.
    digests:
        File name -> SHA-256 of what was read.
    """

    config: MobileStyleGanConfig
    state: Mapping[str, Array]
    digests: Mapping[str, str]


def read_random_face(path: Path) -> MobileStyleGanWeights:
    """Read the generator of the package ``random-face``, from its wheel or from an installed copy.

    Parameters
    ----------
    path:
        The wheel, or a folder: the installed package ``random_face``, its ``data``, or the folder
        that holds the package.

    Raises
    ------
    IrError
        If the files are missing, or are not those of the version that is known.
    """
    files = _wheel_files(path) if path.is_file() else _folder_files(path)
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != RANDOM_FACE[name]:
            raise IrError(
                f"{name} of {path} is not that of random-face 2021.7.21.1 (its SHA-256 differs); "
                "download that version again"
            )
    return read_models(files)


def read_models(files: Mapping[str, bytes]) -> MobileStyleGanWeights:
    """Read any MobileStyleGAN from the contents of its four files, named as in `RANDOM_FACE`.

    Raises
    ------
    IrError
        If they are damaged or of another network.
    """
    graphs = [IrGraph(files[f"{m}.xml"], files[f"{m}.bin"], f"{m}.xml") for m in MODELS]
    mapping = MappingReader(graphs[0]).read()
    synthesis, channels = SynthesisReader(graphs[1]).read()
    state = {f"mapping.{k}": v for k, v in mapping.items()}
    state |= {f"synthesis.{k}": v for k, v in synthesis.items()}
    width = mapping["layers.0.weight"].shape[0]
    config = MobileStyleGanConfig(channels, width, len(mapping) // 2)
    _check_styles(config, state)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return MobileStyleGanWeights(config, state, digests)


def _check_styles(config: MobileStyleGanConfig, state: Mapping[str, Array]) -> None:
    """Whether all affine maps read what the mapping network gives."""
    for style in config.styles:
        weight = state[f"synthesis.{style.name}.style.weight"]
        if weight.shape != (style.channels, config.style_width):
            raise IrError(
                f"the style of {style.name} is a matrix of {weight.shape}, but the mapping network "
                f"gives {config.style_width} numbers; give two models that belong together"
            )
    for key, value in state.items():
        if value.dtype != np.float32:
            raise IrError(f"{key} is not of float32")


def _folder_files(path: Path) -> dict[str, bytes]:
    for folder in (path, path / "data", path / FOLDER):
        if (folder / "SynthesisNetwork.xml").exists():
            return {name: read_regular(folder / name, MAX_BYTES, IrError) for name in RANDOM_FACE}
    raise IrError(
        f"{path} holds no SynthesisNetwork.xml; give the wheel of random-face or the folder of the "
        "installed package"
    )


def _wheel_files(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as wheel:
            return {name: _member(wheel, path, str(FOLDER / name)) for name in RANDOM_FACE}
    except IrError:
        raise
    except Exception as error:  # in a damaged wheel any operation of zipfile or zlib may fail
        raise IrError(
            f"{path} is damaged or no wheel; download random-face 2021.7.21.1 again"
        ) from error


def _member(wheel: zipfile.ZipFile, path: Path, name: str) -> bytes:
    try:
        info = wheel.getinfo(name)
    except KeyError as error:
        raise IrError(f"{path} holds no {name}; give the wheel of random-face") from error
    if info.file_size > MAX_BYTES:
        raise IrError(f"{name} of {path} is larger than {MAX_BYTES} bytes")
    with wheel.open(info) as file:
        return file.read(MAX_BYTES)
