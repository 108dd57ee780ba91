"""Lets half of what Schemathesis sends reach the workers: real pictures, files and ids.

Left alone, it sends bytes that are no picture and ids that nobody has, which are refused at the
door. The variables ``KNOWN_ID`` and ``KNOWN_FILE`` name an inversion of the service and its file,
``PICTURE`` a picture. It runs in Schemathesis' own environment.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import schemathesis

ID = os.environ["KNOWN_ID"]
PICTURE = Path(os.environ["PICTURE"]).read_bytes()
REAL = {
    "first": ID,
    "second": ID,
    "inversion": ID,
    "picture": PICTURE,
    "photo": PICTURE,
    "file": Path(os.environ["KNOWN_FILE"]).read_bytes(),
}
chosen = random.Random(0)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Put real things into half of the requests; none of them forgets the inversion.

    Schemathesis sends ids that answers held to other operations, too, and so to DELETE.
    """
    if "id" in (case.path_parameters or {}):
        if case.method != "DELETE" and chosen.random() < 0.5:
            case.path_parameters["id"] = ID
        elif case.method == "DELETE" and case.path_parameters["id"] == ID:
            case.path_parameters["id"] = "another"
    if isinstance(case.body, dict) and chosen.random() < 0.5:
        case.body |= {name: value for name, value in REAL.items() if name in case.body}
