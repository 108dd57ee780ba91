"""Manifests are read exactly or refused with a sentence that names the field."""

import copy
import json
import re
from pathlib import Path

import jsonschema
import pytest
from attacks import manifests, refusal
from hyperstyle_rt.errors import BundleError
from hyperstyle_rt.formats import manifest as manifest_module
from hyperstyle_rt.formats.manifest import BaseBundle, BundleFile, Manifest, TunedLayer
from hyperstyle_rt.formats.optional_inputs import NoiseLayer, StyleLayer
from hypothesis import given, settings
from hypothesis import strategies as st

SCHEMA_FILE = Path(manifest_module.__file__).parent / "manifest.schema.json"
SCHEMA = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
fuzzed = settings(derandomize=True, deadline=None, max_examples=200)


def test_manifest_is_read_field_by_field():
    manifest = Manifest.from_json(manifests.GOOD)
    assert (manifest.name, manifest.resolution, manifest.crop_rows) == ("tiny", 64, (8, 56))
    assert (manifest.image_size, manifest.input_size) == ((48, 64), (24, 32))
    assert (manifest.num_latents, manifest.style_width, manifest.code_width) == (10, 16, 12)
    assert manifest.tuned_layers[2] == TunedLayer(13, "to_rgbs.3", (3, 8, 1, 1))
    assert manifest.files["encoder.onnx"].size == len(manifests.CONTENTS["encoder.onnx"])
    assert manifest.training == {"steps": 100}


@pytest.mark.parametrize("without", ["training", None])
def test_manifest_to_json_is_the_inverse_of_from_json(without):
    document = copy.deepcopy(manifests.GOOD)
    document.pop(without, None)
    written = Manifest.from_json(document).to_json()
    assert written == document
    assert list(written) == list(document)


def with_twins() -> dict:
    """The sound manifest with fp16 twins and the plan of one of them."""
    document = copy.deepcopy(manifests.GOOD)
    twins = {role: f"{role}.fp16.onnx" for role in document["graphs"]}
    twin = {**document["files"]["encoder.onnx"], "precision": "fp16"}
    document["files"] |= dict.fromkeys(twins.values(), twin)
    return {
        **document,
        "precisions": {"fp16": twins},
        "plans": {"10.13-sm89-fp16": {"encoder.plan": twin}},
    }


def test_twins_and_plans_are_read_and_written():
    document = with_twins()
    SCHEMA.validate(document)
    manifest = Manifest.from_json(document)
    assert manifest.precisions["fp16"]["weights"] == "weights.fp16.onnx"
    assert manifest.plans["10.13-sm89-fp16"]["encoder.plan"].precision == "fp16"
    assert manifest.to_json() == document


def test_a_set_of_twins_is_whole_and_listed():
    document = with_twins()
    del document["precisions"]["fp16"]["generator"]
    says = refusal(BundleError, Manifest.from_json, document)
    assert "lacks the field precisions.fp16.generator" in says
    assert not SCHEMA.is_valid(document)
    document = with_twins()
    del document["files"]["weights.fp16.onnx"]
    says = refusal(BundleError, Manifest.from_json, document)
    assert "precisions.fp16.weights names 'weights.fp16.onnx'" in says


def test_graphs_of_the_refinement_are_listed_and_named_plainly():
    document = copy.deepcopy(manifests.GOOD)
    document["files"]["refine.onnx"] = document["files"]["encoder.onnx"]
    document["refinement"] = {"refine": "refine.onnx"}
    SCHEMA.validate(document)
    manifest = Manifest.from_json(document)
    assert manifest.refinement == {"refine": "refine.onnx"}
    assert manifest.to_json() == document
    document["refinement"] = {"refine": "../refine.onnx"}
    assert "refinement.refine" in refusal(BundleError, Manifest.from_json, document)
    assert not SCHEMA.is_valid(document)
    document["refinement"] = {"refine": "adjoint.onnx"}
    says = refusal(BundleError, Manifest.from_json, document)
    assert "refinement.refine names 'adjoint.onnx', which is not among the files" in says


@pytest.mark.parametrize("key", ["../up", "a/b", "", "."])
def test_a_key_of_plans_is_no_path(key):
    document = with_twins()
    document["plans"] = {key: document["plans"]["10.13-sm89-fp16"]}
    assert "has the key" in refusal(BundleError, Manifest.from_json, document)
    assert not SCHEMA.is_valid(document)


STYLES = [{"name": "conv1", "width": 16}, {"name": "to_rgb1", "width": 16}]


def with_optional_inputs(**replaced):
    """The sound manifest of a generator that can be fed styles and noise."""
    inputs = {"styles": STYLES, "noise": [{"name": "conv1", "side": 4}], **replaced}
    return {**copy.deepcopy(manifests.GOOD), "optional_inputs": inputs}


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


def adapted(**base):
    """The manifest of a bundle that another one inverts for."""
    document = copy.deepcopy(manifests.GOOD)
    document["graphs"] = {role: document["graphs"][role] for role in ("weights", "generator")}
    return {**document, "base": {"name": "faces", "digest": "0" * 64, **base}}


def test_an_adapted_bundle_needs_no_graphs_to_invert_with():
    document = adapted()
    SCHEMA.validate(document)
    manifest = Manifest.from_json(document)
    assert manifest.base == BaseBundle("faces", "0" * 64)
    assert manifest.to_json() == document
    del document["base"]
    assert not SCHEMA.is_valid(document)
    with pytest.raises(BundleError, match=r"lacks the field graphs\.encoder"):
        Manifest.from_json(document)


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ({"name": ".."}, "field base.name must be a plain name"),
        ({"digest": "0"}, "field base.digest must be 64 lower-case hexadecimal digits"),
    ],
)
def test_a_wrong_base_is_refused(base, says):
    assert not SCHEMA.is_valid(adapted(**base))
    with pytest.raises(BundleError, match=re.escape(says)):
        Manifest.from_json(adapted(**base))
    document = adapted()
    del document["graphs"]["generator"]
    assert not SCHEMA.is_valid(document)
    with pytest.raises(BundleError, match=r"lacks the field graphs\.generator"):
        Manifest.from_json(document)


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
    assert "num_latents" in refusal(BundleError, lambda: Manifest(**{**fields, "num_latents": 18}))


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


plain_names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
widths = st.integers(1, 1024)
finite = st.floats(allow_nan=False, allow_infinity=False)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.dictionaries(st.text(), st.integers(-9, 9) | finite | st.text())


@st.composite
def sound_manifests(draw):
    power = draw(st.integers(3, 12))
    side = 2**power
    crop = draw(st.none() | st.tuples(st.integers(0, side - 1), st.integers(1, side)))
    crop = crop and (min(crop[0], crop[1] - 1), crop[1])
    layers = draw(st.lists(st.integers(0, 3 * power - 5), min_size=1, unique=True).map(sorted))
    kernel = draw(st.sampled_from([1, 3]))
    graphs = draw(st.dictionaries(plain_names, plain_names, max_size=3))
    graphs |= {role: f"{role}.onnx" for role in ("encoder", "hypernet", "weights", "generator")}
    sha256 = st.binary(min_size=32, max_size=32).map(bytes.hex)
    files = st.builds(BundleFile, sha256, st.integers(0, 2**53 - 1), plain_names)
    return Manifest(
        name=draw(plain_names),
        domain=draw(st.text(min_size=1).filter(lambda text: text.isprintable())),
        license="MIT",
        provenance=draw(st.dictionaries(st.text(), st.just("somewhere"))),
        resolution=side,
        image_size=(crop[1] - crop[0] if crop else side, side),
        input_size=draw(st.tuples(widths, widths)),
        crop_rows=crop,
        num_latents=2 * power - 2,
        style_width=draw(widths),
        code_width=draw(widths),
        default_iterations=draw(st.integers(1, 100)),
        tuned_layers=tuple(
            TunedLayer(index, f"layer.{index}", (draw(widths), draw(widths), kernel, kernel))
            for index in layers
        ),
        graphs=graphs,
        files={name: draw(files) for name in sorted(set(graphs.values()))},
        accuracy=draw(json_values),
        training=draw(st.none() | json_values),
    )


@settings(fuzzed, max_examples=50)
@given(sound_manifests())
def test_written_manifests_are_read_back_exactly(manifest):
    document = manifest.to_json()
    SCHEMA.validate(document)
    assert Manifest.parse(json.dumps(document, allow_nan=False).encode()) == manifest
