"""Strict JSON, for untrusted files: no duplicate keys, no NaN, no text that is not Unicode.

Python's own reader keeps the last of two equal keys, takes ``NaN`` and makes ``1e999`` infinite.
Two readers in two languages must never see two different documents, so all of that is refused.
"""

from __future__ import annotations

import json
import math
from typing import NoReturn

# Digits of 2**63 and a sign: what a reader in C++ holds.
LONGEST_INTEGER = 20


def parse(data: bytes) -> object:
    """Parse one JSON document.

    Parameters
    ----------
    data:
        UTF-8, without a byte order mark.

    Raises
    ------
    ValueError
        If it is not such a document; the text completes the sentence "the file ...".
    """
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_refuse_constant,
        )
        # An escaped half of a surrogate pair ("\ud800") passes the reader but is not text.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise ValueError("is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    return document


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document: dict[str, object] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError(f"gives the key {key[:60]!r} twice")
        document[key] = value
    return document


def _integer(text: str) -> int:
    if len(text) > LONGEST_INTEGER:
        raise ValueError(f"holds the number {text[:20]}..., which is too large")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"holds the number {text[:20]}, which is too large")
    return number


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"holds {text}, which is not a JSON number")
