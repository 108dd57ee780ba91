"""A small sound bundle, and manifests that must be refused, each named for its trick."""

import copy
import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

LATENT_AVERAGE = np.linspace(-1, 1, 10 * 16, dtype=np.float32).reshape(10, 16)

CONTENTS = {
    "encoder.onnx": b"the encoder graph",
    "encoder.onnx.data": b"its large tensors",
    "hypernet.onnx": b"the hypernetwork graph",
    "weights.onnx": b"the weights graph",
    "generator.onnx": b"the generator graph",
    "latent_average.safetensors": save({"latent_average": LATENT_AVERAGE}),
}

SPACE, CODE_SPACE = "5ace" * 16, "c0de" * 16

GOOD = {
    "format": "hyperstyle-rt-bundle",
    "version": 2,
    "name": "tiny",
    "domain": "coloured blobs",
    "license": "MIT",
    "provenance": {"generator": "a test"},
    "space": SPACE,
    "resolution": 64,
    "image_size": [48, 64],
    "input_size": [24, 32],
    "crop_rows": [8, 56],
    "num_latents": 10,
    "latent_width": 16,
    "tuned_layers": [
        {"index": 0, "name": "conv1", "shape": [16, 16, 3, 3]},
        {"index": 2, "name": "convs.0", "shape": [16, 16, 3, 3]},
        {"index": 13, "name": "to_rgbs.3", "shape": [3, 8, 1, 1]},
    ],
    "graphs": {
        "encoder": {"file": "encoder.onnx", "data": ["encoder.onnx.data"]},
        "hypernet": {"file": "hypernet.onnx", "data": []},
        "weights": {"file": "weights.onnx", "data": []},
        "generator": {"file": "generator.onnx", "data": []},
    },
    "methods": {
        "hyperstyle": {"phases": [{"graph": "encoder"}, {"graph": "hypernet", "repeat": 5}]}
    },
    "files": {
        name: {
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "stored": "fp32",
        }
        for name, content in CONTENTS.items()
    },
    "accuracy": {"images": {"max": 1.5e-6}},
    "default_method": "hyperstyle",
    "codes": {"width": 13, "space": CODE_SPACE},
    "training": {"steps": 100},
}

REMOVED = object()

A_FILE = {"sha256": "0" * 64, "bytes": 1, "stored": "fp32"}

ENCODER = ("graphs", "encoder", "file")
PHASES = ("methods", "hyperstyle", "phases")
ENTRY = ("files", "encoder.onnx")

# name: (path to the field, what is put there, what the error says). The schema refuses these, too.
ILL_FORMED = {
    "not_our_format": (("format",), "onnx", "format must be"),
    "format_of_another_case": (("format",), "Hyperstyle-RT-Bundle", "format must be"),
    "format_absent": (("format",), REMOVED, "lacks the field format"),
    "version_absent": (("version",), REMOVED, "lacks the field version"),
    "version_of_yesterday": (("version",), 1, "version 1 and this runtime reads version 2; update"),
    "version_of_tomorrow": (("version",), 3, "version 3 and this runtime reads version 2; update"),
    "version_zero": (("version",), 0, "version must be"),
    "version_as_text": (("version",), "2", "version must be"),
    "version_true_is_one": (("version",), True, "version must be"),
    "space_absent": (("space",), REMOVED, "lacks the field space"),
    "space_short": (("space",), "5ace", "space must be 64 lower-case"),
    "name_is_a_path": (("name",), "../portraits", "name must be"),
    "name_empty": (("name",), "", "name must be"),
    "domain_empty": (("domain",), "", "domain must be"),
    "domain_null": (("domain",), None, "domain must be"),
    "license_absent": (("license",), REMOVED, "lacks the field license"),
    "provenance_is_a_list": (("provenance",), [], "provenance must hold an object"),
    "provenance_of_numbers": (("provenance", "steps"), 7, "provenance.steps must be"),
    "resolution_huge": (("resolution",), 2**40, "resolution must be"),
    "resolution_negative": (("resolution",), -64, "resolution must be"),
    "resolution_as_text": (("resolution",), "64", "resolution must be"),
    "image_size_of_three": (("image_size",), [48, 64, 3], "image_size must be"),
    "image_size_zero": (("image_size",), [0, 64], "image_size must be"),
    "input_size_fraction": (("input_size",), [24.5, 32], "input_size must be"),
    "input_size_of_booleans": (("input_size",), [True, True], "input_size must be"),
    "input_size_null": (("input_size",), None, "input_size must be"),
    "input_size_huge": (("input_size",), [2**31, 2**31], "input_size must be"),
    "crop_negative": (("crop_rows",), [-8, 56], "crop_rows must be"),
    "crop_absent": (("crop_rows",), REMOVED, "lacks the field crop_rows"),
    "crop_is_false": (("crop_rows",), False, "crop_rows must be"),
    "latent_width_huge": (("latent_width",), 2**53, "latent_width must be"),
    "latents_many": (("num_latents",), 4097, "num_latents must be an integer from 1 to 4096"),
    "codes_null": (("codes",), None, "codes must hold an object"),
    "codes_without_a_count": (("codes", "width"), 1, "codes.width must be an integer from 2"),
    "codes_without_a_space": (("codes", "space"), REMOVED, "lacks the field codes.space"),
    "methods_absent": (("methods",), REMOVED, "lacks the field methods"),
    "methods_a_list": (("methods",), [], "methods must hold an object"),
    "method_is_a_path": (("methods", "../x"), {"phases": []}, "methods has the key '../x'"),
    "method_without_phases": (("methods", "x"), {}, "lacks the field methods.x.phases"),
    "phases_none": (PHASES, [], "methods.hyperstyle.phases must hold 1 to 32 phases"),
    "phases_many": (PHASES, [{"graph": "encoder"}] * 33, "phases must hold 1 to 32 phases"),
    "phase_is_a_text": ((*PHASES, 0), "encoder", "phases[0] must hold an object"),
    "phase_without_graph": ((*PHASES, 0), {}, "lacks the field methods.hyperstyle.phases[0].graph"),
    "phase_of_a_path": ((*PHASES, 0, "graph"), "../encoder", "phases[0].graph must be a plain"),
    "repeat_zero": ((*PHASES, 1, "repeat"), 0, "phases[1].repeat must be an integer from 1 to 100"),
    "repeat_many": ((*PHASES, 1, "repeat"), 101, "phases[1].repeat must be"),
    "repeat_null": ((*PHASES, 1, "repeat"), None, "phases[1].repeat must be"),
    "default_method_a_list": (("default_method",), [], "default_method must be a plain name"),
    "tuned_layers_null": (("tuned_layers",), None, "tuned_layers must be a list"),
    "tuned_layers_an_object": (("tuned_layers",), {}, "tuned_layers must be a list"),
    "layer_is_a_number": (("tuned_layers", 1), 2, "tuned_layers[1] must hold an object"),
    "layer_without_name": (
        ("tuned_layers", 1, "name"),
        REMOVED,
        "lacks the field tuned_layers[1].name",
    ),
    "layer_name_is_a_path": (("tuned_layers", 1, "name"), "a/b", "tuned_layers[1].name must be"),
    "layer_index_negative": (("tuned_layers", 0, "index"), -1, "tuned_layers[0].index must be"),
    "layer_shape_of_three": (
        ("tuned_layers", 0, "shape"),
        [16, 16, 3],
        "tuned_layers[0].shape must be",
    ),
    "layer_shape_zero": (
        ("tuned_layers", 0, "shape"),
        [0, 16, 3, 3],
        "tuned_layers[0].shape must be",
    ),
    "graphs_a_list": (("graphs",), ["encoder.onnx"], "graphs must hold an object"),
    "generator_absent": (("graphs", "generator"), REMOVED, "lacks the field graphs.generator"),
    "graph_is_a_name": (("graphs", "encoder"), "encoder.onnx", "graphs.encoder must hold an"),
    "graph_without_file": (ENCODER, REMOVED, "lacks the field graphs.encoder.file"),
    "data_absent": (("graphs", "encoder", "data"), REMOVED, "lacks the field graphs.encoder.data"),
    "data_is_a_name": (("graphs", "encoder", "data"), "x.data", "graphs.encoder.data must be a"),
    "macs_a_text": (("graphs", "encoder", "macs"), "many", "macs must be an integer from 0"),
    "macs_negative": (("graphs", "encoder", "macs"), -1, "macs must be an integer from 0"),
    "bytes_a_text": (("graphs", "encoder", "bytes_moved"), "x", "bytes_moved must be an integer"),
    "data_outside": (("graphs", "encoder", "data"), ["../x"], "data must be a list of plain names"),
    "data_absolute": (("graphs", "encoder", "data"), ["/x"], "data must be a list of plain names"),
    "data_twice": (
        ("graphs", "encoder", "data"),
        ["encoder.onnx.data"] * 2,
        "data must be a list that gives every name once",
    ),
    "graph_absolute": (ENCODER, "/etc/passwd", "graphs.encoder.file must be a plain name"),
    "graph_of_parent": (ENCODER, "..", "graphs.encoder.file must be a plain name"),
    "graph_outside": (ENCODER, "../encoder.onnx", "graphs.encoder.file must be a plain name"),
    "graph_nested": (ENCODER, "a/encoder.onnx", "graphs.encoder.file must be a plain name"),
    "graph_backslash": (ENCODER, "..\\e.onnx", "graphs.encoder.file must be a plain name"),
    "graph_of_a_drive": (ENCODER, "C:e.onnx", "graphs.encoder.file must be a plain name"),
    "graph_empty": (ENCODER, "", "graphs.encoder.file must be a plain name"),
    "graph_null": (ENCODER, None, "graphs.encoder.file must be a plain name"),
    "graph_with_nul": (ENCODER, "e.onnx\0.png", "graphs.encoder.file must be a plain name"),
    "graph_hidden": (ENCODER, ".encoder.onnx", "graphs.encoder.file must be a plain name"),
    "graph_of_long_name": (ENCODER, "e" * 101, "graphs.encoder.file must be a plain name"),
    "graph_of_other_script": (ENCODER, "\u0435ncoder", "graphs.encoder.file must be a plain"),
    "role_is_a_path": (("graphs", "../x"), {"file": "x", "data": []}, "graphs has the key '../x'"),
    "files_null": (("files",), None, "files must hold an object"),
    "file_outside": (("files", "../encoder.onnx"), A_FILE, "files has the key '../encoder.onnx'"),
    "file_absolute": (("files", "/encoder.onnx"), A_FILE, "files has the key '/encoder.onnx'"),
    "file_is_a_digest": (ENTRY, "0" * 64, "files.encoder.onnx must hold an object"),
    "digest_of_capitals": ((*ENTRY, "sha256"), "A" * 64, "64 lower-case"),
    "digest_short": ((*ENTRY, "sha256"), "0" * 63, "64 lower-case"),
    "digest_null": ((*ENTRY, "sha256"), None, "64 lower-case"),
    "size_negative": ((*ENTRY, "bytes"), -1, "bytes must be"),
    "size_as_text": ((*ENTRY, "bytes"), "17", "bytes must be"),
    "size_beyond_exact": ((*ENTRY, "bytes"), 2**53, "bytes must be"),
    "stored_absent": ((*ENTRY, "stored"), REMOVED, "lacks the field files.enc"),
    "stored_of_spaces": ((*ENTRY, "stored"), " ", "stored must be a plain name"),
    "accuracy_is_a_number": (("accuracy",), 1e-6, "accuracy must hold an object"),
    "training_null": (("training",), None, "training must hold an object"),
}

# The fields contradict each other, which a schema cannot see.
CONTRADICTORY = {
    "crop_beyond_the_image": (("crop_rows",), [8, 72], "crop_rows must lie within the 64 rows"),
    "crop_upside_down": (("crop_rows",), [56, 8], "crop_rows must lie within the 64 rows"),
    "crop_empty": (("crop_rows",), [8, 8], "crop_rows must lie within the 64 rows"),
    "crop_forgotten": (("crop_rows",), None, "image_size must be [64, 64]"),
    "image_wider_than_made": (("image_size",), [48, 128], "image_size must be [48, 64]"),
    "layers_descending": (("tuned_layers", 0, "index"), 3, "ascending indices, not [3, 2, 13]"),
    "layers_twice": (("tuned_layers", 0, "index"), 2, "ascending indices, not [2, 2, 13]"),
    "layers_of_one_name": (("tuned_layers", 0, "name"), "convs.0", "two layers one name"),
    "kernel_not_square": (("tuned_layers", 0, "shape"), [16, 16, 3, 1], "is not square"),
    "layers_none": (("tuned_layers",), [], "codes is given although tuned_layers is empty"),
    "weights_absent": (("graphs", "weights"), REMOVED, "both tuned_layers and the graph weights"),
    "graph_not_listed": (ENCODER, "other.onnx", "'other.onnx', which is not among the files"),
    "data_not_listed": (
        ("graphs", "hypernet", "data"),
        ["hypernet.onnx.data"],
        "graphs.hypernet names 'hypernet.onnx.data', which is not among the files",
    ),
    "precision_of_no_role": (
        ("precisions",),
        {"fp16": {"decoder": {"file": "encoder.onnx", "data": []}}},
        "precisions.fp16.decoder is not among the graphs",
    ),
    "phase_of_no_graph": (
        (*PHASES, 1, "graph"),
        "restyle",
        "methods.hyperstyle.phases[1].graph names 'restyle', which is not among the graphs",
    ),
    "default_method_absent": (("default_method",), REMOVED, "lacks the field default_method"),
    "default_method_unknown": (("default_method",), "psp", "default_method names 'psp'"),
    "default_of_no_methods": (("methods",), {}, "default_method names 'hyperstyle'"),
    "base_with_methods": (("base",), {"name": "faces", "space": SPACE}, "both the field base and"),
    "styles_without_their_graph": (
        ("optional_inputs",),
        {"styles": [], "noise": []},
        "both the field optional_inputs and the graph styled_generator",
    ),
    "noise_without_its_values": (
        ("graphs", "noise"),
        {"file": "encoder.onnx", "data": []},
        "both noise among the optional_inputs and the graph noise",
    ),
    "files_empty": (("files",), {}, "which is not among the files"),
}


def edited(path: tuple[str | int, ...], value: object) -> dict:
    """The sound manifest with one field replaced, added or removed."""
    document = copy.deepcopy(GOOD)
    *parents, last = path
    place = document
    for key in parents:
        place = place[key]
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    return document


def _text(old: str, new: str) -> bytes:
    text = json.dumps(GOOD)
    assert old in text
    return text.replace(old, new, 1).encode("utf-8", "surrogatepass")


# name: (the file's bytes, what the error says). These never become a document.
NOT_STRICT_JSON = {
    "empty": (b"", "is not JSON"),
    "binary": (b"\x89PNG\r\n\x1a\n", "is not UTF-8"),
    "truncated": (json.dumps(GOOD).encode()[:-1], "is not JSON"),
    "two_documents": (json.dumps(GOOD).encode() * 2, "is not JSON"),
    "trailing_nul": (json.dumps(GOOD).encode() + b"\0", "is not JSON"),
    "byte_order_mark": (b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "is not JSON"),
    "utf_16": (json.dumps(GOOD).encode("utf-16"), "is not UTF-8"),
    "latin_1": (_text("coloured", "colour\u00e9").decode().encode("latin-1"), "is not UTF-8"),
    "raw_surrogate": (_text("coloured", "\ud800"), "is not UTF-8"),
    "escaped_surrogate": (_text("coloured", "\\ud800"), "is not UTF-8"),
    "key_twice": (_text('"version": 2', '"version": 1, "version": 2'), "the key 'version' twice"),
    "key_twice_inside": (_text('"bytes":', '"bytes": 1, "bytes":'), "the key 'bytes' twice"),
    "key_twice_by_escape": (_text('"version"', '"vers\\u0069on": 2, "version"'), "twice"),
    "not_a_number": (_text("1.5e-06", "NaN"), "holds NaN"),
    "infinity": (_text("1.5e-06", "-Infinity"), "holds -Infinity"),
    "infinity_by_overflow": (_text("1.5e-06", "1e999"), "holds the number 1e999"),
    "integer_of_many_digits": (_text("1.5e-06", "9" * 5000), "holds the number 9999"),
    "nested_lists": (b"[" * 100_000, "is nested too deeply"),
    "nested_objects": (b'{"a":' * 100_000, "is nested too deeply"),
    "a_list": (b"[]", "file must hold an object"),
    "a_number": (b"1", "file must hold an object"),
    "null": (b"null", "file must hold an object"),
}


def write_bundle(directory: Path) -> Path:
    """Write the sound bundle."""
    directory.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (directory / name).write_bytes(content)
    (directory / "manifest.json").write_text(json.dumps(GOOD), encoding="utf-8")
    return directory
