"""OpenVINO's intermediate representation as a plain graph: an XML file and its constants.

Only what is needed to recognise a network is read: layers, their attributes, who reads whom, and
constants of type f32. Nothing is executed and OpenVINO is not needed.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from hyperstyle_rt.errors import HyperStyleError
from numpy.typing import NDArray

Array = NDArray[np.float32]

MAX_RANK = 8
_NUMBER = re.compile(r"[0-9]{1,12}")


class IrError(HyperStyleError):
    """A file that is no OpenVINO model, or not of the network it was given as."""


@dataclass(frozen=True)
class IrNode:
    """A layer of the graph.

    Attributes
    ----------
    kind:
        OpenVINO's operation: ``MatMul``, ``Const``.
    attributes:
        Of its ``data`` element.
    inputs:
        What it reads, in the order of its ports: identifier of a layer, and which of its outputs.
    shapes:
        Of its outputs.
    """

    identifier: str
    kind: str
    name: str
    attributes: Mapping[str, str] = field(repr=False)
    inputs: tuple[tuple[str, int], ...]
    shapes: tuple[tuple[int, ...], ...]


class IrGraph:
    """The layers of one model by identifier.

    Parameters
    ----------
    xml, data:
        Contents of the ``.xml`` and of the ``.bin`` file.
    subject:
        What errors call the model.

    Raises
    ------
    IrError
        If the XML is damaged, declares a document type (entities could expand without end), or is
        no OpenVINO model.
    """

    def __init__(self, xml: bytes, data: bytes, subject: str) -> None:
        self.subject, self._data = subject, data
        if b"<!" in xml.replace(b"<!--", b""):
            raise IrError(f"{subject} declares a document type, which no OpenVINO model does")
        try:
            root = ElementTree.fromstring(xml)
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            raise IrError(f"{subject} is damaged or no XML file: {error}") from error
        layers, edges = root.find("layers"), root.find("edges")
        if root.tag != "net" or layers is None or edges is None:
            raise IrError(f"{subject} is no OpenVINO model (no 'net' with 'layers' and 'edges')")
        outputs = {e.get("id", ""): _output_ports(e) for e in layers}
        sources = _sources(edges, outputs)
        self.nodes = {node.identifier: node for node in (_node(e, sources) for e in layers)}

    def inputs(self, node: IrNode) -> list[IrNode]:
        """The layers a layer reads, in order."""
        return [source for source, _ in self.sources(node)]

    def sources(self, node: IrNode) -> list[tuple[IrNode, int]]:
        """The same, each with the number of the output that is read."""
        try:
            return [(self.nodes[identifier], output) for identifier, output in node.inputs]
        except KeyError as error:
            raise IrError(
                f"'{node.name}' of {self.subject} reads a missing layer {error}"
            ) from error

    def result(self) -> IrNode:
        """What the only output of the model reads."""
        results = [node for node in self.nodes.values() if node.kind == "Result"]
        if len(results) != 1 or len(results[0].inputs) != 1:
            raise IrError(
                f"{self.subject} has {len(results)} outputs; a model with one is expected"
            )
        return self.inputs(results[0])[0]

    def constant(self, node: IrNode) -> Array:
        """The numbers of a constant, finite float32; a copy.

        Raises
        ------
        IrError
            If it is no f32 constant, or its shape, size and place do not fit the file.
        """
        attributes = node.attributes
        shape = _numbers(attributes.get("shape", ""))
        offset, size = (_numbers(attributes.get(key, "")) for key in ("offset", "size"))
        fits = (
            node.kind == "Const"
            and attributes.get("element_type") == "f32"
            and shape is not None
            and offset is not None
            and size is not None
            and len(shape) <= MAX_RANK
            and len(offset) == len(size) == 1
            and size[0] == 4 * math.prod(shape)
            and offset[0] + size[0] <= len(self._data)
        )
        if not fits:
            raise IrError(f"'{node.name}' of {self.subject} is no constant of float32 in its file")
        assert shape is not None and offset is not None
        flat = np.frombuffer(self._data, "<f4", math.prod(shape), offset[0])
        if not np.isfinite(flat).all():
            raise IrError(f"'{node.name}' of {self.subject} holds numbers that are not finite")
        return flat.reshape(shape).astype(np.float32)


def _output_ports(layer: ElementTree.Element) -> list[str]:
    return [port.get("id", "") for port in layer.iterfind("output/port")]


def _sources(
    edges: ElementTree.Element, outputs: Mapping[str, list[str]]
) -> dict[str, list[tuple[int, str, int]]]:
    """Layer -> (port, layer it reads there, which of that layer's outputs)."""
    sources: dict[str, list[tuple[int, str, int]]] = {}
    for edge in edges:
        port = _numbers(edge.get("to-port", "")) or (0,)
        layer, output = edge.get("from-layer", ""), edge.get("from-port", "")
        known = outputs.get(layer, [])
        number = known.index(output) if output in known else -1
        sources.setdefault(edge.get("to-layer", ""), []).append((port[0], layer, number))
    return sources


def _node(element: ElementTree.Element, sources: dict[str, list[tuple[int, str, int]]]) -> IrNode:
    identifier = element.get("id", "")
    data = element.find("data")
    ports = element.iterfind("output/port")
    return IrNode(
        identifier,
        element.get("type", ""),
        element.get("name", ""),
        dict(data.attrib) if data is not None else {},
        tuple((source, output) for _, source, output in sorted(sources.get(identifier, []))),
        tuple(_numbers(",".join(dim.text or "" for dim in port)) or () for port in ports),
    )


def _numbers(text: str) -> tuple[int, ...] | None:
    """``"1, 512"`` as numbers; None where it is anything else. Empty: a scalar's shape."""
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    return tuple(int(part) for part in parts)
