"""Files of arrays that are damaged, or made to do harm: one sentence, whatever is wrong."""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from directions.array_files import read_arrays
from hyperstyle_rt.errors import EditError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SHAPE = "{'descr': '<f4', 'fortran_order': False, 'shape': "


def refuse(path: Path, says: str) -> None:
    """Check that a file is refused in one sentence."""
    with pytest.raises(EditError, match=re.escape(says)) as raised:
        read_arrays(path)
    assert str(path) in str(raised.value)


@settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_a_damaged_npz_is_refused_or_read(place: float, change: int, tmp_path: Path) -> None:
    """Whatever byte it is: zlib and zipfile have errors of their own."""
    path = tmp_path / "damaged.npz"
    arrays = np.random.default_rng(0).standard_normal((2, 1, 16))
    np.savez_compressed(path, smile=arrays[0], age=arrays[1])
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= change
    path.write_bytes(data)
    try:
        read_arrays(path)
    except EditError as error:
        assert "damaged.npz" in str(error)


@pytest.mark.parametrize(
    "header", [f"{SHAPE}(1099511627776,), }}", "(" * 9000, f"{SHAPE}{'-' * 5000}1, }}"]
)
def test_headers_of_other_things_are_refused(header: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    data = header.encode() + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(data)) + data + bytes(64))
    refuse(path, "is no file of plain arrays")


def of_itself() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


def doubled() -> list[object]:
    """Few bytes, more places than can be visited."""
    value: list[object] = [1]
    for _ in range(40):
        value = [value, value]
    return value


@pytest.mark.parametrize("suffix", [".pt", ".pkl"])
@pytest.mark.parametrize("make", [of_itself, doubled])
def test_lists_without_an_end_are_refused(
    make: Callable[[], object], suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"x{suffix}"
    if suffix == ".pt":
        torch.save(make(), path)
    else:
        path.write_bytes(pickle.dumps(make()))
    refuse(path, "holds more than 100,000 values or lists deeper than 20")


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (torch.ones(1, 16).to_sparse(), "a tensor of layout"),
        (torch.ones(1, 16, device="meta"), "a tensor without values"),
        (torch.zeros(16, dtype=torch.uint8).view(torch.bits8), "a tensor of torch.bits8"),
        (torch.zeros(1).expand(1 << 40), "said to have 1,099,511,627,776 elements"),
    ],
    ids=["sparse", "meta", "bits", "expanded"],
)
def test_tensors_that_are_no_plain_arrays_are_refused(
    tensor: torch.Tensor, says: str, tmp_path: Path
) -> None:
    torch.save({"smile": tensor}, tmp_path / "x.pt")
    refuse(tmp_path / "x.pt", f"is {says}")
