"""Sessions of ONNX Runtime made of verified files."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BackendError, BundleError
from ..formats.bundle import Bundle
from .cuda.driver import find_gpu
from .graph_files import unaltered_files
from .native_memory import is_out_of_memory, return_freed_memory, too_little_memory
from .ort_library import NEGATION, first_line, load_onnxruntime, session_options
from .ort_mapped_tensors import MappedTensors
from .ort_providers import ChosenProvider
from .protocol import Signature, TensorSpec

if TYPE_CHECKING:
    import onnxruntime

logger = logging.getLogger(__name__)

LOADED_TENSORRT = "10."  # the major version that ONNX Runtime's TensorRT provider is linked to
BACKWARD = "objective"  # how the roles of graphs with a backward pass end
_DATA_FOLDER = "session.model_external_initializers_file_folder_path"
_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(bool)": np.dtype(np.bool_),
}


@dataclass(frozen=True)
class OpenGraph:
    """A session, what it takes and gives, and tensors that it reads in a mapped file."""

    session: onnxruntime.InferenceSession
    signature: Signature
    tensors: MappedTensors | None


@dataclass(frozen=True)
class SessionMaker:
    """Opens the graphs of a bundle with one provider.

    Attributes
    ----------
    bundle:
        Whose graphs.
    precision:
        Of the graphs.
    provider:
        What is to run them.
    threads:
        Most threads of one operator on the CPU; None for one per usable processor.
    """

    bundle: Bundle
    precision: str
    provider: ChosenProvider
    threads: int | None

    def check(self) -> None:
        """Find out whether there are such graphs and the provider works, before one is opened.

        Raises
        ------
        BundleError
            If the bundle has no graphs of that precision.
        BackendError
            If ONNX Runtime cannot use the provider.
        """
        for role in self.bundle.manifest.graphs:
            self.bundle.graph_digests(role, self.precision)
        try:
            self.provider.open_session(NEGATION, session_options(1))
        except BackendError:
            raise
        except Exception as error:  # ONNX Runtime raises its own types, which share no base
            raise BackendError(
                f"ONNX Runtime {load_onnxruntime().__version__} cannot use {self.provider.name} "
                f"({first_line(error)}); check this machine with hyperstyle-rt doctor, or use "
                "--backend cpu"
            ) from error

    def weighs(self, role: str) -> int:
        """Bytes of a graph's files; raises BundleError if the bundle lacks it."""
        names = self.bundle.graph_digests(role, self.precision)
        return sum(self.bundle.manifest.files[name].size for name in names)

    def open(self, role: str, mapped: bool = False) -> OpenGraph:
        """Open a graph.

        The graph is handed over as the bytes that were verified. Its tensors are read by ONNX
        Runtime from their files, which must then be those that were there before the verification:
        what was altered or replaced in between is refused. Given as bytes they would be
        copied once more, a gigabyte for `weights` of the official layout. That is done where a
        file is a symbolic link, as ONNX Runtime does not follow one out of its folder.

        Parameters
        ----------
        mapped:
            Read large tensors where their file is mapped, which is slower by a tenth or two and
            shares them with other graphs. A file that is a symbolic link is read as ever.

        Raises
        ------
        BundleError
            If the bundle lacks the graph, or a file of it is altered; if it cannot be loaded.
        BackendError
            If ONNX Runtime gives another provider.
        """
        directory = self.bundle.directory
        names = list(self.bundle.graph_digests(role, self.precision))
        options = session_options(self.threads)
        # With a backward pass behind it, a buffer would be kept for one of the same size there.
        options.enable_mem_reuse = not role.endswith(BACKWARD)
        if any((directory / name).is_symlink() for name in names):
            verified = self.bundle.graph(role, self.precision)
            options.add_external_initializers_from_files_in_memory(
                list(verified.data),
                list(verified.data.values()),
                [content.nbytes for content in verified.data.values()],
            )
            return self._make(verified.path, verified.model, options)
        tensors = None
        with unaltered_files(directory, names) as folder:
            verified = self.bundle.graph(role, self.precision)
            path, model = verified.path, verified.model
            if mapped:
                tensors = MappedTensors(verified, Path(folder))
                tensors.give(options)
            del verified  # and with it the mapping of the data
            options.add_session_config_entry(_DATA_FOLDER, folder)
            return self._make(path, model, options, tensors)

    def open_plan(self, role: str) -> OpenGraph:
        """Open the bundle's TensorRT plan of a graph, through the model that stands for it.

        Raises
        ------
        BundleError
            If the bundle has no plan that this GPU and ONNX Runtime can load, or it is altered.
        BackendError
            As :meth:`open`, and where there is no GPU.
        """
        suffix = f"-sm{find_gpu().sm}-{self.precision}"
        keys = [key for key in self.bundle.manifest.plans if key.endswith(suffix)]
        loadable = [key for key in keys if key.startswith(LOADED_TENSORRT)]
        key = loadable[-1] if loadable else f"{LOADED_TENSORRT}x{suffix}"
        path = self.bundle.verified_ep_context(key, role)
        return self._make(path, str(path), session_options(self.threads))

    def _make(
        self,
        path: Path,
        model: bytes | str,
        options: onnxruntime.SessionOptions,
        tensors: MappedTensors | None = None,
    ) -> OpenGraph:
        try:
            session = self.provider.open_session(model, options)
        except BackendError:
            raise
        except Exception as error:  # ONNX Runtime raises its own types, which share no base
            if is_out_of_memory(error):
                raise too_little_memory(f"load {path}") from error
            version = load_onnxruntime().__version__
            raise BundleError(
                f"ONNX Runtime {version} cannot load {path}; build the bundle again with this "
                f"version ({first_line(error)})"
            ) from error
        logger.debug("%s on %s", path.name, self.provider.label)
        return_freed_memory()
        return OpenGraph(session, signature_of(session), tensors)


def signature_of(session: onnxruntime.InferenceSession) -> Signature:
    """Inputs and outputs of a session; an axis with a name is one of any length.

    Raises
    ------
    BackendError
        If a tensor has a type that no graph here has.
    """
    return Signature(
        {value.name: _spec(value) for value in session.get_inputs()},
        {value.name: _spec(value) for value in session.get_outputs()},
    )


def dtype_of(name: str) -> np.dtype[Any]:
    """The type that ONNX Runtime calls ``tensor(float)`` and so on.

    Raises
    ------
    BackendError
        If no graph here has it.
    """
    if name not in _DTYPES:
        raise BackendError(f"tensors of type {name} are not supported; build the bundle again")
    return _DTYPES[name]


def _spec(value: Any) -> TensorSpec:
    shape = tuple(length if isinstance(length, int) else None for length in value.shape)
    return TensorSpec(shape, dtype_of(value.type))
