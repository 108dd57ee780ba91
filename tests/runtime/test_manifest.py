"""Manifests are read exactly or refused with a sentence that names the field."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest
from attacks import manifests, refusal
from hyperstyle_rt import manifest as manifest_module
from hyperstyle_rt.errors import BundleError
from hyperstyle_rt.manifest import BundleFile, Manifest, TunedLayer
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


@pytest.mark.parametrize("key", ["../up", "a/b", "", "."])
def test_a_key_of_plans_is_no_path(key):
    document = with_twins()
    document["plans"] = {key: document["plans"]["10.13-sm89-fp16"]}
    assert "has the key" in refusal(BundleError, Manifest.from_json, document)
    assert not SCHEMA.is_valid(document)


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
