"""Engine bundles: directories of graphs with a manifest, nothing of which is used unverified.

A graph is a program (a TensorRT plan even native code), so no path leaves this module before the
file's size and SHA-256 have been compared with the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BundleError
from ..files import read_regular, reason, sha256
from .manifest import BASE_PRECISION, BundleFile, Manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MANIFEST_NAME = "manifest.json"
LATENT_AVERAGE_NAME = "latent_average.safetensors"
PLANS_DIRECTORY = "tensorrt"
DATA_SUFFIX = ".data"  # of the file beside a graph that holds its large tensors
DEFAULT_BUNDLE = "portraits"

MAX_MANIFEST_SIZE = 1 << 20
MAX_LATENT_AVERAGE_SIZE = 1 << 24

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Opening reads the manifest only; files are verified when asked for.

    Attributes
    ----------
    directory:
        Where the bundle is; it may be a symbolic link, the files in it may not.
    manifest:
        The checked content of its ``manifest.json``.
    """

    directory: Path
    manifest: Manifest
    _verified: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @classmethod
    def open(cls, directory: str | Path) -> Bundle:
        """Read and check a bundle's manifest.

        Raises
        ------
        BundleError
            If there is no bundle, or its manifest is damaged or of another version.
        """
        directory = Path(directory)
        path = directory / MANIFEST_NAME
        if not stat.S_ISDIR(_mode(directory)):
            raise BundleError(f"there is no directory {directory}; give the directory of a bundle")
        _stat_regular(path)
        data = read_regular(path, MAX_MANIFEST_SIZE, BundleError)
        try:
            manifest = Manifest.parse(data)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from None
        return cls(directory, manifest)

    @cached_property
    def digest(self) -> str:
        """SHA-256 that inversions are tied to: of the ``files`` table as far as it defines them.

        The float32 graphs with their data and the average latent say what latents and codes mean.
        Twins in other precisions compute the same, and so do files of later versions: to add them
        to a bundle must not orphan the inversions made with it.

        The table is taken as canonical JSON: keys sorted, no white space, ASCII.
        """
        names = {LATENT_AVERAGE_NAME}
        for graph in self.manifest.graphs.values():
            names |= {graph, graph + DATA_SUFFIX}
        table = {k: v for k, v in self.manifest.files_to_json().items() if k in names}
        text = json.dumps(table, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def verified_path(self, role: str, precision: str = BASE_PRECISION) -> Path:
        """Verify a graph with its external data and give the graph's path.

        Parameters
        ----------
        role:
            ``encoder``, ``hypernet``, ``weights``, ``generator``, ``offsets``, ``mapping``, or one
            of the manifest's ``refinement``.
        precision:
            ``fp32`` or one of the manifest's ``precisions``; optional graphs have no twins, theirs
            are the float32 ones.

        Raises
        ------
        BundleError
            If the bundle has no such graph, or a file is missing, altered or not listed.
        """
        graph = self._graph_file(role, precision)
        data_name = graph + DATA_SUFFIX
        for name in self._read_with(graph):
            self.verified_file(name)
        if data_name not in self.manifest.files and os.path.lexists(self.directory / data_name):
            raise BundleError(
                f"{self.directory / data_name} is not listed in the bundle's manifest; "
                "restore the bundle or build it again"
            )
        return self.verified_file(graph)

    def graph_digests(self, role: str, precision: str) -> dict[str, str]:
        """SHA-256, as listed, of all files of a graph by name; raises as :meth:`verified_path`."""
        name = self._graph_file(role, precision)
        return {n: self.manifest.files[n].sha256 for n in (name, *self._read_with(name))}

    def _graph_file(self, role: str, precision: str) -> str:
        """Name of a graph's file."""
        graphs = self._graphs(precision)
        if role not in graphs:
            self.require_inverting()
            raise BundleError(
                f"bundle {self.directory} has no graph {role!r}, only {', '.join(sorted(graphs))}; "
                "build it again with this graph"
            )
        return graphs[role]

    def _read_with(self, graph: str) -> list[str]:
        """Files that a graph may read its large tensors from; another's only to refine."""
        listed = self.manifest.files
        if graph in self.manifest.refinement.values():
            return [name for name in listed if name.endswith(DATA_SUFFIX)]
        return [graph + DATA_SUFFIX] if graph + DATA_SUFFIX in listed else []

    def require_inverting(self) -> None:
        """Refuse an adapted bundle, which cannot do without its base.

        Raises
        ------
        BundleError
            If this is one.
        """
        if self.manifest.base is not None:
            raise BundleError(
                f"bundle {self.manifest.name!r} only renders what bundle "
                f"{self.manifest.base.name!r} has inverted; use it with hyperstyle-rt adapt"
            )

    def _graphs(self, precision: str) -> Mapping[str, str]:
        manifest = self.manifest
        graphs = {**manifest.refinement, **manifest.graphs}
        if precision == BASE_PRECISION:
            return graphs
        if precision not in manifest.precisions:
            offered = ", ".join([BASE_PRECISION, *manifest.precisions])
            raise BundleError(
                f"bundle {self.directory} has no {precision} graphs, only {offered}; use one of "
                f"these, or build it again with --precision {BASE_PRECISION},fp16"
            )
        return {**graphs, **manifest.precisions[precision]}

    def verified_plan(self, key: str, role: str) -> Path:
        """Verify a TensorRT plan of the bundle and give its path.

        Parameters
        ----------
        key:
            One of the manifest's ``plans``.
        role:
            As of :meth:`verified_path`.

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
        plans = self.manifest.plans.get(key, {})
        if name not in plans:
            offered = ", ".join(self.manifest.plans) or "nothing"
            raise BundleError(
                f"bundle {self.directory} has no {name} for TensorRT {key}, only plans for "
                f"{offered}; build it again with --tensorrt on this machine"
            )
        directory = self.directory / PLANS_DIRECTORY / key
        for parent in (directory.parent, directory):
            if parent.is_symlink():
                raise BundleError(f"{parent} is a symbolic link; put the directory itself there")
        _verify(directory / name, plans[name])
        return directory / name

    def verified_file(self, name: str) -> Path:
        """Verify one listed file and give its path.

        A file is read once per instance: it is not verified again when it changes later.

        Raises
        ------
        BundleError
            If the file is not listed, missing, a symbolic link, or altered.
        """
        if name not in self.manifest.files:
            raise BundleError(
                f"bundle {self.directory} lists no file {name!r}; build it again with this file"
            )
        path = self.directory / name
        if name not in self._verified:
            _verify(path, self.manifest.files[name])
            self._verified.add(name)
        return path

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
        """Read the average latent that the encoder adds to what it finds in a picture.

        Returns
        -------
        float32 [L,W], or None if the bundle carries none.

        Raises
        ------
        BundleError
            If the file is missing, altered, or does not hold that.
        """
        import numpy as np

        from .tensors import parse

        if LATENT_AVERAGE_NAME not in self.manifest.files:
            return None
        path = self.verified_file(LATENT_AVERAGE_NAME)
        try:
            tensors = parse(read_regular(path, MAX_LATENT_AVERAGE_SIZE, BundleError)).tensors
        except ValueError as error:
            raise BundleError(f"{path} {error}; build the bundle again") from None
        average = tensors.get("latent_average")
        shape = (self.manifest.num_latents, self.manifest.style_width)
        if average is None or average.dtype != np.float32 or average.shape != shape:
            raise BundleError(
                f"{path} must hold the float32 tensor latent_average of shape {list(shape)}; "
                "build the bundle again"
            )
        if not np.isfinite(average).all():
            raise BundleError(f"{path} holds NaN or infinity; build the bundle again")
        return average


def default_bundle() -> Path:
    """Find the embedded bundle: in the installed package, or in the repository it is run from.

    Raises
    ------
    BundleError
        If it is not there.
    """
    directory = _embedded_engines() / DEFAULT_BUNDLE
    if not _is_bundle(directory):
        raise BundleError(
            f"the embedded bundle is missing at {directory}; "
            "reinstall hyperstyle-rt or name another bundle with --bundle"
        )
    return directory


def find_bundle(name_or_path: str | Path | None) -> Path:
    """Find the bundle a user means.

    Parameters
    ----------
    name_or_path:
        None for the embedded default, a directory, or a bare name that is looked up in ``engines/``
        here and in the embedded engines. A name that is both means the one with a manifest.

    Raises
    ------
    BundleError
        If there is none; the text lists the names there are.
    """
    if name_or_path is None:
        return default_bundle()
    path = Path(name_or_path)
    candidates = [path]
    if path.name == str(path):
        candidates += [engines / path for engines in _engine_directories()]
    for candidate in candidates:
        if _is_bundle(candidate):
            return candidate
    if stat.S_ISDIR(_mode(path)):
        return path  # to open it says what is missing
    names = ", ".join(_available_names()) or "none"
    raise BundleError(
        f"there is no bundle {str(name_or_path)!r}; give a directory or a name found here: {names}"
    )


def _embedded_engines() -> Path:
    packaged = _PACKAGE / "engines"
    return packaged if packaged.is_dir() else _PACKAGE.parents[1] / "engines"


def _engine_directories() -> list[Path]:
    return [Path("engines"), _embedded_engines()]


def _available_names() -> list[str]:
    manifests = [f for e in _engine_directories() for f in e.glob(f"*/{MANIFEST_NAME}")]
    return sorted({manifest.parent.name for manifest in manifests})


def _is_bundle(directory: Path) -> bool:
    return stat.S_ISREG(_mode(directory / MANIFEST_NAME))


def _mode(path: Path) -> int:
    """Give type and permissions, or 0 for what is absent, closed to us, or no path at all."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _stat_regular(path: Path) -> int:
    """Refuse all but a regular file, links included; give its size."""
    try:
        status = path.lstat()
    except (OSError, ValueError) as error:
        raise BundleError(
            f"cannot find {path} ({reason(error)}); give the directory of a bundle, or restore it"
        ) from None
    if stat.S_ISLNK(status.st_mode):
        raise BundleError(f"{path} is a symbolic link; put the file itself in the bundle")
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path} is not a regular file; restore the bundle or build it again")
    return status.st_size


def _verify(path: Path, expected: BundleFile) -> None:
    size = _stat_regular(path)
    if size != expected.size:
        raise BundleError(
            f"{path} has {size} bytes where the manifest says {expected.size}; "
            "restore the bundle or build it again"
        )
    try:
        digest = sha256(path)
    except OSError as error:
        raise BundleError(f"cannot read {path}: {reason(error)}") from error
    if digest != expected.sha256:
        raise BundleError(
            f"{path} is altered, its SHA-256 is not the manifest's; "
            "restore the bundle or build it again"
        )
