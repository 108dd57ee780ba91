"""docs/formats.md says what the code does: its tables and limits are those of the formats."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from attacks import inversions, manifests
from hyperstyle_rt.formats import (
    bundle,
    directions_file,
    inversion_file,
    manifest,
    methods,
    optional_inputs,
)
from hyperstyle_rt.formats.directions_file import serialize_directions
from hyperstyle_rt.formats.inversion_file import parse_inversion, serialize_inversion
from hyperstyle_rt.formats.tensors import parse
from test_directions import DIRECTIONS

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
SCHEMA = json.loads(
    (Path(manifest.__file__).parent / "manifest.schema.json").read_text(encoding="utf-8")
)


def table(first: str) -> list[list[str]]:
    """Rows of the table whose first column has this title, without back ticks."""
    lines = PAGE[PAGE.index(f"\n| {first} |") :].split("\n\n")[0].strip().splitlines()
    return [
        [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines[2:]
    ]


def test_fields_of_the_manifest_are_the_schemas() -> None:
    documented = {name: required == "yes" for name, required, _ in table("field")}
    assert set(documented) == set(SCHEMA["properties"])
    assert {name for name, required in documented.items() if required} == set(SCHEMA["required"])


def test_every_field_the_manifest_writes_is_documented() -> None:
    """A manifest with everything in it: the writer knows no field the page does not."""
    document = manifests.edited(("plans",), {"k": {}})
    document["precisions"] = {"fp16": {}}
    document["graphs"]["styled_generator"] = document["graphs"]["generator"]
    document["optional_inputs"] = {"styles": [], "noise": []}
    written = set(manifest.Manifest.from_json(document).to_json())
    names = {name for name, *_ in table("field")}
    assert names - written == {"base"}  # excludes methods
    assert written <= names


def test_parts_of_the_fields_are_the_schemas() -> None:
    values = {name: value for name, _, value in table("field")}
    for name, parts in {
        "codes": SCHEMA["properties"]["codes"]["required"],
        "tuned_layers": SCHEMA["properties"]["tuned_layers"]["items"]["required"],
        "graphs": SCHEMA["$defs"]["graphs"]["additionalProperties"]["properties"],
        "precisions": SCHEMA["$defs"]["graphs"]["additionalProperties"]["properties"],
        "files": SCHEMA["$defs"]["files"]["additionalProperties"]["required"],
        "plans": SCHEMA["$defs"]["files"]["additionalProperties"]["required"],
        "base": SCHEMA["properties"]["base"]["required"],
        "methods": ["phases", "graph", "repeat"],
        "optional_inputs": ["styles", "noise", "name", "width", "side"],
    }.items():
        assert set(re.findall(r'"(\w+)"', values[name])) == set(parts), name


@pytest.fixture(scope="module")
def full() -> inversion_file.InversionData:
    """An inversion with everything a file can hold."""
    data = parse_inversion(inversions.GOOD)
    offsets = np.zeros(4, np.float16)
    return replace(data, channel_offsets=offsets, picture=inversions.DIGEST)


def test_entries_and_tensors_of_inversion_files(full: inversion_file.InversionData) -> None:
    bare = replace(full, codes=None, code_space=None, channel_offsets=None, picture=None)
    same_rows = np.zeros_like(full.latents)
    files = [parse(serialize_inversion(data)) for data in (full, replace(full, latents=same_rows))]
    entries = {name: required == "yes" for name, required, _ in table("entry")}
    assert set(entries) == set(files[0].metadata)
    required = {name for name, is_required in entries.items() if is_required}
    assert required == set(parse(serialize_inversion(bare)).metadata)
    for name in required:
        with pytest.raises(inversion_file.InversionError):
            parse_inversion(inversions.metadata(**{name: inversions.REMOVED}))
    assert {name for name, *_ in table("tensor")} == {n for file in files for n in file.tensors}


def test_kinds_of_directions() -> None:
    file = parse(serialize_directions(DIRECTIONS))
    facts: dict[str, set[str]] = {}
    tensors: dict[str, set[str]] = {}
    for name in DIRECTIONS:
        entry = json.loads(file.metadata[f"direction.{name}"])
        kind = entry.pop("kind")
        facts.setdefault(kind, set()).update(entry)
        parts = {tensor.split(".")[1] for tensor in file.tensors if tensor.startswith(f"{name}.")}
        tensors.setdefault(kind, set()).update(parts)
    rows = table("kind")
    assert {kind for kind, *_ in rows} == set(facts)
    for kind, said, of_tensors in rows:
        assert set(re.findall(r"\w+", said)) | {"unit"} == facts[kind], kind
        assert set(re.findall(r"<name>\.(\w+)", of_tensors)) == tensors[kind], kind


LIMITS = {
    "`manifest.json` of at most 1,048,576 bytes": bundle.MAX_MANIFEST_SIZE == 1_048_576,
    "`2` |": manifest.VERSION == 2,
    "1 to 4096: side of the square": manifest.MAX_SIDE == 4096,
    "L, integer 1 to 4096": manifest.MAX_LATENTS == inversion_file.MAX_LATENTS == 4096,
    "W, integer 1 to 65536": manifest.MAX_WIDTH == 65536,
    "1 to 32\nphases": methods.MAX_PHASES == 32,
    "`repeat` is 1 to 100": methods.MAX_ITERATIONS == 100,
    "`width` is 1 to\n65536": optional_inputs.MAX_CHANNELS == 65536,
    "`side` 1 to 4096": optional_inputs.MAX_NOISE_SIDE == 4096,
    "at most 16,777,216 bytes": inversion_file.MAX_FILE_SIZE == 16_777_216,
    "`3` |": inversion_file.VERSION == "3",
    "at most 65,536 characters": inversion_file.MAX_METADATA == 65_536,
    "may list `codes` and `channel_offsets`": inversion_file.NEEDS == ("codes", "channel_offsets"),
    "at most 268,435,456 bytes": directions_file.MAX_FILE_SIZE == 268_435_456,
    "`version`, `1`": directions_file.VERSION == "1",
}


@pytest.mark.parametrize("said", LIMITS)
def test_limits_are_the_codes(said: str) -> None:
    assert said in PAGE
    assert LIMITS[said]


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert targets
    for target in targets:
        assert (Path(__file__).parents[2] / "docs" / target).exists(), target
