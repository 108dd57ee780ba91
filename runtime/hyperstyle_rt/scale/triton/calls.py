"""The two models that Triton serves for a bundle, ``NAME_invert`` and ``NAME_edit``: their tensors.

Neither has a batch axis: a request is one picture, or one inversion and what is done to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import EditError, HyperStyleError
from ...formats.manifest import Manifest
from ...inversion import Inversion
from ...operations import Operations
from ...types import Picture

INVERT, EDIT = "invert", "edit"

PICTURE, METHOD, ITERATIONS = "picture", "method", "iterations"
INVERSION, DIRECTIONS, AMOUNTS = "inversion", "directions", "amounts"
RENDERING, LATENTS, CODES = "rendering", "latents", "codes"

BYTES = np.dtype(np.object_)
"""Of tensors whose elements are bytes."""


@dataclass(frozen=True)
class TensorOfModel:
    """A tensor of a model.

    Attributes
    ----------
    shape:
        -1 for an axis of any length.
    dtype:
        :data:`BYTES`, or a type of numbers.
    optional:
        Whether a request may leave it out.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    optional: bool = False


@dataclass(frozen=True)
class ServedModel:
    """A model of the server by what it takes and gives."""

    inputs: tuple[TensorOfModel, ...]
    outputs: tuple[TensorOfModel, ...]


def served_models(manifest: Manifest) -> dict[str, ServedModel]:
    """The models of a bundle, :data:`INVERT` and :data:`EDIT`.

    =============== ===================== ===============================================
    input           type and shape        meaning
    =============== ===================== ===============================================
    ``picture``     UINT8 [H,W,3]         RGB; faces are found and aligned as ever
    ``method``      BYTES [1]             optional: one of the bundle's
    ``iterations``  INT32 [1]             optional, as for :meth:`Model.invert`
    ``inversion``   BYTES [1]             content of an inversion file
    ``directions``  BYTES [N]             names of directions
    ``amounts``     FP32 [N]              how much of each
    =============== ===================== ===============================================

    Of an inversion come ``inversion``, ``rendering`` UINT8 [H,W,3], ``latents`` FP32 [L,W] and,
    where the bundle knows codes, ``codes`` FP32 [M,K+1], zero for a method without; of an edit
    ``rendering``.
    """
    height, width = manifest.image_size
    number, byte = np.dtype(np.float32), np.dtype(np.uint8)
    rendering = TensorOfModel(RENDERING, (height, width, 3), byte)
    inversion = TensorOfModel(INVERSION, (1,), BYTES)
    found = [
        inversion,
        rendering,
        TensorOfModel(LATENTS, (manifest.num_latents, manifest.latent_width), number),
    ]
    if manifest.codes is not None:
        shape = (len(manifest.tuned_layers), manifest.codes.width)
        found.append(TensorOfModel(CODES, shape, number))
    return {
        INVERT: ServedModel(
            (
                TensorOfModel(PICTURE, (-1, -1, 3), byte),
                TensorOfModel(METHOD, (1,), BYTES, optional=True),
                TensorOfModel(ITERATIONS, (1,), np.dtype(np.int32), optional=True),
            ),
            tuple(found),
        ),
        EDIT: ServedModel(
            (
                inversion,
                TensorOfModel(DIRECTIONS, (-1,), BYTES),
                TensorOfModel(AMOUNTS, (-1,), number),
            ),
            (rendering,),
        ),
    }


def model_name(bundle: str, what: str) -> str:
    """Name of a model on the server: letters, digits, ``.``, ``_`` and ``-``."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', bundle)}_{what}"


def call(what: str, session: Operations, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a request.

    Parameters
    ----------
    what:
        :data:`INVERT` or :data:`EDIT`.
    inputs:
        numpy arrays by name; those of the optional inputs may be missing.

    Returns
    -------
    numpy arrays by name.

    Raises
    ------
    HyperStyleError
        If the client asks for what cannot be done.
    """
    return {INVERT: _invert, EDIT: _edit}[what](session, inputs)


def _invert(session: Operations, inputs: Mapping[str, Any]) -> dict[str, Any]:
    picture: Picture = np.asarray(inputs[PICTURE])
    if 0 in picture.shape:
        raise HyperStyleError("the picture has no pixels; send one of at least 1 x 1")
    method = None if METHOD not in inputs else _text(np.ravel(inputs[METHOD])[0])
    iterations = None if ITERATIONS not in inputs else int(np.ravel(inputs[ITERATIONS])[0])
    inversion = session.invert(picture, iterations, method=method)
    found = {
        INVERSION: np.array([inversion.to_bytes()], np.object_),
        RENDERING: inversion.image,
        LATENTS: inversion.latents,
    }
    manifest = session.bundle.manifest
    if manifest.codes is not None:
        zero = np.zeros((len(manifest.tuned_layers), manifest.codes.width), np.float32)
        found[CODES] = zero if inversion.codes is None else inversion.codes
    return found


def _edit(session: Operations, inputs: Mapping[str, Any]) -> dict[str, Any]:
    names = [_text(each) for each in np.ravel(inputs[DIRECTIONS])]
    amounts = [float(each) for each in np.ravel(inputs[AMOUNTS])]
    if len(names) != len(amounts) or len(set(names)) < len(names):
        raise EditError(
            f"{len(names)} directions and {len(amounts)} amounts came; send one amount for each "
            "direction, and each direction once"
        )
    inversion = Inversion.from_bytes(_bytes(np.ravel(inputs[INVERSION])[0]))
    edited = session.edit(inversion, dict(zip(names, amounts, strict=True)))
    return {RENDERING: edited.image}


def _bytes(element: object) -> bytes:
    if isinstance(element, str):
        return element.encode()
    assert isinstance(element, bytes)  # of a tensor of type BYTES
    return bytes(element)


def _text(element: object) -> str:
    try:
        return _bytes(element).decode()
    except UnicodeDecodeError:
        raise HyperStyleError("a name is not in UTF-8; send it in that encoding") from None
