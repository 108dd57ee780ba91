"""The backends there are. Whatever names, describes or opens backends takes it from here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import BackendError
from ..formats.precisions import BASE_PRECISION

if TYPE_CHECKING:
    from ..formats.bundle import Bundle
    from .protocol import Backend

logger = logging.getLogger(__name__)

AUTOMATIC = "auto"
NOT_OFFERED = "not in this build of ONNX Runtime"
GRAPH_PRECISIONS = (BASE_PRECISION, "fp16")
"""What a bundle's graphs are stored in."""

BFLOAT16 = "bf16"
PRECISIONS = (*GRAPH_PRECISIONS, BFLOAT16)
"""What can be asked for, the most exact first: ``bf16`` are the fp32 graphs, computed in it."""


Opener = Callable[[str, "Bundle", "int | None", str, "int | None"], "Backend"]
"""(name, bundle, threads, precision, device) -> an open backend."""

Lister = Callable[[str], "list[str]"]
"""name -> the devices that can be asked for, for people."""

Probe = Callable[[str], "str | None"]
"""name -> why it cannot be used here, or None."""


@dataclass(frozen=True)
class BackendEntry:
    """A backend that can be asked for.

    Attributes
    ----------
    name:
        What it is called everywhere.
    module, opener, probe:
        Module of this package, and its functions of types :data:`Opener` and :data:`Probe`;
        imported when used.
    memory:
        Where its tensors are: ``cpu`` or ``cuda``.
    precisions:
        What can be asked of it.
    requires:
        What must be installed, for people.
    description:
        What it does, one line.
    lister:
        Function of the module of type :data:`Lister`, where a device can be asked for.
    """

    name: str
    module: str
    opener: str
    probe: str
    memory: str
    precisions: tuple[str, ...]
    requires: str
    description: str
    lister: str = ""

    @property
    def chooses_device(self) -> bool:
        """Whether one of several devices can be asked for."""
        return bool(self.lister)

    def open(
        self, bundle: Bundle, threads: int | None, precision: str, device: int | None
    ) -> Backend:
        """Open it; raises as :func:`open_backend`."""
        if precision not in self.precisions:
            others = [entry.name for entry in BACKENDS if precision in entry.precisions]
            raise BackendError(
                f"the backend {self.name} has no precision {precision!r}, only "
                f"{', '.join(self.precisions)}; use one of these"
                + (f", or --backend {' or '.join(others)}" if others else "")
            )
        if device is not None and device < 0:
            raise BackendError(f"there is no device {device}; the first is 0")
        if device is not None and not self.chooses_device:
            cure = "; CUDA_VISIBLE_DEVICES tells which GPU it uses" if self.memory == "cuda" else ""
            raise BackendError(
                f"the backend {self.name} has no devices to choose from; leave --device out{cure}"
            )
        opener: Opener = getattr(import_module(self.module, __package__), self.opener)
        return opener(self.name, bundle, threads, precision, device)

    def devices(self) -> list[str]:
        """What it can be asked to run on, for people, by number; empty where there is no choice.

        Only of a backend without a :meth:`problem`.
        """
        if not self.chooses_device:
            return []
        lister: Lister = getattr(import_module(self.module, __package__), self.lister)
        return lister(self.name)

    def problem(self) -> str | None:
        """Why it cannot be used on this machine, in few words; None if it can, as far as is known.

        Nothing is opened but the smallest graph there is, and no plan is built.
        """
        probe: Probe = getattr(import_module(self.module, __package__), self.probe)
        return probe(self.name)


BACKENDS = (
    BackendEntry(
        name="cpu",
        module=".ort",
        opener="open_provider",
        probe="probe_provider",
        memory="cpu",
        precisions=GRAPH_PRECISIONS,
        requires="onnxruntime or onnxruntime-gpu",
        description="ONNX Runtime on the CPU",
    ),
    BackendEntry(
        name="openvino",
        module=".openvino",
        opener="open_openvino",
        probe="probe_openvino",
        memory="cpu",
        precisions=(BASE_PRECISION, BFLOAT16),
        requires="openvino",
        description="OpenVINO on the CPU, bf16 where the CPU has it",
    ),
    BackendEntry(
        name="cuda",
        module=".ort",
        opener="open_provider",
        probe="probe_provider",
        memory="cuda",
        precisions=GRAPH_PRECISIONS,
        requires="onnxruntime-gpu, CUDA, cuDNN",
        description="ONNX Runtime's CUDA provider",
        lister="list_devices",
    ),
    BackendEntry(
        name="tensorrt",
        module=".tensorrt",
        opener="open_tensorrt",
        probe="probe_tensorrt",
        memory="cuda",
        precisions=GRAPH_PRECISIONS,
        requires="TensorRT 10.4 to 11.x, cuda-python",
        description="TensorRT plans, a whole inversion as one CUDA graph",
    ),
    BackendEntry(
        name="tensorrt-pycuda",
        module=".cuda.pycuda_arrays",
        opener="open_beside_pycuda",
        probe="probe_beside_pycuda",
        memory="cuda",
        precisions=GRAPH_PRECISIONS,
        requires="TensorRT 10.4 to 11.x, cuda-python, PyCUDA",
        description="the same in PyCUDA's primary context",
    ),
    BackendEntry(
        name="ort-tensorrt",
        module=".ort",
        opener="open_provider",
        probe="probe_provider",
        memory="cuda",
        precisions=GRAPH_PRECISIONS,
        requires="onnxruntime-gpu, TensorRT 10",
        description="the bundle's TensorRT plans in ONNX Runtime",
    ),
    BackendEntry(
        name="tensorrt-rtx",
        module=".ort",
        opener="open_provider",
        probe="probe_provider",
        memory="cpu",
        precisions=GRAPH_PRECISIONS,
        requires="onnxruntime, onnxruntime-ep-nv-tensorrt-rtx-cu12 or -cu13",
        description="TensorRT for RTX, a plug-in of ONNX Runtime",
        lister="list_devices",
    ),
    BackendEntry(
        name="webgpu",
        module=".ort",
        opener="open_provider",
        probe="probe_provider",
        memory="cpu",
        precisions=GRAPH_PRECISIONS,
        requires="onnxruntime, onnxruntime-ep-webgpu",
        description="WebGPU (Vulkan, Direct3D, Metal), a plug-in of ONNX Runtime",
        lister="list_devices",
    ),
    BackendEntry(
        name="mlx",
        module=".ort",
        opener="open_provider",
        probe="probe_provider",
        memory="cpu",
        precisions=GRAPH_PRECISIONS,
        requires="onnxruntime, onnxruntime-ep-mlx",
        description="MLX on Apple silicon, a plug-in of ONNX Runtime",
        lister="list_devices",
    ),
    BackendEntry(
        name="ort-openvino",
        module=".ort",
        opener="open_provider",
        probe="probe_provider",
        memory="cpu",
        precisions=(BASE_PRECISION,),
        requires="onnxruntime, onnxruntime-ep-openvino",
        description="OpenVINO on Intel's GPUs and NPUs, a plug-in of ONNX Runtime",
        lister="list_devices",
    ),
)
BACKEND_NAMES = (AUTOMATIC, *(entry.name for entry in BACKENDS))
_BY_NAME = {entry.name: entry for entry in BACKENDS}
_AUTOMATIC_ORDER = ("cuda", "cpu")
_AUTOMATIC_BFLOAT16 = "openvino"  # the only backend that has it


def open_backend(
    name: str,
    bundle: Bundle,
    threads: int | None,
    precision: str = BASE_PRECISION,
    device: int | None = None,
) -> Backend:
    """Open a backend by its name: one of :data:`BACKEND_NAMES`.

    Parameters
    ----------
    name:
        ``auto`` takes CUDA where ONNX Runtime can really use it, the CPU otherwise, and for bf16
        OpenVINO; the others never fall back.
    threads:
        Threads of one operator on the CPU at most; None for as many as the processors that this
        process may use, more than which there never are.
    precision:
        ``fp32``; ``fp16``, if the bundle has graphs in it; ``bf16``, in which OpenVINO computes the
        fp32 graphs.
    device:
        Which of the devices that a backend has, from 0; None for the first, which is all that most
        have.

    Raises
    ------
    BackendError
        If there is no such backend, it has no such precision or device, or it is not usable on this
        machine.
    BundleError
        If the bundle has no graphs of that precision, or one is altered.
    """
    if name == AUTOMATIC:
        return _open_automatically(bundle, threads, precision, device)
    return entry_of(name).open(bundle, threads, precision, device)


def entry_of(name: str) -> BackendEntry:
    """Entry of a backend.

    Raises
    ------
    BackendError
        If there is none of this name.
    """
    if name not in _BY_NAME:
        raise BackendError(
            f"there is no backend {name!r}; choose one of {', '.join(BACKEND_NAMES)}"
        )
    return _BY_NAME[name]


def _open_automatically(
    bundle: Bundle, threads: int | None, precision: str, device: int | None
) -> Backend:
    """The first of :data:`_AUTOMATIC_ORDER` that ONNX Runtime offers and can open.

    Bfloat16, which loses digits, is only taken where it is asked for.
    """
    if precision == BFLOAT16:
        return entry_of(_AUTOMATIC_BFLOAT16).open(bundle, threads, precision, device)
    from .ort import usable_providers

    *preferred, last = _AUTOMATIC_ORDER
    for name in preferred:
        if name in usable_providers():
            try:
                return entry_of(name).open(bundle, threads, precision, device)
            except BackendError as error:
                logger.warning("%s; using the CPU", error)
    return entry_of(last).open(bundle, threads, precision, device)
