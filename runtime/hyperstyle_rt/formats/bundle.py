"""Engine bundles: directories of graphs with a manifest, nothing of which is used unverified.

A graph is a program (a TensorRT plan even native code), so nothing of a file leaves this module
before its size and SHA-256 have been compared with the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ..errors import BundleError
from ..files import is_directory, reason
from .fields import shown
from .manifest import BASE_PRECISION, Manifest
from .manifest_entries import BundleFile, GraphFile
from .verified_files import BundleFileReader, VerifiedGraph, opened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MANIFEST_NAME = "manifest.json"
LATENT_AVERAGE_NAME = "latent_average.safetensors"
LATENT_SAMPLES_NAME = "latent_samples.safetensors"
PLANS_DIRECTORY = "tensorrt"
BESIDE = ("LICENSE", "NOTICE", "README.md")
"""Files of a bundle that its manifest does not list."""
DATA_SUFFIX = ".data"  # of the file beside a graph that holds its large tensors

MAX_MANIFEST_SIZE = 1 << 20
MAX_LATENTS_SIZE = 1 << 24


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Opening reads the manifest only; files are verified when asked for.

    The bundle and its files may be symbolic links: what a file holds decides, not where it lies.

    Attributes
    ----------
    directory:
        Where the bundle is: absolute, so that it is found after a change of the working directory.
    manifest:
        The checked content of its ``manifest.json``.
    """

    directory: Path
    manifest: Manifest
    _verified: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    _mapped: WeakValueDictionary[str, memoryview] = field(
        default_factory=WeakValueDictionary, init=False, repr=False, compare=False
    )

    @classmethod
    def open(cls, directory: str | Path) -> Bundle:
        """Read and check a bundle's manifest.

        Raises
        ------
        BundleError
            If there is no bundle, or its manifest is damaged or of another version.
        """
        try:
            directory = Path(directory).absolute()
        except OSError as error:
            raise BundleError(
                f"cannot find {directory}, the working directory is gone ({reason(error)}); give "
                "the bundle's whole path"
            ) from None
        if not is_directory(directory):
            raise BundleError(f"there is no directory {directory}; give the directory of a bundle")
        path = directory / MANIFEST_NAME
        with opened(path) as file:
            data = file.read(MAX_MANIFEST_SIZE)
        try:
            manifest = Manifest.parse(data)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from None
        return cls(directory, manifest)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the whole ``files`` table: which build of a bundle something was made with.

        The table is taken as canonical JSON: keys sorted, no white space, ASCII. Inversions are
        tied to the manifest's ``space`` instead, which other files may share.
        """
        text = json.dumps(self.manifest.files_to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def graph(self, role: str, precision: str = BASE_PRECISION) -> VerifiedGraph:
        """Verify a graph with the files it reads tensors from and give their content.

        Every file is opened once: what was hashed is what is handed out.

        Parameters
        ----------
        role:
            One of the manifest's ``graphs``.
        precision:
            ``fp32`` or one of the manifest's ``precisions``; a role that is not listed under it is
            the one of float32.

        Raises
        ------
        BundleError
            If the bundle has no such graph, or a file is missing, altered or not listed.
        """
        graph = self._graph(role, precision)
        with self._opened(graph.file) as file:
            model = file.read_verified(self.manifest.files[graph.file])
        data = {name: self._map(name) for name in graph.data}
        return VerifiedGraph(self.directory / graph.file, model, data)

    def verified_path(self, role: str, precision: str = BASE_PRECISION) -> Path:
        """Verify a graph as :meth:`graph` does and give its path, for what reads only files.

        Raises
        ------
        BundleError
            As :meth:`graph`.
        """
        graph = self._graph(role, precision)
        for name in (graph.file, *graph.data):
            self.verified_file(name)
        return self.directory / graph.file

    def graph_digests(self, role: str, precision: str) -> dict[str, str]:
        """SHA-256, as listed, of all files of a graph by name; raises as :meth:`graph`."""
        graph = self._graph(role, precision)
        return {name: self.manifest.files[name].sha256 for name in (graph.file, *graph.data)}

    def _graph(self, role: str, precision: str) -> GraphFile:
        """Find a graph in the manifest."""
        graphs = self._graphs(precision)
        if role not in graphs:
            raise BundleError(
                f"bundle {self.directory} has no graph {shown(role)}, only "
                f"{', '.join(sorted(graphs))}; build it again with this graph"
            )
        graph = graphs[role]
        beside = graph.file + DATA_SUFFIX
        if beside not in graph.data and os.path.lexists(self.directory / beside):
            raise BundleError(
                f"{self.directory / beside} is not listed in the bundle's manifest as data of "
                f"{graph.file}; restore the bundle or build it again"
            )
        return graph

    def _graphs(self, precision: str) -> Mapping[str, GraphFile]:
        """All graphs as they are used in a precision."""
        manifest = self.manifest
        if precision == BASE_PRECISION:
            return manifest.graphs
        if precision not in manifest.precisions:
            offered = ", ".join([BASE_PRECISION, *manifest.precisions])
            raise BundleError(
                f"bundle {self.directory} has no {precision} graphs, only {offered}; use one of "
                f"these, or build it again with --precision {BASE_PRECISION},fp16"
            )
        return {**manifest.graphs, **manifest.precisions[precision]}

    def verified_plan(self, key: str, role: str) -> Path:
        """Verify a TensorRT plan of the bundle and give its path.

        Parameters
        ----------
        key:
            One of the manifest's ``plans``.
        role:
            As of :meth:`graph`.

        Raises
        ------
        BundleError
            If the bundle has no such plan, or it is missing or altered: it must not be loaded.
        """
        return self.verified_plan_file(key, f"{role}.plan")

    def verified_ep_context(self, key: str, role: str) -> Path:
        """Verify the model through which ONNX Runtime loads a plan, and the plan; give its path.

        Raises
        ------
        BundleError
            If the bundle has no such model or plan, or one is missing or altered.
        """
        self.verified_plan(key, role)
        return self.verified_plan_file(key, f"{role}.onnx")

    def verified_plan_file(self, key: str, name: str) -> Path:
        """Verify one of the files listed under a set of plans and give its path.

        Raises
        ------
        BundleError
            If it is not listed, missing or altered.
        """
        path, listed = self._plan_file(key, name)
        with opened(path) as file:
            file.verify(listed)
        return path

    def plan(self, key: str, role: str) -> memoryview:
        """Verify a TensorRT plan and give its content: what was hashed is what is handed out.

        Raises
        ------
        BundleError
            As :meth:`verified_plan`.
        """
        path, listed = self._plan_file(key, f"{role}.plan")
        with opened(path) as file:
            return file.map_verified(listed)

    def _plan_file(self, key: str, name: str) -> tuple[Path, BundleFile]:
        plans = self.manifest.plans.get(key, {})
        if name not in plans:
            offered = ", ".join(self.manifest.plans) or "nothing"
            raise BundleError(
                f"bundle {self.directory} has no {name} for TensorRT {key}, only plans for "
                f"{offered}; build it again with --tensorrt on this machine"
            )
        return self.directory / PLANS_DIRECTORY / key / name, plans[name]

    def verified_file(self, name: str) -> Path:
        """Verify one listed file and give its path.

        A file is verified once per instance: not again when it changes later.

        Raises
        ------
        BundleError
            If the file is not listed, missing, or altered.
        """
        if name not in self._verified:
            with self._opened(name) as file:
                file.verify(self.manifest.files[name])
            self._verified.add(name)
        return self.directory / name

    def read_file(self, name: str, limit: int) -> bytes:
        """Verify one listed file of at most ``limit`` bytes and give its content.

        Raises
        ------
        BundleError
            If the file is not listed, missing, altered, or larger.
        """
        with self._opened(name) as file:
            listed = self.manifest.files[name]
            if listed.size > limit:
                raise BundleError(
                    f"{file.path} is larger than {limit} bytes, so it is not the kind of file "
                    "expected"
                )
            return file.read_verified(listed)

    def verify(self) -> None:
        """Verify every file of the bundle.

        Raises
        ------
        BundleError
            For the first file that is missing, altered or not listed.
        """
        for name in self.manifest.files:
            self.verified_file(name)
        for precision in (BASE_PRECISION, *self.manifest.precisions):
            for role in self._graphs(precision):
                self.verified_path(role, precision)
        for key, plans in self.manifest.plans.items():
            for name in plans:
                self.verified_plan_file(key, name)

    def latent_average(self) -> NDArray[np.float32] | None:
        """Read the average latent, with which an inversion starts.

        Returns
        -------
        float32 [L,W], or None if the bundle carries none.

        Raises
        ------
        BundleError
            If the file is missing, altered, or does not hold that.
        """
        average = self._latents(LATENT_AVERAGE_NAME, "latent_average", ("float32",))
        shape = (self.manifest.num_latents, self.manifest.latent_width)
        if average is not None and average.shape != shape:
            raise BundleError(
                f"{self.directory / LATENT_AVERAGE_NAME} must hold latents of shape {list(shape)}, "
                f"not {list(average.shape)}; build the bundle again"
            )
        return average

    def latent_samples(self) -> NDArray[np.float32] | None:
        """Read latents of the bundle's own kind, where normal vectors do not map to such.

        Returns
        -------
        float32 [N,W], N at least 2, or None if the bundle carries none.

        Raises
        ------
        BundleError
            If the file is missing, altered, or does not hold that.
        """
        samples = self._latents(LATENT_SAMPLES_NAME, "latent_samples", ("float32", "float16"))
        width = self.manifest.latent_width
        if samples is not None and (samples.shape[1:] != (width,) or len(samples) < 2):
            raise BundleError(
                f"{self.directory / LATENT_SAMPLES_NAME} must hold latents of shape [N,{width}], N "
                f"at least 2, not {list(samples.shape)}; build the bundle again"
            )
        return samples

    def _latents(
        self, file: str, tensor: str, types: tuple[str, ...]
    ) -> NDArray[np.float32] | None:
        """A tensor of a file of latents, as float32; None if the bundle has no such file."""
        import numpy as np

        from .tensors import parse

        if file not in self.manifest.files:
            return None
        path = self.directory / file
        try:
            found = parse(self.read_file(file, MAX_LATENTS_SIZE)).tensors.get(tensor)
        except ValueError as error:
            raise BundleError(f"{path} {error}; build the bundle again") from None
        if found is None or found.dtype.name not in types:
            raise BundleError(
                f"{path} must hold the tensor {tensor} of {' or '.join(types)}; build the bundle "
                "again"
            )
        if not np.isfinite(found).all():
            raise BundleError(f"{path} holds NaN or infinity; build the bundle again")
        return found.astype(np.float32)

    def _opened(self, name: str) -> BundleFileReader:
        if name not in self.manifest.files:
            raise BundleError(
                f"bundle {self.directory} lists no file {shown(name)}; build it again with this "
                "file"
            )
        return opened(self.directory / name)

    def _map(self, name: str) -> memoryview:
        """Content of a data file; graphs that share one share its mapping while it is in use."""
        mapped = self._mapped.get(name)
        if mapped is None:
            with self._opened(name) as file:
                mapped = file.map_verified(self.manifest.files[name])
            self._mapped[name] = mapped
        return mapped


def foreign_names(directory: Path, listed: Iterable[str]) -> list[str]:
    """What lies in a bundle's directory and is not its own, by what its manifest lists there."""
    own = {MANIFEST_NAME, *BESIDE, *listed}
    return sorted(path.name for path in directory.iterdir() if path.name not in own)
