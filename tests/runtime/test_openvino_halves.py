"""Kernels in bfloat16 between OpenVINO's graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
from hyperstyle_rt.backends.openvino_halves import (
    half_tensor,
    pass_kernels_in_bfloat16,
    to_float,
    to_half,
)
from hyperstyle_rt.backends.openvino_library import load_openvino, new_core
from hyperstyle_rt.backends.registry import open_backend
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hypothesis import given
from hypothesis import strategies as st
from opened_backends import NEEDS_OPENVINO, require_bfloat16

pytestmark = NEEDS_OPENVINO


@given(st.floats(-(2.0**100), 2.0**100, width=32))
def test_numbers_are_rounded_to_eight_bits(number: float) -> None:
    exact = np.array([number], np.float32)
    rounded = to_float(to_half(exact))
    assert abs(rounded[0] - exact[0]) <= max(abs(number) / 256, 2.0**-133)
    assert np.array_equal(to_half(rounded), to_half(exact))


def test_ties_go_to_even() -> None:
    between = np.array([1 + 1 / 256, 1 + 3 / 256, -1 - 1 / 256], np.float32)
    assert to_float(to_half(between)).tolist() == [1.0, 1 + 4 / 256, -1.0]
    as_it_is = np.array([0.1], np.float32)
    assert np.array_equal(to_float(as_it_is), as_it_is)


def test_kernels_and_nothing_else_are_halves() -> None:
    openvino = load_openvino()
    operators = openvino.opset13
    names = ("weight.a", "latents")
    inputs = [operators.parameter([2, 3], np.float32, name) for name in names]
    results = []
    for name, port in zip(("weight.b", "picture"), inputs, strict=True):
        results.append(operators.multiply(port, np.float32(2)))
        results[-1].output(0).set_names({name})
    for name, port in zip(names, inputs, strict=True):
        port.output(0).set_names({name})
    model, halves = pass_kernels_in_bfloat16(openvino.Model(results, inputs))
    assert halves == {"weight.a", "weight.b"}
    compiled = new_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    numbers = np.array([[1, 2, 3], [0.5, -1, 1.5]], np.float32)
    found = np.empty((2, 3), np.uint16)
    request.set_tensor("weight.a", half_tensor(to_half(numbers)))
    request.set_tensor("latents", openvino.Tensor(numbers))
    request.set_tensor("weight.b", half_tensor(found))
    request.infer()
    assert np.array_equal(to_float(found), 2 * numbers)
    assert np.array_equal(request.get_tensor("picture").data, 2 * numbers)


def test_a_backend_passes_them_on() -> None:
    """A picture is the same whether kernels come from a graph or, as float32, from anywhere."""
    require_bfloat16()
    backend: Any = open_backend("openvino", Bundle.open(find_bundle("portraits")), 1, "bf16")
    rng = np.random.default_rng(0)
    inputs = {
        name: backend.upload(0.1 * rng.standard_normal([length or 1 for length in spec.shape]))
        for name, spec in backend.signature("weights").inputs.items()
    }
    kernels = backend.run("weights", inputs)
    assert {kernel.dtype.name for kernel in kernels.values()} == {"uint16"}
    spec = backend.signature("generator").inputs["latents"]
    latents = backend.upload(rng.standard_normal([length or 1 for length in spec.shape]))
    first = backend.run("generator", {"latents": latents, **kernels})
    floats = {name: backend.download(kernel) for name, kernel in kernels.items()}
    assert all(
        kernel.dtype == np.float32 and np.array_equal(kernel, backend.share(kernels[name]))
        for name, kernel in floats.items()
    )
    second = backend.run("generator", {"latents": latents, **floats})
    assert all(np.array_equal(first[name], second[name]) for name in first)
