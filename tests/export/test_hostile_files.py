"""What users take for a checkpoint, and what was made to do harm: one sentence, nothing done.

All go through the build command, as an encoder and as a generator's pickle.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from build_command import Command
from models import tiny_encoder
from nvidia_files import Persistent, network, write_network, write_pickle
from safetensors.numpy import save_file

Write = Callable[[Path], object]

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1202930698\n"
WEB_PAGE = b"\n <!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>"
REPEATED = 60  # times that something stands in itself twice: more places than can be visited


def tar(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("e4e_ffhq_encode.pt", b"x")


def script(path: Path) -> None:
    torch.save({}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", b"x")


def doubled(deep: int, innermost: object = 1) -> list[object]:
    """A list of the same list twice, and so on: few bytes, 2 ** deep places."""
    value: list[object] = [innermost]
    for _ in range(deep):
        value = [value, value]
    return value


# What is no torch file and no pickle -> what either is told that it is.
OTHER_FILES: dict[str, tuple[Write, str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is empty; download"),
    "lfs_pointer": (lambda path: path.write_bytes(LFS_POINTER), "is a pointer of Git LFS.*pull"),
    "web_page": (lambda path: path.write_bytes(WEB_PAGE), "is a web page, saved in place"),
    "safetensors": (
        lambda path: save_file({"encoder.x": np.zeros(2, np.float32)}, path),
        "is a safetensors file",
    ),
    "tar": (tar, "is an archive; unpack it"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"x" * 99)), "is an archive; unpack it"),
    "zip": (zipped, "is a zip archive, not one of torch's; unpack it"),
    "torchscript": (script, "is a TorchScript program, which is not run"),
    "zeros": (lambda path: path.write_bytes(bytes(5000)), "is damaged or no"),
}


@pytest.mark.parametrize("role", ["encoder", "checkpoint", "generator"])
@pytest.mark.parametrize("case", OTHER_FILES)
def test_other_files_are_told_what_they_are(case: str, role: str, command: Command) -> None:
    write, message = OTHER_FILES[case]
    path = command.directory / ("file.pkl" if role == "generator" else "file.pt")
    write(path)
    assert str(path) in command.refuse(message, **{role: path})


def test_torch_files_and_pickles_that_are_exchanged_are_told(command: Command) -> None:
    pickled = write_network(command.directory / "network.pt")
    command.refuse("is a pickle of NVIDIA's .* give it as a generator, .* .pkl", encoder=pickled)
    torch_file = tiny_encoder(command.directory / "e4e.pkl", "Encoder4Editing")
    command.refuse("is a torch file; give it under a name that ends in .pt", generator=torch_file)


def of_sparse(contents: dict[str, Any]) -> None:
    key = "encoder.styles.1.linear.weight"
    contents["state_dict"][key] = contents["state_dict"][key].to_sparse()


def of_complex(contents: dict[str, Any]) -> None:
    contents["latent_avg"] = contents["latent_avg"] * (1 + 1j)


def of_type(key: str, dtype: torch.dtype) -> Callable[[dict[str, Any]], object]:
    """A tensor of the same bytes in a type that torch does next to nothing with."""

    def alter(contents: dict[str, Any]) -> None:
        state = contents if key in contents else contents["state_dict"]
        state[key] = torch.zeros(state[key].shape, dtype=torch.uint8).view(dtype)

    return alter


def of_terabytes(contents: dict[str, Any]) -> None:
    contents["state_dict"]["decoder.conv1.conv.weight"] = torch.zeros(
        (), dtype=torch.float16
    ).expand(1, 1 << 20, 1 << 20, 3, 3)


def without_values(contents: dict[str, Any]) -> None:
    contents["state_dict"]["encoder.extra"] = torch.zeros(3, device="meta")


def with_options(options: object) -> Callable[[dict[str, Any]], object]:
    return lambda contents: contents.update(opts=options)


def with_option(**changed: object) -> Callable[[dict[str, Any]], object]:
    return lambda contents: contents["opts"].update(changed)


# What is wrong in an otherwise right file of an encoder.
ODD_CONTENTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "sparse_tensor": (of_sparse, "'encoder.styles.1.linear.weight' is a tensor of layout .*sparse"),
    "complex_tensor": (of_complex, "'latent_avg' is a tensor of torch.complex64"),
    "average_of_8_bit_floats": (
        of_type("latent_avg", torch.float8_e4m3fn),
        "'latent_avg' is a tensor of torch.float8_e4m3fn; give",
    ),
    "kernel_of_4_bit_floats": (
        of_type("decoder.conv1.conv.weight", torch.float4_e2m1fn_x2),
        "'decoder.conv1.conv.weight' is a tensor of torch.float4_e2m1fn_x2; give",
    ),
    "kernel_of_bits": (
        of_type("decoder.conv1.conv.weight", torch.bits8),
        "'decoder.conv1.conv.weight' is a tensor of torch.bits8; give",
    ),
    "option_that_is_a_tensor": (
        with_option(start_from_latent_avg=torch.ones(2)),
        "the option 'start_from_latent_avg' is a tensor, not a plain value; give",
    ),
    "tensor_without_values": (without_values, "'encoder.extra' is a tensor without values"),
    "tensor_of_terabytes": (of_terabytes, "said to have 9,895,604,649,984 elements"),
    "options_that_are_a_list": (with_options(["psp"]), "does not say what it holds"),
    "options_that_are_a_text": (with_options("Encoder4Editing"), "does not say what it holds"),
    "options_that_are_a_number": (with_options(7), "does not say what it holds"),
    "class_that_is_bytes": (
        with_option(encoder_type=b"Encoder4Editing"),
        "an encoder of type b'Encoder4Editing', which is not supported",
    ),
    "class_of_many_places": (
        with_option(encoder_type=doubled(REPEATED)),
        r"an encoder of type \[\[\.\.\.\], \[\.\.\.\]\], which is not supported",
    ),
    "class_of_two_lines": (
        with_option(encoder_type="Encoder4\nEditing"),
        r"an encoder of type 'Encoder4\\nEditing', which",
    ),
    "size_of_many_places": (
        with_option(input_size=doubled(REPEATED)),
        r"the option 'input_size' is \[\[\.\.\.\], \[\.\.\.\]\], not two positive integers",
    ),
    "labels_contradicted": (
        with_option(label_nc=19),
        r"reads 19 channels \(opts.label_nc\), but it reads 3",
    ),
    "state_dict_that_is_a_tensor": (
        lambda contents: contents.update(state_dict=torch.ones(3)),
        "torch file of an unknown kind",
    ),
}


@pytest.mark.parametrize("case", ODD_CONTENTS)
def test_odd_contents_are_refused(case: str, command: Command) -> None:
    alter, message = ODD_CONTENTS[case]
    path = tiny_encoder(command.directory / "file.pt", "Encoder4Editing")
    contents = torch.load(path, weights_only=True)
    alter(contents)
    torch.save(contents, path)
    command.refuse(message, encoder=path)


def test_halves_are_read(command: Command) -> None:
    """As some upload their files; the generator differs by their rounding, and is told so."""
    path = tiny_encoder(command.directory / "file.pt", "Encoder4Editing")
    contents = torch.load(path, weights_only=True)
    state = contents["state_dict"]
    state.update({k: v.half() for k, v in state.items() if v.is_floating_point()})
    torch.save(contents, path)
    command.refuse("is not that of .* differs by 0.000", encoder=path)


def holding(contents: object) -> Write:
    return lambda path: write_pickle(path, contents)


def within_itself(path: Path) -> None:
    whole = network({"synthesis.b4.const": torch.zeros(2, 4, 4)})
    modules = whole.state["_modules"]
    for _ in range(REPEATED):
        modules = {"a": Persistent("Inner", {"_modules": modules})}
        modules["b"] = modules["a"]
    write_pickle(path, {"G_ema": Persistent("Generator", {"_modules": modules})})


def remembering(number: int) -> Write:
    """A dictionary that is remembered under a number; Python makes a table of as many entries."""
    return lambda path: path.write_bytes(b"\x80\x02}r" + struct.pack("<I", number) + b".")


_DAMAGED = "is damaged or no pickle of a network"

HOSTILE_PICKLES: dict[str, tuple[Write, str]] = {
    "many_places": (holding({"G_ema": doubled(REPEATED)}), "has no network 'G_ema'"),
    "very_deep": (
        lambda path: path.write_bytes(b"\x80\x02}K\x01" + b"]" * 9000 + b"a" * 8999 + b"s."),
        _DAMAGED,
    ),
    "networks_within_networks": (within_itself, "a network of more than 10000 parts"),
    "memo_of_gigabytes": (remembering(0xFFFFFFF0), _DAMAGED),
    "bytes_of_gigabytes": (
        lambda path: path.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x."),
        _DAMAGED,
    ),
    "pickle_in_a_storage": (
        lambda path: path.write_bytes(
            b"\x80\x02ctorch.storage\n_load_from_bytes\nC\x0f\x80\x02cos\nabort\n)R.\x85R."
        ),
        _DAMAGED,
    ),
    "subprocess": (
        lambda path: path.write_bytes(b"\x80\x02csubprocess\nPopen\nX\x02\x00\x00\x00id\x85R."),
        "holds a subprocess.Popen, .*nothing in it was run",
    ),
    "dotted_name": (
        lambda path: path.write_bytes(b"\x80\x04\x8c\x05torch\x94\x8c\x08hub.load\x94\x93."),
        "holds a torch.hub.load, .*nothing in it was run",
    ),
    "import_by_extension": (lambda path: path.write_bytes(b"\x80\x02\x82\x01."), _DAMAGED),
    "persistent_id": (lambda path: path.write_bytes(b"\x80\x02K\x01Q."), _DAMAGED),
    "json": (lambda path: path.write_text(json.dumps({"G_ema": 1})), _DAMAGED),
    "class_name_of_many_places": (
        holding({"G_ema": Persistent(doubled(REPEATED), {})}),  # type: ignore[arg-type]
        r"is a network \[\[\.\.\.\], \[\.\.\.\]\] of an unknown layout",
    ),
    "clamp_of_many_places": (
        lambda path: write_network(
            path, attributes={"synthesis.b8.conv1": {"conv_clamp": doubled(REPEATED)}}
        ),
        r"limited differently \(conv_clamp None, \[\[\.\.\.\], \[\.\.\.\]\]\)",
    ),
    "names_of_many_kinds": (
        holding({5: 1, None: 2, ("a",): 3, "D": 4}),
        r"has no network 'G_ema' \(names: D\)",
    ),
}


@pytest.mark.parametrize("case", HOSTILE_PICKLES)
def test_hostile_pickles_are_refused(case: str, command: Command) -> None:
    write, message = HOSTILE_PICKLES[case]
    path = command.directory / "network.pkl"
    write(path)
    command.refuse(message, generator=path)


def test_a_pickle_that_python_itself_would_run_is_not(command: Command) -> None:
    """Every way in which a pickle calls something, with what would be seen if it were called."""
    marker, path = command.directory / "ran", command.directory / "network.pkl"
    line = f"open({str(marker)!r}, 'w')".encode()
    text = b"X" + struct.pack("<I", len(line)) + line
    ways = {
        "reduce": b"\x80\x02cbuiltins\neval\n" + text + b"\x85R.",
        "instance": b"(" + text + b"ibuiltins\neval\n.",
        "object": b"(cbuiltins\neval\n" + text + b"o.",
        "stack_global": b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93" + text + b"\x85R.",
    }
    for name, data in ways.items():
        pickle.loads(data).close()
        assert marker.exists(), name
        marker.unlink()
        path.write_bytes(data)
        command.refuse("holds a builtins.eval, .*nothing in it was run", generator=path)
        command.refuse("more than tensors|is damaged or no torch file", encoder=path)
        assert not marker.exists(), name
