"""The manifest of an engine bundle: what is in ``manifest.json``, typed and checked.

``manifest.schema.json`` beside this module says the same to other tools; the checks here are the
ones that run, because a user's machine has no schema library and because a schema cannot relate
fields to each other. Fields this version does not know are ignored: all that a reader must act upon
is required, and a change of meaning raises ``VERSION``, so an unknown field is only an addition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import BundleError
from . import strict_json
from .fields import MAX_INTEGER, Fields, invalid, shown
from .optional_inputs import OptionalInputs

FORMAT = "hyperstyle-rt-bundle"
VERSION = 1
METHOD = "hyperstyle"

# The graphs every bundle has; "offsets" and "mapping" are the optional ones of this version.
REQUIRED_ROLES = ("encoder", "hypernet", "weights", "generator")

# Those of an adapted bundle, which renders what its base has inverted.
ADAPTED_ROLES = ("weights", "generator")

# The precision of `graphs`, which every bundle has; `precisions` lists twins in others.
BASE_PRECISION = "fp32"

# Bounds that keep the arrays a manifest asks for small; the official models stay far below.
MAX_SIDE = 4096
MAX_WIDTH = 65536
MAX_ITERATIONS = 100


@dataclass(frozen=True)
class TunedLayer:
    """A convolution whose weights are tuned per picture: one row of the offset codes.

    Attributes
    ----------
    index:
        The official offset index, counting toRGB layers.
    name:
        As in the checkpoint, e.g. ``convs.3``; its weights are the graph tensor ``weight.convs.3``.
    shape:
        (O, I, k, k) of the weights.
    """

    index: int
    name: str
    shape: tuple[int, int, int, int]


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle.

    Attributes
    ----------
    sha256:
        Digest of the content, 64 lower-case hexadecimal digits.
    size:
        Length in bytes (``bytes`` in the JSON).
    precision:
        Element type of its tensors, e.g. ``fp32``.
    """

    sha256: str
    size: int
    precision: str


@dataclass(frozen=True)
class BaseBundle:
    """The bundle whose inversions an adapted bundle renders.

    Attributes
    ----------
    name, digest:
        Its name, and the digest its inversions are tied to.
    """

    name: str
    digest: str


@dataclass(frozen=True)
class Manifest:
    """Everything a host must know of a bundle before it opens a graph.

    Attributes
    ----------
    name, domain, license:
        For people; ``name`` is also the directory's name where the bundle is looked up by it.
    provenance:
        Free-form, e.g. the checkpoints' names and digests.
    resolution:
        S, the side of the generated square before the crop: a power of two.
    image_size, input_size:
        (height, width) of a generated picture after the crop; of what encoder and hypernet read.
    crop_rows:
        (top, bottom) rows of the generated square that are kept, or None for all.
    num_latents, style_width, code_width:
        L, W and K: latents are [L,W], offset codes [M,K+1].
    default_iterations:
        Iterations of the inversion loop when the user names no number.
    tuned_layers:
        One per row of the offset codes (M of them), in ascending index.
    graphs:
        Role to file name.
    files:
        File name to digest, size and precision: all but manifest.json, LICENSE and README.md.
    accuracy, training:
        Free-form: measured against the reference; how it was trained (None: not by this project).
    precisions:
        Other precision, e.g. ``fp16``, to the file names of the required graphs in it. They are
        used together: the type of the tensors between ``weights`` and ``generator`` differs.
    plans:
        Key of a set of TensorRT plans, ``<version>-sm<arch>-<precision>``, to the files in the
        directory ``tensorrt/<key>``: ``<role>.plan``, and ``<role>.onnx`` for ONNX Runtime.
    base:
        None for a bundle that inverts; for a fine-tuned generator, the bundle that inverts for it:
        then the only required graphs are :data:`ADAPTED_ROLES`.
    optional_inputs:
        What the generator can be fed beside latents and weights; None: nothing.
    refinement:
        Role to file name, of the graphs that refine inversions. They say nothing of what an
        inversion means, and may read the large tensors of the other graphs.

    Raises
    ------
    BundleError
        On construction, if the fields contradict each other.
    """

    name: str
    domain: str
    license: str
    provenance: Mapping[str, str]
    resolution: int
    image_size: tuple[int, int]
    input_size: tuple[int, int]
    crop_rows: tuple[int, int] | None
    num_latents: int
    style_width: int
    code_width: int
    default_iterations: int
    tuned_layers: tuple[TunedLayer, ...]
    graphs: Mapping[str, str]
    files: Mapping[str, BundleFile]
    accuracy: Mapping[str, Any]
    training: Mapping[str, Any] | None = None
    precisions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    plans: Mapping[str, Mapping[str, BundleFile]] = field(default_factory=dict)
    base: BaseBundle | None = None
    optional_inputs: OptionalInputs | None = None
    refinement: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_geometry(self)
        _check_tuned_layers(self)
        _check_graphs(self)

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
            resolution=fields.integer("resolution", 8, MAX_SIDE),
            image_size=fields.pair("image_size", 1, MAX_SIDE),
            input_size=fields.pair("input_size", 1, MAX_SIDE),
            crop_rows=(
                None if fields.value("crop_rows") is None else fields.pair("crop_rows", 0, MAX_SIDE)
            ),
            num_latents=fields.integer("num_latents", 1, MAX_WIDTH),
            style_width=fields.integer("style_width", 1, MAX_WIDTH),
            code_width=fields.integer("code_width", 1, MAX_WIDTH),
            default_iterations=fields.integer("default_iterations", 1, MAX_ITERATIONS),
            tuned_layers=tuple(_tuned_layer(layer) for layer in fields.children("tuned_layers")),
            graphs=_file_names(fields.child("graphs")),
            files=_files(fields.child("files")),
            accuracy=fields.child("accuracy").document,
            training=fields.child("training").document if fields.has("training") else None,
            precisions=_by_key(fields, "precisions", _file_names),
            plans=_by_key(fields, "plans", _files),
            base=_base(fields.child("base")) if fields.has("base") else None,
            optional_inputs=(
                OptionalInputs.from_fields(fields.child("optional_inputs"))
                if fields.has("optional_inputs")
                else None
            ),
            refinement=_file_names(fields.child("refinement")) if fields.has("refinement") else {},
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
            "method": METHOD,
            "resolution": self.resolution,
            "image_size": list(self.image_size),
            "input_size": list(self.input_size),
            "crop_rows": None if self.crop_rows is None else list(self.crop_rows),
            "num_latents": self.num_latents,
            "style_width": self.style_width,
            "code_width": self.code_width,
            "default_iterations": self.default_iterations,
            "tuned_layers": [
                {"index": layer.index, "name": layer.name, "shape": list(layer.shape)}
                for layer in self.tuned_layers
            ],
            "graphs": dict(self.graphs),
            "files": self.files_to_json(),
            "accuracy": dict(self.accuracy),
        }
        if self.training is not None:
            document["training"] = dict(self.training)
        if self.precisions:
            document["precisions"] = {key: dict(names) for key, names in self.precisions.items()}
        if self.plans:
            document["plans"] = {key: _files_to_json(plans) for key, plans in self.plans.items()}
        if self.base is not None:
            document["base"] = {"name": self.base.name, "digest": self.base.digest}
        if self.optional_inputs is not None:
            document["optional_inputs"] = self.optional_inputs.to_json()
        if self.refinement:
            document["refinement"] = dict(self.refinement)
        return document

    def files_to_json(self) -> dict[str, dict[str, Any]]:
        """Make the ``files`` table of the document."""
        return _files_to_json(self.files)


def _files_to_json(files: Mapping[str, BundleFile]) -> dict[str, dict[str, Any]]:
    return {
        name: {"sha256": file.sha256, "bytes": file.size, "precision": file.precision}
        for name, file in files.items()
    }


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
    method = fields.text("method")
    if method != METHOD:
        raise BundleError(
            f"the bundle's method is {shown(method)} and this runtime knows {METHOD!r} only; "
            "update hyperstyle-rt or use another bundle"
        )


T = TypeVar("T")


def _by_key(fields: Fields, name: str, read: Callable[[Fields], T]) -> dict[str, T]:
    """An optional object whose values are objects of one kind; absent is empty."""
    if not fields.has(name):
        return {}
    table = fields.child(name)
    return {key: read(table.child(key)) for key in table.plain_keys()}


def _texts(fields: Fields) -> dict[str, str]:
    return {key: fields.text(key) for key in fields.document}


def _file_names(fields: Fields) -> dict[str, str]:
    return {role: fields.plain_name(role) for role in fields.plain_keys()}


def _files(fields: Fields) -> dict[str, BundleFile]:
    return {name: _file(fields.child(name)) for name in fields.plain_keys()}


def _file(fields: Fields) -> BundleFile:
    return BundleFile(
        sha256=fields.sha256("sha256"),
        size=fields.integer("bytes", 0, MAX_INTEGER),
        precision=fields.plain_name("precision"),
    )


def _base(fields: Fields) -> BaseBundle:
    return BaseBundle(fields.plain_name("name"), fields.sha256("digest"))


def _tuned_layer(fields: Fields) -> TunedLayer:
    out_channels, in_channels, height, width = fields.integers("shape", 4, 1, MAX_WIDTH)
    return TunedLayer(
        index=fields.integer("index", 0, MAX_WIDTH),
        name=fields.plain_name("name"),
        shape=(out_channels, in_channels, height, width),
    )


def _check_geometry(manifest: Manifest) -> None:
    side = manifest.resolution
    if side.bit_count() != 1:
        raise invalid(f"field resolution must be a power of two, not {side}")
    rows = 2 * side.bit_length() - 4  # 2 log2(S) - 2
    if manifest.num_latents != rows:
        raise invalid(
            f"field num_latents must be {rows} at resolution {side}, not {manifest.num_latents}"
        )
    top, bottom = manifest.crop_rows or (0, side)
    if not top < bottom <= side:
        raise invalid(
            f"field crop_rows must lie within the {side} rows of the image, not [{top}, {bottom}]"
        )
    if manifest.image_size != (bottom - top, side):
        raise invalid(
            f"field image_size must be [{bottom - top}, {side}], as resolution and crop_rows say, "
            f"not {list(manifest.image_size)}"
        )


def _check_tuned_layers(manifest: Manifest) -> None:
    layers = manifest.tuned_layers
    if not layers:
        raise invalid("field tuned_layers is empty")
    indices = [layer.index for layer in layers]
    if indices != sorted(set(indices)):
        raise invalid(f"field tuned_layers must have ascending indices, not {shown(indices)}")
    layers_in_all = 3 * manifest.resolution.bit_length() - 7  # 3 log2(S) - 4
    if indices[-1] >= layers_in_all:
        raise invalid(
            f"field tuned_layers names the index {indices[-1]}, but a generator of resolution "
            f"{manifest.resolution} has the layers 0 to {layers_in_all - 1}"
        )
    if len({layer.name for layer in layers}) < len(layers):
        raise invalid("field tuned_layers gives two layers one name")
    for layer in layers:
        if layer.shape[2] != layer.shape[3]:
            raise invalid(
                f"field tuned_layers gives {layer.name} the kernel {list(layer.shape[2:])}, "
                "which is not square"
            )


def _check_graphs(manifest: Manifest) -> None:
    tables = {"graphs": manifest.graphs}
    tables |= {f"precisions.{key}": names for key, names in manifest.precisions.items()}
    required = REQUIRED_ROLES if manifest.base is None else ADAPTED_ROLES
    for field_name, graphs in tables.items():
        for role in required:
            if role not in graphs:
                raise invalid(f"lacks the field {field_name}.{role}")
    for field_name, graphs in {**tables, "refinement": manifest.refinement}.items():
        for role, name in graphs.items():
            if name not in manifest.files:
                raise invalid(
                    f"field {field_name}.{role} names {shown(name)}, which is not among the files"
                )
