"""Manifests are read exactly or refused with a sentence that names the field."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from attacks import manifests, refusal
from hyperstyle_rt.errors import BundleError
from hyperstyle_rt.formats import manifest as manifest_module
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.formats.manifest_entries import (
    BaseBundle,
    BundleFile,
    CodeLayout,
    GraphFile,
    TunedLayer,
)
from hyperstyle_rt.formats.methods import Method, Phase
from hyperstyle_rt.formats.optional_inputs import NoiseLayer, StyleLayer
from hyperstyle_rt.formats.parametric_inputs import ObjectiveFacts
from hypothesis import given, settings
from hypothesis import strategies as st

SCHEMA_FILE = Path(manifest_module.__file__).parent / "manifest.schema.json"
SCHEMA = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
fuzzed = settings(derandomize=True, deadline=None, max_examples=200)


def test_manifest_is_read_field_by_field():
    manifest = Manifest.from_json(manifests.GOOD)
    assert (manifest.name, manifest.resolution, manifest.crop_rows) == ("tiny", 64, (8, 56))
    assert (manifest.image_size, manifest.input_size) == ((48, 64), (24, 32))
    assert (manifest.num_latents, manifest.latent_width) == (10, 16)
    assert manifest.space == manifest.inversion_space == manifests.SPACE
    assert manifest.codes == CodeLayout(13, manifests.CODE_SPACE)
    assert manifest.tuned_layers[2] == TunedLayer(13, "to_rgbs.3", (3, 8, 1, 1))
    assert manifest.files["encoder.onnx"].size == len(manifests.CONTENTS["encoder.onnx"])
    assert manifest.num_channel_offsets == 16 * 16 + 16 * 16 + 3 * 8
    assert manifest.graphs["encoder"] == GraphFile("encoder.onnx", ("encoder.onnx.data",))
    assert manifest.methods == {"hyperstyle": Method((Phase("encoder"), Phase("hypernet", 5)))}
    assert manifest.default_method == "hyperstyle"
    assert manifest.training == {"steps": 100}


@pytest.mark.parametrize("without", ["training", None])
def test_manifest_to_json_is_the_inverse_of_from_json(without):
    document = copy.deepcopy(manifests.GOOD)
    document.pop(without, None)
    written = Manifest.from_json(document).to_json()
    assert written == document
    assert list(written) == list(document)


def with_half_graphs() -> dict:
    """The sound manifest with fp16 graphs and the plan of one of them."""
    document = copy.deepcopy(manifests.GOOD)
    half = {role: {"file": f"{role}.fp16.onnx", "data": []} for role in document["graphs"]}
    file = {**document["files"]["encoder.onnx"], "stored": "fp16"}
    document["files"] |= {graph["file"]: file for graph in half.values()}
    return {
        **document,
        "precisions": {"fp16": half},
        "plans": {"10.13-sm89-fp16": {"encoder.plan": file}},
    }


def test_half_graphs_and_plans_are_read_and_written():
    document = with_half_graphs()
    SCHEMA.validate(document)
    manifest = Manifest.from_json(document)
    assert manifest.precisions["fp16"]["weights"] == GraphFile("weights.fp16.onnx")
    assert manifest.plans["10.13-sm89-fp16"]["encoder.plan"].stored == "fp16"
    assert manifest.to_json() == document


def test_half_graphs_are_listed_and_need_not_be_all():
    document = with_half_graphs()
    del document["precisions"]["fp16"]["encoder"]
    Manifest.from_json(document)
    del document["files"]["weights.fp16.onnx"]
    says = refusal(BundleError, Manifest.from_json, document)
    assert "precisions.fp16.weights names 'weights.fp16.onnx'" in says


# ------------------------------------------------------------------------------------- methods


def with_methods(default: str, **methods: list[dict]) -> dict:
    document = manifests.edited(("default_method",), default)
    document["methods"] = {name: {"phases": phases} for name, phases in methods.items()}
    return document


def test_a_method_is_any_phases_over_any_graphs():
    once, again = {"graph": "weights"}, {"graph": "hypernet", "repeat": 3}
    phases = [once, {**again, "repeat": 2}, again, once]
    document = with_methods("both", both=phases, psp=[once])
    SCHEMA.validate(document)
    manifest = Manifest.from_json(document)
    assert manifest.to_json() == document
    assert manifest.method() == manifest.method("both")
    assert manifest.method().iterations == 3
    assert manifest.method().iterating_phase == 2
    assert manifest.method("psp").iterations == 0
    assert manifest.method("psp").iterating_phase is None


def test_gradient_steps_that_follow_the_default_method():
    document = manifests.edited(("then",), "photo")
    document["graphs"]["features"] = document["graphs"]["encoder"]
    SCHEMA.validate(document)
    manifest = Manifest.from_json(document)
    assert manifest.then == "photo"
    assert manifest.to_json() == document
    del document["graphs"]["features"]
    assert "field then" in refusal(BundleError, Manifest.from_json, document)


def test_an_unknown_method_is_refused_with_those_there_are():
    manifest = Manifest.from_json(
        with_methods("psp", psp=[{"graph": "encoder"}], e4e=[{"graph": "encoder"}])
    )
    sentence = refusal(BundleError, manifest.method, "hyperstyle\x1b[2J")
    assert sentence.startswith(
        r"bundle 'tiny' has no method 'hyperstyle\x1b[2J', only psp, e4e; name one"
    )


def test_a_bundle_that_only_renders_has_no_method():
    document = manifests.edited(("methods",), {})
    del document["default_method"]
    SCHEMA.validate(document)
    manifest = Manifest.from_json(document)
    assert manifest.to_json() == document
    said = "'tiny' has no method: it only renders; name another bundle"
    assert refusal(BundleError, replace(manifest, objective=None).method).endswith(said)
    descends = replace(manifest, objective=ObjectiveFacts("lpips_alexnet", 0.3))
    assert f"{said}, or gradient steps from nothing" in refusal(BundleError, descends.method)


def test_a_generator_without_tuned_layers_and_codes():
    document = manifests.edited(("tuned_layers",), [])
    del document["codes"], document["graphs"]["weights"]
    SCHEMA.validate(document)
    manifest = Manifest.from_json(document)
    assert (manifest.codes, manifest.num_channel_offsets) == (None, 0)
    assert manifest.to_json() == document


@pytest.mark.parametrize("side", [1, 96, 1000])
def test_no_arithmetic_of_a_generator_family_is_asked_for(side):
    document = manifests.edited(("resolution",), side)
    document |= {"crop_rows": None, "image_size": [side, side], "num_latents": 7}
    document["tuned_layers"][2]["index"] = 40
    SCHEMA.validate(document)
    assert Manifest.from_json(document).to_json() == document


@pytest.mark.parametrize("key", ["../up", "a/b", "", "."])
def test_a_key_of_plans_is_no_path(key):
    document = with_half_graphs()
    document["plans"] = {key: document["plans"]["10.13-sm89-fp16"]}
    assert "has the key" in refusal(BundleError, Manifest.from_json, document)
    assert not SCHEMA.is_valid(document)


STYLES = [{"name": "conv1", "width": 16}, {"name": "to_rgb1", "width": 16}]


def with_optional_inputs(**replaced):
    """The sound manifest of a generator that can be fed styles and noise."""
    inputs = {"styles": STYLES, "noise": [{"name": "conv1", "side": 4}], **replaced}
    document = {**copy.deepcopy(manifests.GOOD), "optional_inputs": inputs}
    for role in ("styled_generator", "noise"):
        document["graphs"][role] = document["graphs"]["generator"]
    return document


def test_optional_inputs_are_read_and_written():
    document = with_optional_inputs()
    SCHEMA.validate(document)
    manifest = Manifest.from_json(document)
    assert manifest.optional_inputs.styles[1] == StyleLayer("to_rgb1", 16)
    assert manifest.optional_inputs.style_channels == 32
    assert manifest.optional_inputs.noise == (NoiseLayer("conv1", 4),)
    assert manifest.to_json() == document


@pytest.mark.parametrize(
    ("replaced", "says"),
    [
        ({"styles": {}}, "field optional_inputs.styles must be a list"),
        ({"styles": [{"name": "conv1"}]}, "lacks the field optional_inputs.styles[0].width"),
        ({"styles": [{"name": "conv1", "width": 0}]}, "styles[0].width must be an integer from 1"),
        ({"noise": [{"name": "../x", "side": 4}]}, "noise[0].name must be a plain name"),
        ({"noise": [{"name": "conv1", "side": 8192}]}, "noise[0].side must be an integer from 1"),
    ],
)
def test_wrong_optional_inputs_are_refused(replaced, says):
    document = with_optional_inputs(**replaced)
    assert not SCHEMA.is_valid(document)
    with pytest.raises(BundleError, match=re.escape(says)):
        Manifest.from_json(document)


PARAMETERS = [
    {"name": "conv1.conv.weight", "shape": [1, 16, 16, 3, 3]},
    {"name": "conv1.noise.weight", "shape": [1]},
]
FEATURE = {"layer": "convs.1", "shape": [16, 8, 8]}


def with_parametric_inputs(**replaced):
    """The sound manifest of a generator whose weights descent may change."""
    inputs = {"parameters": PARAMETERS, "feature": FEATURE, **replaced}
    document = {**with_optional_inputs(), "parametric_inputs": inputs}
    for role in ("parametric_generator", "parameters"):
        document["graphs"][role] = document["graphs"]["generator"]
    return {**document, "objective": {"perceptual": "encoder", "weight": 0.25}}


def test_parametric_inputs_are_read_and_written():
    document = with_parametric_inputs()
    SCHEMA.validate(document)
    manifest = Manifest.from_json(document)
    assert manifest.parametric_inputs.num_weights == 16 * 16 * 9 + 1
    assert manifest.parametric_inputs.feature.shape == (16, 8, 8)
    assert manifest.objective.weight == 0.25
    assert manifest.to_json() == document


@pytest.mark.parametrize(
    ("replaced", "says"),
    [
        ({"parameters": {}}, "field parametric_inputs.parameters must be a list"),
        ({"parameters": [{"name": "a", "shape": []}]}, "shape must be a list of 1 to 5 integers"),
        ({"parameters": [{"name": "a", "shape": [0]}]}, "shape must be 1 integers from 1"),
        ({"feature": {"layer": "a", "shape": [3, 4]}}, "feature.shape must be a list of 3"),
        ({"feature": {"layer": "../x", "shape": [3, 4, 4]}}, "feature.layer must be a plain name"),
    ],
)
def test_wrong_parametric_inputs_are_refused(replaced, says):
    document = with_parametric_inputs(**replaced)
    assert not SCHEMA.is_valid(document)
    with pytest.raises(BundleError, match=re.escape(says)):
        Manifest.from_json(document)


@pytest.mark.parametrize(
    ("replaced", "says"),
    [
        ({"parameters": [*PARAMETERS, PARAMETERS[0]]}, "gives two parameters one name"),
        (
            {"parameters": [{"name": "a", "shape": [65536, 65536]}]},
            "parametric_inputs.parameters has more than 134217728 numbers",
        ),
        (
            {"feature": {"layer": "a", "shape": [65536, 65536, 1]}},
            "parametric_inputs.feature.shape has more than 134217728 numbers",
        ),
    ],
)
def test_parametric_inputs_that_no_schema_refuses(replaced, says):
    with pytest.raises(BundleError, match=re.escape(says)):
        Manifest.from_json(with_parametric_inputs(**replaced))


@pytest.mark.parametrize("missing", ["parametric_inputs", "parametric_generator", "parameters"])
def test_parametric_inputs_and_their_graphs_go_together(missing):
    document = with_parametric_inputs()
    document.pop(missing, None)
    document["graphs"].pop(missing, None)
    with pytest.raises(BundleError, match="must give the field parametric_inputs and the graphs"):
        Manifest.from_json(document)


@pytest.mark.parametrize("weight", [0, -1, 2_000_000, True, "1"])
def test_a_perceptual_term_has_a_weight(weight):
    objective = {"perceptual": "encoder", "weight": weight}
    document = {**with_parametric_inputs(), "objective": objective}
    assert not SCHEMA.is_valid(document)
    with pytest.raises(BundleError, match=r"objective\.weight must be a number above 0"):
        Manifest.from_json(document)


def adapted(**base):
    """The manifest of a bundle that another one inverts for."""
    document = copy.deepcopy(manifests.GOOD)
    document["graphs"] = {role: document["graphs"][role] for role in ("weights", "generator")}
    del document["default_method"]
    return {**document, "methods": {}, "base": {"name": "faces", "space": "0" * 64, **base}}


def test_an_adapted_bundle_needs_no_graphs_to_invert_with():
    document = adapted()
    SCHEMA.validate(document)
    manifest = Manifest.from_json(document)
    assert manifest.base == BaseBundle("faces", "0" * 64)
    assert manifest.inversion_space == "0" * 64
    assert manifest.to_json() == document
    sentence = refusal(BundleError, manifest.method)
    assert "only renders what bundle 'faces' has inverted" in sentence


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ({"name": ".."}, "field base.name must be a plain name"),
        ({"space": "0"}, "field base.space must be 64 lower-case hexadecimal digits"),
    ],
)
def test_a_wrong_base_is_refused(base, says):
    assert not SCHEMA.is_valid(adapted(**base))
    with pytest.raises(BundleError, match=re.escape(says)):
        Manifest.from_json(adapted(**base))


def test_schema_accepts_the_sound_manifest():
    jsonschema.Draft202012Validator.check_schema(SCHEMA.schema)
    SCHEMA.validate(manifests.GOOD)


@pytest.mark.parametrize("trick", manifests.ILL_FORMED)
def test_ill_formed_manifest_is_refused_by_runtime_and_schema(trick):
    path, value, says = manifests.ILL_FORMED[trick]
    document = manifests.edited(path, value)
    assert says in refusal(BundleError, Manifest.from_json, document)
    assert not SCHEMA.is_valid(document)


@pytest.mark.parametrize("trick", manifests.CONTRADICTORY)
def test_contradictory_manifest_is_refused_by_runtime_alone(trick):
    path, value, says = manifests.CONTRADICTORY[trick]
    document = manifests.edited(path, value)
    assert says in refusal(BundleError, Manifest.from_json, document)
    assert SCHEMA.is_valid(document)


def test_contradictory_manifest_cannot_even_be_built():
    fields = vars(Manifest.from_json(manifests.GOOD))
    assert "image_size" in refusal(BundleError, lambda: Manifest(**{**fields, "crop_rows": None}))


@pytest.mark.parametrize("path", [(), ("tuned_layers", 0), ("files", "encoder.onnx")])
def test_unknown_fields_are_additions_and_ignored(path):
    document = manifests.edited((*path, "added_later"), {"any": ["thing"]})
    assert SCHEMA.is_valid(document)
    assert Manifest.from_json(document) == Manifest.from_json(manifests.GOOD)


@pytest.mark.parametrize("trick", manifests.NOT_STRICT_JSON)
def test_what_is_not_strict_json_is_refused(trick):
    content, says = manifests.NOT_STRICT_JSON[trick]
    assert says in refusal(BundleError, Manifest.parse, content)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def paths(value, before=()):
    """All places of a document."""
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        yield (*before, key)
        yield from paths(inner, (*before, key))


@fuzzed
@given(st.sampled_from(list(paths(manifests.GOOD))), anything)
def test_runtime_accepts_no_edit_that_the_schema_refuses(path, value):
    document = manifests.edited(path, value)
    try:
        Manifest.from_json(document)
    except BundleError:
        return
    SCHEMA.validate(document)


@fuzzed
@given(anything)
def test_anything_but_a_manifest_is_a_bundle_error(document):
    refusal(BundleError, Manifest.from_json, document)


@fuzzed
@given(st.binary())
def test_any_bytes_are_a_bundle_error(data):
    refusal(BundleError, Manifest.parse, data)


@fuzzed
@given(st.data())
def test_damaged_bytes_are_refused_or_still_a_manifest(data):
    content = bytearray(json.dumps(manifests.GOOD).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        stop = start + data.draw(st.integers(0, 4))
        content[start:stop] = data.draw(
            st.binary(max_size=4)
            | st.sampled_from(list(b'"{}[],:0')).map(lambda byte: bytes([byte]))
        )
    try:
        manifest = Manifest.parse(bytes(content))
    except BundleError:
        return
    assert Manifest.from_json(manifest.to_json()) == manifest


plain_names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,20}", fullmatch=True)
widths = st.integers(1, 1024)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.dictionaries(st.text(), st.integers(-9, 9) | finite | st.text())


@st.composite
def sound_manifests(draw):
    side = draw(st.integers(1, 4096))
    crop = draw(st.none() | st.tuples(st.integers(0, side - 1), st.integers(1, side)))
    crop = crop and (min(crop[0], crop[1] - 1), crop[1])
    layers = draw(st.lists(st.integers(0, 65536), unique=True, max_size=4).map(sorted))
    kernel = draw(st.sampled_from([1, 3]))
    sha256 = st.binary(min_size=32, max_size=32).map(bytes.hex)
    graph = st.builds(GraphFile, plain_names, st.lists(plain_names, max_size=2, unique=True))
    roles = plain_names.filter(lambda r: r not in ("weights", "noise", "styled_generator"))
    graphs = draw(st.dictionaries(roles, graph, max_size=3)) | {"generator": draw(graph)}
    graphs |= {"weights": draw(graph)} if layers else {}
    graphs = {role: GraphFile(graph.file, tuple(graph.data)) for role, graph in graphs.items()}
    names = {name for graph in graphs.values() for name in (graph.file, *graph.data)}
    repeat = st.none() | st.integers(1, 100)
    phases = st.lists(
        st.builds(Phase, st.sampled_from(sorted(graphs)), repeat), min_size=1, max_size=3
    )
    methods = draw(st.dictionaries(plain_names, phases.map(tuple).map(Method), max_size=2))
    return Manifest(
        name=draw(plain_names),
        domain=draw(st.text(min_size=1).filter(lambda text: text.isprintable())),
        license="MIT",
        provenance=draw(st.dictionaries(st.text(), st.just("somewhere"))),
        space=draw(sha256),
        resolution=side,
        image_size=(crop[1] - crop[0] if crop else side, side),
        input_size=draw(st.tuples(widths, widths)),
        crop_rows=crop,
        num_latents=draw(st.integers(1, 4096)),
        latent_width=draw(widths),
        codes=draw(st.none() | st.builds(CodeLayout, st.integers(2, 999), sha256))
        if layers
        else None,
        tuned_layers=tuple(
            TunedLayer(index, f"layer.{index}", (draw(widths), draw(widths), kernel, kernel))
            for index in layers
        ),
        graphs=graphs,
        files={
            name: draw(st.builds(BundleFile, sha256, st.integers(0, 2**53 - 1), plain_names))
            for name in sorted(names)
        },
        accuracy=draw(json_values),
        training=draw(st.none() | json_values),
        methods=methods,
        default_method=draw(st.sampled_from(sorted(methods))) if methods else None,
        precisions=draw(st.sampled_from([{}, {"fp16": {"generator": graphs["generator"]}}])),
    )


@settings(fuzzed, max_examples=50)
@given(sound_manifests())
def test_written_manifests_are_read_back_exactly(manifest):
    document = manifest.to_json()
    SCHEMA.validate(document)
    assert Manifest.parse(json.dumps(document, allow_nan=False).encode()) == manifest
