"""What a file is that could not be read as what it was given for, by its first bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path

ZIP = b"PK"  # what archives of that kind begin with, torch's among them
PICKLE = b"\x80"  # what pickles begin with that Python 3 has written

_HEAD = 4096  # bytes
_TAR_MAGIC = slice(257, 262)
_COMPRESSED = (
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"7z\xbc\xaf",
    b"Rar!",
    b"\x28\xb5\x2f\xfd",
)
_NVIDIA = (b"torch_utils.persistence", b"dnnlib")


def kind_of_file(path: Path) -> str | None:
    """Say what a file is and what to do, as the rest of a sentence; None if it is none of these."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        size = path.stat().st_size
        if head.startswith(ZIP):
            return _kind_of_zip(path)
    except Exception:  # in a damaged archive any operation of zipfile may fail
        return None
    if not head:
        return "is empty; download or copy it again"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file it stands for; fetch that with git lfs pull"
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, saved in place of the file; download the file again"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return (
            "is a safetensors file, without the options that tell what its tensors are for; give "
            "the torch file that the training wrote"
        )
    if head[_TAR_MAGIC] == b"ustar" or head.startswith(_COMPRESSED):
        return "is an archive; unpack it and give the file in it"
    if head.startswith(PICKLE) and any(name in head for name in _NVIDIA):
        return (
            "is a pickle of NVIDIA's StyleGAN repositories, not a torch file; give it as a "
            "generator, under a name that ends in .pkl"
        )
    return None


def _kind_of_zip(path: Path) -> str | None:
    """The same of a zip archive: torch's own holds one pickle, ``<name>/data.pkl``."""
    with zipfile.ZipFile(path) as container:
        names = [name.rpartition("/")[2] for name in container.namelist()]
    if "constants.pkl" in names:
        return "is a TorchScript program, which is not run; give the file that the training wrote"
    if "data.pkl" in names:
        return None
    return "is a zip archive, not one of torch's; unpack it and give the file in it"
