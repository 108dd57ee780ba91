"""What a manifest lists: layers, graphs, files, each read from a document and written to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .fields import MAX_INTEGER, Fields

MAX_WIDTH = 65536


@dataclass(frozen=True)
class TunedLayer:
    """A convolution whose kernel is tuned per picture: one row of the offset codes.

    Attributes
    ----------
    index:
        Its place among the generator's layers as the method's authors number them; ascending.
    name:
        As in the checkpoint, e.g. ``convs.3``; its kernel is the graph tensor ``weight.convs.3``.
    shape:
        (O, I, k, k) of the kernel.
    """

    index: int
    name: str
    shape: tuple[int, int, int, int]

    @classmethod
    def from_fields(cls, fields: Fields) -> TunedLayer:
        """Read it from a manifest; raises BundleError for a field that is missing or wrong."""
        out_channels, in_channels, height, width = fields.integers("shape", 4, 1, MAX_WIDTH)
        return cls(
            index=fields.integer("index", 0, MAX_WIDTH),
            name=fields.plain_name("name"),
            shape=(out_channels, in_channels, height, width),
        )

    def to_json(self) -> dict[str, Any]:
        """The inverse of :meth:`from_fields`."""
        return {"index": self.index, "name": self.name, "shape": list(self.shape)}


@dataclass(frozen=True)
class CodeLayout:
    """The offset codes of a bundle: [M,width], a row for every tuned layer.

    Attributes
    ----------
    width:
        K+1: a code and the number of codes that were summed up.
    space:
        Identity of what expands codes to kernels, 64 lower-case hexadecimal digits: codes mean the
        same in two bundles that agree in it.
    """

    width: int
    space: str

    @classmethod
    def from_fields(cls, fields: Fields) -> CodeLayout:
        """Read it from a manifest; raises BundleError for a field that is missing or wrong."""
        return cls(fields.integer("width", 2, MAX_WIDTH), fields.sha256("space"))

    def to_json(self) -> dict[str, Any]:
        """The inverse of :meth:`from_fields`."""
        return {"width": self.width, "space": self.space}


@dataclass(frozen=True)
class GraphFile:
    """A graph in a bundle.

    Attributes
    ----------
    file:
        Name of its ONNX file.
    data:
        Every file it reads tensors from; some may be those of other graphs.
    macs:
        Multiply-accumulates of a run with a batch of one; None where they were not counted.
    bytes_moved:
        What its convolutions and matrix products read and write at least in such a run, weights and
        activations; None likewise.
    """

    file: str
    data: tuple[str, ...] = ()
    macs: int | None = None
    bytes_moved: int | None = None

    @classmethod
    def from_fields(cls, fields: Fields) -> GraphFile:
        """Read it from a manifest; raises BundleError for a field that is missing or wrong."""
        macs, moved = (
            fields.integer(name, 0, MAX_INTEGER) if fields.has(name) else None
            for name in ("macs", "bytes_moved")
        )
        return cls(fields.plain_name("file"), fields.plain_names("data"), macs, moved)

    def to_json(self) -> dict[str, Any]:
        """The inverse of :meth:`from_fields`."""
        costs = {"macs": self.macs, "bytes_moved": self.bytes_moved}
        counted = {name: cost for name, cost in costs.items() if cost is not None}
        return {"file": self.file, "data": list(self.data)} | counted


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle.

    Attributes
    ----------
    sha256:
        Digest of the content, 64 lower-case hexadecimal digits.
    size:
        Length in bytes (``bytes`` in the JSON).
    stored:
        Type of its tensors on disk, e.g. ``fp16``.
    """

    sha256: str
    size: int
    stored: str

    @classmethod
    def from_fields(cls, fields: Fields) -> BundleFile:
        """Read it from a manifest; raises BundleError for a field that is missing or wrong."""
        return cls(
            sha256=fields.sha256("sha256"),
            size=fields.integer("bytes", 0, MAX_INTEGER),
            stored=fields.plain_name("stored"),
        )

    def to_json(self) -> dict[str, Any]:
        """The inverse of :meth:`from_fields`."""
        return {"sha256": self.sha256, "bytes": self.size, "stored": self.stored}


@dataclass(frozen=True)
class BaseBundle:
    """The bundle whose inversions an adapted bundle renders.

    Attributes
    ----------
    name, space:
        Its name, and the space its inversions are tied to.
    """

    name: str
    space: str

    @classmethod
    def from_fields(cls, fields: Fields) -> BaseBundle:
        """Read it from a manifest; raises BundleError for a field that is missing or wrong."""
        return cls(fields.plain_name("name"), fields.sha256("space"))

    def to_json(self) -> dict[str, Any]:
        """The inverse of :meth:`from_fields`."""
        return {"name": self.name, "space": self.space}
