"""The manifest of an engine bundle: what is in ``manifest.json``, typed and checked.

``docs/formats.md`` is its specification and ``manifest.schema.json`` beside this module says the
same to other tools; the checks here are the ones that run, because a user's machine has no schema
library and because a schema cannot relate fields to each other. Fields this version does not know
are ignored: all that a reader must act upon is required, and a change of meaning raises
``VERSION``, so an unknown field is only an addition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import BundleError
from . import strict_json
from .fields import MAX_INTEGER, Fields, by_name, invalid, optional, shown
from .fit import Fit
from .manifest_checks import check_manifest
from .manifest_entries import (
    MAX_WIDTH,
    BaseBundle,
    BundleFile,
    CodeLayout,
    GraphFile,
    TunedLayer,
)
from .methods import Method
from .optional_inputs import OptionalInputs
from .parametric_inputs import ObjectiveFacts, ParametricInputs
from .precisions import BASE_PRECISION as BASE_PRECISION

FORMAT = "hyperstyle-rt-bundle"
VERSION = 2

TUNED_FROM = "tuned_from"
"""Entry of the provenance of a bundle that was exported as an inversion has tuned it."""

# Bounds that keep the arrays a manifest asks for small; the official models stay far below.
MAX_SIDE = 4096
MAX_LATENTS = 4096


_Entry = GraphFile | BundleFile | Method


@dataclass(frozen=True)
class Manifest:
    """Everything a host must know of a bundle before it opens a graph.

    Attributes
    ----------
    name, domain, license:
        For people; ``name`` is also the directory's name where the bundle is looked up by it.
    provenance:
        Free-form, e.g. the checkpoints' names and digests.
    space:
        Identity of the generator, 64 lower-case hexadecimal digits: what inversions are tied to.
    resolution:
        Side of the square that is generated, before the crop.
    image_size, input_size:
        (height, width) of a rendering after the crop; of the reconstruction that networks look at.
    crop_rows:
        (top, bottom) rows of the generated square that are kept, or None for all.
    num_latents, latent_width:
        L and W: latents are [L,W].
    codes:
        Layout of the offset codes; None for a bundle that knows none.
    tuned_layers:
        The convolutions whose kernels are graph tensors, in ascending index; may be empty.
    graphs:
        Role to graph; all of them compute in float32.
    files:
        File name to digest, size and type: all but manifest.json, LICENSE,
        NOTICE and README.md.
    accuracy, training:
        Free-form: measured against the reference; how it was trained (None: not by this project).
    methods:
        Name to method; empty for a bundle that only renders.
    default_method:
        The method of a user who names none; None where there are none.
    precisions:
        Precision, e.g. ``fp16``, to the graphs that compute in it. They are used together: the type
        of the kernels between ``weights`` and ``generator`` differs. A role that is not among them
        is used as in ``graphs``.
    plans:
        Key of a set of TensorRT plans, ``<version>-sm<arch>-<precision>``, to the files in the
        directory ``tensorrt/<key>``: ``<role>.plan``, and ``<role>.onnx`` for ONNX Runtime.
    base:
        For a fine-tuned generator, the bundle that inverts for it; it has no methods of its own.
    optional_inputs:
        What ``styled_generator`` is fed beside latents and kernels; None without that graph.
    parametric_inputs:
        What ``parametric_generator`` is fed beside that; None without that graph.
    then:
        Preset of the gradient steps that `invert` takes after the default method where a user names
        neither, and the picture does not fit without; None for a bundle that is used as published.
    fit:
        How well pictures of its own kind fit, by which it is told whether one needs these steps;
        None where it was not measured: then every one does.
    objective:
        What the objective graphs compare with; None where a bundle does not say it.

    Raises
    ------
    BundleError
        On construction, if the fields contradict each other.
    """

    name: str
    domain: str
    license: str
    provenance: Mapping[str, str]
    space: str
    resolution: int
    image_size: tuple[int, int]
    input_size: tuple[int, int]
    crop_rows: tuple[int, int] | None
    num_latents: int
    latent_width: int
    codes: CodeLayout | None
    tuned_layers: tuple[TunedLayer, ...]
    graphs: Mapping[str, GraphFile]
    files: Mapping[str, BundleFile]
    accuracy: Mapping[str, Any]
    training: Mapping[str, Any] | None = None
    methods: Mapping[str, Method] = field(default_factory=dict)
    default_method: str | None = None
    precisions: Mapping[str, Mapping[str, GraphFile]] = field(default_factory=dict)
    plans: Mapping[str, Mapping[str, BundleFile]] = field(default_factory=dict)
    base: BaseBundle | None = None
    optional_inputs: OptionalInputs | None = None
    parametric_inputs: ParametricInputs | None = None
    objective: ObjectiveFacts | None = None
    then: str | None = None
    fit: Fit | None = None

    def __post_init__(self) -> None:
        check_manifest(self)

    @property
    def num_channel_offsets(self) -> int:
        """P: pairs of output and input channels of all tuned layers together."""
        return sum(layer.shape[0] * layer.shape[1] for layer in self.tuned_layers)

    @property
    def is_tuned(self) -> bool:
        """Whether it was exported as an inversion has tuned the generator of another bundle."""
        return TUNED_FROM in self.provenance

    @property
    def inversion_space(self) -> str:
        """The space of the inversions this bundle renders: its own, or that of its base."""
        return self.space if self.base is None else self.base.space

    def method(self, name: str | None = None) -> Method:
        """Give a method by its name.

        Parameters
        ----------
        name:
            None for the bundle's default.

        Raises
        ------
        BundleError
            If there is no such method; the text names those there are.
        """
        self.check_stands_alone()
        chosen = self.default_method if name is None else name
        if chosen is None or chosen not in self.methods:
            wanted = "no method" if name is None else f"no method {shown(name)}"
            offered, remedy = ": it only renders", "name another bundle"
            if self.methods:
                offered = f", only {', '.join(self.methods)}"
                remedy = "name one that it has, or another bundle"
            elif self.objective is not None:
                remedy += ", or gradient steps from nothing (--method projector)"
            raise BundleError(f"bundle {self.name!r} has {wanted}{offered}; {remedy}")
        return self.methods[chosen]

    def check_stands_alone(self) -> None:
        """Refuse a bundle whose inversions are another's.

        Raises
        ------
        BundleError
            If it is one.
        """
        if self.base is not None:
            raise BundleError(
                f"bundle {self.name!r} only renders what bundle {self.base.name!r} has inverted; "
                "use it with hyperstyle-rt adapt"
            )

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read the content of a ``manifest.json``.

        Raises
        ------
        BundleError
            If it is not strict JSON, or for what :meth:`from_json` refuses.
        """
        try:
            document = strict_json.parse(data)
        except ValueError as error:
            raise invalid(str(error)) from None
        return cls.from_json(document)

    @classmethod
    def from_json(cls, document: object) -> Manifest:
        """Check a parsed manifest and give it types; the inverse of :meth:`to_json`.

        Raises
        ------
        BundleError
            If a field is missing, has another type or range, or contradicts another field.
        """
        fields = Fields(document, "")
        _check_version(fields)
        return cls(
            name=fields.plain_name("name"),
            domain=fields.text("domain"),
            license=fields.text("license"),
            provenance=_texts(fields.child("provenance")),
            space=fields.sha256("space"),
            resolution=fields.integer("resolution", 1, MAX_SIDE),
            image_size=fields.pair("image_size", 1, MAX_SIDE),
            input_size=fields.pair("input_size", 1, MAX_SIDE),
            crop_rows=(
                None if fields.value("crop_rows") is None else fields.pair("crop_rows", 0, MAX_SIDE)
            ),
            num_latents=fields.integer("num_latents", 1, MAX_LATENTS),
            latent_width=fields.integer("latent_width", 1, MAX_WIDTH),
            codes=optional(fields, "codes", CodeLayout.from_fields),
            tuned_layers=tuple(map(TunedLayer.from_fields, fields.children("tuned_layers"))),
            graphs=by_name(fields.child("graphs"), GraphFile.from_fields),
            files=by_name(fields.child("files"), BundleFile.from_fields),
            accuracy=fields.child("accuracy").document,
            training=fields.child("training").document if fields.has("training") else None,
            methods=by_name(fields.child("methods"), Method.from_fields),
            default_method=(
                fields.plain_name("default_method") if fields.has("default_method") else None
            ),
            precisions=optional(fields, "precisions", _graph_tables) or {},
            plans=optional(fields, "plans", _file_tables) or {},
            base=optional(fields, "base", BaseBundle.from_fields),
            optional_inputs=optional(fields, "optional_inputs", OptionalInputs.from_fields),
            parametric_inputs=optional(fields, "parametric_inputs", ParametricInputs.from_fields),
            objective=optional(fields, "objective", ObjectiveFacts.from_fields),
            then=fields.plain_name("then") if fields.has("then") else None,
            fit=optional(fields, "fit", Fit.from_fields),
        )

    def to_json(self) -> dict[str, Any]:
        """Make the document to write as ``manifest.json``; the inverse of :meth:`from_json`."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "domain": self.domain,
            "license": self.license,
            "provenance": dict(self.provenance),
            "space": self.space,
            "resolution": self.resolution,
            "image_size": list(self.image_size),
            "input_size": list(self.input_size),
            "crop_rows": None if self.crop_rows is None else list(self.crop_rows),
            "num_latents": self.num_latents,
            "latent_width": self.latent_width,
            "tuned_layers": [layer.to_json() for layer in self.tuned_layers],
            "graphs": _named(self.graphs),
            "methods": _named(self.methods),
            "files": self.files_to_json(),
            "accuracy": dict(self.accuracy),
        }
        if self.default_method is not None:
            document["default_method"] = self.default_method
        if self.then is not None:
            document["then"] = self.then
        if self.codes is not None:
            document["codes"] = self.codes.to_json()
        if self.training is not None:
            document["training"] = dict(self.training)
        if self.precisions:
            document["precisions"] = {key: _named(table) for key, table in self.precisions.items()}
        if self.plans:
            document["plans"] = {key: _named(table) for key, table in self.plans.items()}
        for name in ("base", "optional_inputs", "parametric_inputs", "objective", "fit"):
            value = getattr(self, name)
            if value is not None:
                document[name] = value.to_json()
        return document

    def files_to_json(self) -> dict[str, dict[str, Any]]:
        """Make the ``files`` table of the document."""
        return _named(self.files)


def _named(entries: Mapping[str, _Entry]) -> dict[str, dict[str, Any]]:
    return {name: entry.to_json() for name, entry in entries.items()}


def _check_version(fields: Fields) -> None:
    """Refuse other formats first: in another version every other field may differ."""
    if fields.value("format") != FORMAT:
        value = shown(fields.value("format"))
        raise invalid(f"field format must be {FORMAT!r}, not {value}: this is no engine bundle")
    version = fields.integer("version", 1, MAX_INTEGER)
    if version != VERSION:
        raise BundleError(
            f"the bundle has format version {version} and this runtime reads version {VERSION}; "
            "update hyperstyle-rt or build the bundle again with this version"
        )


def _graph_tables(fields: Fields) -> dict[str, dict[str, GraphFile]]:
    return by_name(fields, lambda table: by_name(table, GraphFile.from_fields))


def _file_tables(fields: Fields) -> dict[str, dict[str, BundleFile]]:
    return by_name(fields, lambda table: by_name(table, BundleFile.from_fields))


def _texts(fields: Fields) -> dict[str, str]:
    return {key: fields.text(key) for key in fields.document}
