"""The browser's readers and writer of bundles and inversion files, against Python's."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from attacks import inversions, manifests
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.inversion_file import parse_inversion, serialize_inversion
from node_programs import needs_node, run

pytestmark = needs_node

# Python says the same in the words of its own libraries.
OTHER_WORDS = {
    "shape_overflows": "holds a tensor of a type or shape that is not read here",
    "type_numpy_lacks": "holds a tensor of a type or shape that is not read here",
}


def said_of(kind: str, files: dict[str, bytes], folder: Path) -> dict[str, str | None]:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return run("refusals.mjs", kind, folder)


def test_manifests_are_refused_with_pythons_sentences(tmp_path: Path) -> None:
    edits = manifests.ILL_FORMED | manifests.CONTRADICTORY
    files = {
        name: json.dumps(manifests.edited(path, value)).encode()
        for name, (path, value, _) in edits.items()
    }
    files |= {name: content for name, (content, _) in manifests.NOT_STRICT_JSON.items()}
    needles = {name: needle for name, (_, _, needle) in edits.items()}
    needles |= {name: needle for name, (_, needle) in manifests.NOT_STRICT_JSON.items()}
    said = said_of(
        "manifest", files | {"sound": json.dumps(manifests.GOOD).encode()}, tmp_path / "m"
    )
    assert said.pop("sound") is None
    assert len(said) == len(needles) > 130
    wrong = {n: (needles[n], s) for n, s in said.items() if needles[n] not in str(s)}
    assert wrong == {}
    assert all(str(sentence).startswith("BundleError: ") for sentence in said.values())


def test_numbers_with_a_point_are_no_integers(tmp_path: Path) -> None:
    text = json.dumps(manifests.GOOD).replace('"num_latents": 10', '"num_latents": 10.0')
    said = said_of("manifest", {"float": text.encode()}, tmp_path / "m")
    assert "num_latents must be an integer from 1 to 4096, not 10.0" in str(said["float"])


def test_inversion_files_are_refused_with_pythons_sentences(tmp_path: Path) -> None:
    files = {name: content for name, (content, _) in inversions.ATTACKS.items()}
    said = said_of("inversion", files | {"sound": inversions.GOOD}, tmp_path / "i")
    assert said.pop("sound") is None
    needles = {name: OTHER_WORDS.get(name, say) for name, (_, say) in inversions.ATTACKS.items()}
    assert len(said) == len(needles) > 80
    wrong = {n: (needles[n], s) for n, s in said.items() if needles[n] not in str(s)}
    assert wrong == {}
    assert all(str(sentence).startswith("InversionError: ") for sentence in said.values())


def test_inversion_files_are_written_byte_for_byte_as_python_writes_them(tmp_path: Path) -> None:
    plain = parse_inversion(inversions.GOOD)
    settings = {
        "iterations": 5,
        "until": 1.0,
        "edits": [{"smile": 2.0, "age": -1.25e-7, "größe 😀": 1e16}],
        "none": [None, True, '\u007f\n\\"'],
    }
    halves = np.array([0, 1e-7, -2.5, 65504], np.float16)
    everything = dataclasses.replace(
        plain,
        settings=settings,
        picture="ab" * 32,
        channel_offsets=halves,
        noise=halves,
        weights=halves,
        features=halves.reshape(1, 2, 2),
    )
    one_row = dataclasses.replace(
        plain,
        latents=np.tile(plain.latents[:1], (10, 1)),
        codes=None,
        code_space=None,
        transform=None,
    )
    written = {
        name: serialize_inversion(data)
        for name, data in {"plain": plain, "everything": everything, "w": one_row}.items()
    }
    for name, content in written.items():
        (tmp_path / name).write_bytes(content)
    run("rewrite.mjs", tmp_path)
    for name, content in written.items():
        assert (tmp_path / f"{name}.again").read_bytes() == content, name


def test_bundles_have_pythons_digest_and_altered_files_are_refused(tmp_path: Path) -> None:
    directory = manifests.write_bundle(tmp_path / "tiny")
    read = run("tampered.mjs", directory, "encoder")
    assert read["digest"] == Bundle.open(directory).digest
    assert read["data"] == [["encoder.onnx.data", len(manifests.CONTENTS["encoder.onnx.data"])]]
    data = directory / "encoder.onnx.data"
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    assert "encoder.onnx.data is altered, its SHA-256 is not" in run(
        "tampered.mjs", directory, "encoder"
    )
    data.write_bytes(b"longer than it was, too")
    assert "encoder.onnx.data has 23 bytes where the manifest says 17" in run(
        "tampered.mjs", directory, "encoder"
    )
    data.unlink()
    assert "cannot open" in run("tampered.mjs", directory, "encoder")


@pytest.mark.parametrize("name", ["faces", "portraits"])
def test_the_embedded_bundles_are_read(name: str) -> None:
    directory = Path(__file__).parents[3] / "engines" / name
    assert run("tampered.mjs", directory, "generator")["digest"] == Bundle.open(directory).digest
