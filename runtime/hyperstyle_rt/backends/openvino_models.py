"""Graphs compiled by OpenVINO, of verified files, in a precision that is asked for and found."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BackendError, BundleError
from ..files import reason
from ..formats.bundle import Bundle
from ..formats.manifest import BASE_PRECISION
from ..types import Array
from .graph_files import MappedFiles, unaltered_files
from .native_memory import is_out_of_memory, return_freed_memory, too_little_memory
from .openvino_constants import separate_shared_constants
from .openvino_factors import multiply_behind_filters
from .openvino_gradients import end_gradients_with_products
from .openvino_halves import pass_kernels_in_bfloat16
from .openvino_library import (
    DEVICE,
    cause_of,
    computes_bfloat16,
    new_core,
    require_room_to_compile,
    version,
)
from .openvino_pacing import drop_products_with_zero
from .openvino_padding import pad_in_convolutions
from .openvino_parts import join_transposed_convolutions
from .openvino_permutations import spell_out_permutations
from .openvino_planes import matrices_as_inputs, planes_as_inputs
from .openvino_products import products_as_convolutions, split_long_products, turn_in_products
from .openvino_ranks import raise_ranks_beside_pictures
from .openvino_sums import sum_taps_by_products
from .processors import useful_threads
from .protocol import Signature, TensorSpec

logger = logging.getLogger(__name__)

OPENVINO_TYPES = {BASE_PRECISION: "f32", "bf16": "bf16"}
"""Precision -> OpenVINO's name of the type."""

_PRODUCTS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})
"""Layers, as a compiled model calls them, that do nearly all of the arithmetic."""

_RESULT = "/sink_port_0"  # OpenVINO's addition to the name of an output


@dataclass(frozen=True)
class CompiledGraph:
    """A graph that is ready to run, for a batch of 1.

    Attributes
    ----------
    model:
        ``openvino.CompiledModel``.
    signature:
        What the file says: there the batch is of any length.
    planes:
        Further inputs, which every run is to be given.
    halves:
        Inputs and outputs that are of bfloat16, where the file says float32.
    files:
        Its tensors, mapped.
    """

    model: Any
    signature: Signature
    planes: Mapping[str, Array]
    halves: frozenset[str]
    files: MappedFiles


class ModelCompiler:
    """Reads and compiles the graphs of a bundle.

    Attributes
    ----------
    precision:
        What is computed in.
    core:
        OpenVINO's.

    Raises
    ------
    BackendError
        If OpenVINO is not installed, does not support the CPU, or cannot compute in the precision.
    """

    def __init__(self, bundle: Bundle, precision: str, threads: int | None) -> None:
        self.precision = precision
        self.core = new_core()
        self._bundle = bundle
        self._threads = threads
        if precision != BASE_PRECISION and not computes_bfloat16(self.core):
            raise BackendError(
                f"OpenVINO cannot compute in {precision} on this CPU, which has no bfloat16 "
                f"instructions (AVX-512 BF16 or AMX); use --precision {BASE_PRECISION}"
            )

    def compile(self, role: str) -> CompiledGraph:
        """Read a graph, for a batch of 1, and compile it.

        Shapes that are known beforehand let OpenVINO choose its kernels and plan its memory. The
        graph that was read is dropped: the compiled one has what it needs of it.

        Raises
        ------
        BundleError
            If the bundle lacks the graph, a file of it is altered, or OpenVINO cannot read it.
        BackendError
            If there is too little memory, or OpenVINO takes another precision than was asked for.
        """
        names = self._bundle.graph_digests(role, BASE_PRECISION)
        path = self._bundle.directory / next(iter(names))
        sizes = (self._bundle.manifest.files[name].size for name in names)
        require_room_to_compile(path, sum(sizes))
        try:
            with self._verified(role) as file:
                model = self.core.read_model(file)
                files = MappedFiles(Path(file).parent / name for name in [*names][1:])
            signature = signature_of(role, model)
            model.reshape(
                {name: shape_in_batch(spec, 1) for name, spec in signature.inputs.items()}
            )
            planes = _altered(model, self.precision)
            halves: frozenset[str] = frozenset()
            if self.precision != BASE_PRECISION:
                model, halves = pass_kernels_in_bfloat16(model)
            with files.read_once():
                compiled = self.core.compile_model(model, DEVICE, self._settings())
        except (BackendError, BundleError):
            raise
        except Exception as error:  # OpenVINO raises RuntimeError and what pybind11 makes of others
            if is_out_of_memory(error):
                raise too_little_memory(f"load {path}") from error
            raise BundleError(
                f"OpenVINO {version()} cannot load {path} ({cause_of(error)}); use --backend cpu, "
                "or build the bundle again with this version"
            ) from error
        self._check_precision(role, compiled)
        del model
        return_freed_memory()
        logger.debug("%s by OpenVINO in %s", path.name, self.precision)
        return CompiledGraph(compiled, signature, planes, halves, files)

    def _settings(self) -> dict[str, Any]:
        """What is left to no default: on CPUs that have bfloat16 the default precision is that.

        Threads are not pinned to processors, which other work may use as well, and count logical
        processors, as everywhere in this package.
        """
        return {
            "INFERENCE_PRECISION_HINT": OPENVINO_TYPES[self.precision],
            "INFERENCE_NUM_THREADS": useful_threads(self._threads),
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
            "ENABLE_HYPER_THREADING": True,
        }

    @contextmanager
    def _verified(self, role: str) -> Iterator[str]:
        """Give the path of a verified graph, beside the files that it reads tensors from.

        They are the bundle's own, which must stay unaltered until they were read. Where one is a
        symbolic link, as in the caches of Hugging Face, it is a copy of what was verified.
        """
        directory = self._bundle.directory
        names = list(self._bundle.graph_digests(role, BASE_PRECISION))
        if any((directory / name).is_symlink() for name in names):
            with _copies(self._bundle, role) as copied:
                yield copied
            return
        with unaltered_files(directory, names) as folder:
            self._bundle.graph(role)  # verified, and let go of
            yield f"{folder}/{names[0]}"

    def _check_precision(self, role: str, compiled: Any) -> None:
        """Refuse a model that computes in another precision than was asked for.

        Not every operator has a bfloat16 kernel; products have, as far as they can be told.
        """
        wanted = OPENVINO_TYPES[self.precision]
        given = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        found = product_types(compiled)
        if given == wanted and found <= {wanted, "f32"}:
            return
        raise BackendError(
            f"OpenVINO {version()} computes the graph {role} in "
            f"{', '.join(sorted(found | {given}))}, not in {self.precision}; use --backend cpu"
        )


def _altered(model: Any, precision: str) -> dict[str, Array]:
    """Alter a model of static shapes to what OpenVINO computes right and fast.

    Gives the further inputs that it then has, and what they are.
    """
    separate_shared_constants(model)
    drop_products_with_zero(model)
    pad_in_convolutions(model)
    raise_ranks_beside_pictures(model)
    spell_out_permutations(model)
    products_as_convolutions(model)
    turn_in_products(model)
    split_long_products(model)
    sum_taps_by_products(model)
    join_transposed_convolutions(model)
    multiply_behind_filters(model)
    planes = planes_as_inputs(model)
    if precision == BASE_PRECISION:
        return planes
    end_gradients_with_products(model)
    return planes | matrices_as_inputs(model)


def product_types(compiled: Any) -> set[str]:
    """Types that the convolutions and matrix products of a compiled model really compute in."""
    told = (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
    return {
        info["runtimePrecision"].astype(str)
        for info in told
        if info["layerType"].astype(str) in _PRODUCTS
    }


def signature_of(role: str, model: Any) -> Signature:
    """Inputs and outputs of a model that was read; the first axis may be of any length.

    Raises
    ------
    BundleError
        If another axis may, too: no graph here has such.
    """
    outputs = {
        port.get_node().get_friendly_name().removesuffix(_RESULT): port for port in model.outputs
    }
    inputs = {port.get_node().get_friendly_name(): port for port in model.inputs}
    signature = Signature(
        {name: _spec(port) for name, port in inputs.items()},
        {name: _spec(port) for name, port in outputs.items()},
    )
    for name, spec in {**signature.inputs, **signature.outputs}.items():
        if None in spec.shape[1:]:
            raise BundleError(
                f"the graph {role} has an axis of any length in {name} that is not the batch; "
                "build the bundle again"
            )
    return signature


def has_rows(spec: TensorSpec) -> bool:
    """Whether a tensor has one row for each of the batch."""
    return spec.shape[:1] == (None,)


def shape_in_batch(spec: TensorSpec, batch: int) -> tuple[int, ...]:
    """Shape of a tensor in a batch of so many rows."""
    return tuple(batch if length is None else length for length in spec.shape)


def _spec(port: Any) -> TensorSpec:
    shape = (None if axis.is_dynamic else axis.get_length() for axis in port.partial_shape)
    return TensorSpec(tuple(shape), port.get_element_type().to_dtype())


@contextmanager
def _copies(bundle: Bundle, role: str) -> Iterator[str]:
    """Copies of a graph's files, of the content that was verified; once mapped they need no name.

    Where files that are mapped cannot be removed, as on Windows, they stay.
    """
    verified = bundle.graph(role)
    with tempfile.TemporaryDirectory(prefix="hyperstyle-rt-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / verified.path.name
        try:
            path.write_bytes(verified.model)
            for name, content in verified.data.items():
                (Path(folder) / name).write_bytes(content)
        except OSError as error:
            raise BundleError(
                f"cannot copy {verified.path}, which is a link, to {folder} ({reason(error)}); "
                "free space there, or name another place in TMPDIR"
            ) from error
        yield str(path)
