"""Backends in a process that forks: their threads are not there in the child."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from opened_backends import NEEDS_OPENVINO, OPEN, python

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")

OWN = "print(encode(load(sys.argv[2])).shape, flush=True)"
REFUSED = """
    try:
        load("openvino")
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""
NO_SECOND_OPENVINO = (
    "BackendError OpenVINO was in use before the process forked and may hang in the child; start "
    "processes by spawn or forkserver, or use --backend cpu"
)
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


FIRST_IN_CHILD = (
    OPEN
    + """
from hyperstyle_rt.backends.openvino_library import load_openvino
load_openvino()
child = os.fork()
if child == 0:
    print(encode(load("openvino")).shape, flush=True)
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
)


@FORKS
@pytest.mark.parametrize(
    ("name", "in_child", "says"),
    [
        ("cpu", "pass", []),
        ("cpu", OWN, ["(1, 8, 16)"]),
        pytest.param("openvino", "pass", [], marks=NEEDS_OPENVINO),
        pytest.param("openvino", REFUSED, [NO_SECOND_OPENVINO], marks=NEEDS_OPENVINO),
    ],
)
def test_a_child_is_told_and_ends(
    name: str, in_child: str, says: list[str], tiny_bundle: Path
) -> None:
    """It can neither use nor hang on what its parent opened.

    It may open its own, but for OpenVINO, whose threads all cores of a process share.
    """
    ran = python(FORK.replace("{in_child}", in_child), tiny_bundle, name)
    sentence, *rest = ran.stdout.splitlines()
    assert sentence.startswith("BackendError this model was loaded before the process forked")
    assert rest == [*says, "7 (1, 8, 16)"], ran.stderr
    assert ran.stderr == ""


@FORKS
@NEEDS_OPENVINO
def test_openvino_works_in_children_of_a_process_that_has_not_used_it(tiny_bundle: Path) -> None:
    ran = python(FIRST_IN_CHILD, tiny_bundle)
    assert (ran.stdout, ran.stderr) == ("(1, 8, 16)\n7\n", "")


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
