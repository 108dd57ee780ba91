"""Backends in a process that forks: their threads are not there in the child."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from opened_backends import NEEDS_OPENVINO, OPEN, python

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
OPENVINO = pytest.param("openvino", marks=NEEDS_OPENVINO)

OWN = "print(encode(load(sys.argv[2])).shape, flush=True)"
FORK = (
    OPEN
    + """
import threading, time
backend = load(sys.argv[2])
encode(backend)
child = os.fork()
if child == 0:
    try:
        encode(backend)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    backend.close()
    del backend
    {in_child}
    sys.exit(7)
ended = time.monotonic() + 60
while time.monotonic() < ended:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        break
    time.sleep(0.05)
else:
    os.kill(child, 9)
    sys.exit("the child hangs")
print(os.waitstatus_to_exitcode(status), encode(backend).shape, flush=True)
"""
)


@FORKS
@pytest.mark.parametrize("name", ["cpu", OPENVINO])
@pytest.mark.parametrize("in_child", ["pass", OWN])
def test_a_child_is_told_and_ends(in_child: str, name: str, tiny_bundle: Path) -> None:
    """It can neither use nor hang on what its parent opened, and may open its own."""
    ran = python(FORK.replace("{in_child}", in_child), tiny_bundle, name)
    sentence, *rest = ran.stdout.splitlines()
    assert sentence.startswith("BackendError this model was loaded before the process forked")
    own = ["(1, 8, 16)"] if in_child != "pass" else []
    assert rest == [*own, "7 (1, 8, 16)"], ran.stderr
    assert ran.stderr == ""


FACES = """
import os, sys
import numpy as np
from hyperstyle_rt.photos.faces import find_faces
photo = np.zeros((200, 300, 3), np.uint8)
print(find_faces(photo), flush=True)
child = os.fork()
if child == 0:
    print(find_faces(photo), flush=True)
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@FORKS
def test_faces_are_found_in_a_child_too(tmp_path: Path) -> None:
    """Its networks are opened anew; nothing is reported to anybody, nothing hangs."""
    ran = python(FACES, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (ran.stdout, ran.stderr) == ("[]\n[]\n7\n", "")
    assert list(tmp_path.iterdir()) == []
