"""Typed access to the fields of a manifest that may hold anything."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import BundleError

T = TypeVar("T")

MAX_INTEGER = 2**53 - 1  # what every JSON reader holds exactly

# Names of files, bundles, layers, roles and methods: never a path on any system.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
PLAIN_NAME = "a plain name of at most 100 letters, digits, '_', '-', '+', '.'"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_plain_name(text: str) -> bool:
    """Whether ``text`` may name a file of a bundle, a bundle, a layer, a role or a method."""
    return _PLAIN_NAME.fullmatch(text) is not None


def is_sha256(text: str) -> bool:
    """Whether ``text`` is a SHA-256 digest as manifests and inversion files write it."""
    return _SHA256.fullmatch(text) is not None


def invalid(problem: str) -> BundleError:
    """Make the error for a manifest whose ``problem`` completes the sentence "the manifest ..."."""
    return BundleError(f"the manifest {problem}; restore the bundle or build it again")


class Fields:
    """The fields of one JSON object; every error names the field by its whole path."""

    def __init__(self, value: object, where: str = "") -> None:
        if not isinstance(value, dict):
            place = f"field {where}" if where else "file"
            raise invalid(f"{place} must hold an object, not {shown(value)}")
        self.document: dict[str, Any] = value
        self._where = where

    def has(self, key: str) -> bool:
        """Whether the optional field is given."""
        return key in self.document

    def value(self, key: str) -> object:
        """Give the field whatever it holds."""
        if key not in self.document:
            raise invalid(f"lacks the field {self.path(key)}")
        return self.document[key]

    def plain_keys(self) -> list[str]:
        """List the keys, all of which must be plain names."""
        for key in self.document:
            if not is_plain_name(key):
                raise invalid(f"field {self._where} has the key {shown(key)}, not {PLAIN_NAME}")
        return list(self.document)

    def text(self, key: str) -> str:
        """Give a text that is not empty."""
        value = self.value(key)
        if not isinstance(value, str) or not value:
            raise self._wrong(key, "a text that is not empty")
        return value

    def plain_name(self, key: str) -> str:
        """Give a text for which :func:`is_plain_name` holds."""
        value = self.value(key)
        if not isinstance(value, str) or not is_plain_name(value):
            raise self._wrong(key, PLAIN_NAME)
        return value

    def plain_names(self, key: str) -> tuple[str, ...]:
        """Give a list of different texts for which :func:`is_plain_name` holds."""
        value = self.value(key)
        if not isinstance(value, list) or not all(
            isinstance(item, str) and is_plain_name(item) for item in value
        ):
            raise self._wrong(key, "a list of plain names")
        if len(set(value)) < len(value):
            raise self._wrong(key, "a list that gives every name once")
        return tuple(value)

    def sha256(self, key: str) -> str:
        """Give a text for which :func:`is_sha256` holds."""
        value = self.value(key)
        if not isinstance(value, str) or not is_sha256(value):
            raise self._wrong(key, "64 lower-case hexadecimal digits")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """Give an integer from ``low`` to ``high``."""
        value = self.value(key)
        if type(value) is not int or not low <= value <= high:  # True is an int, too
            raise self._wrong(key, f"an integer from {low} to {high}")
        return value

    def positive(self, key: str, high: float) -> float:
        """Give a number above 0, up to ``high``."""
        value = self.value(key)
        if not isinstance(value, int | float) or value is True or not 0 < value <= high:
            raise self._wrong(key, f"a number above 0, up to {high:g}")
        return float(value)

    def integers(self, key: str, count: int, low: int, high: int) -> tuple[int, ...]:
        """Give a list of ``count`` integers from ``low`` to ``high``."""
        value = self.value(key)
        if not isinstance(value, list) or len(value) != count:
            raise self._wrong(key, f"a list of {count} integers")
        if not all(type(item) is int and low <= item <= high for item in value):
            raise self._wrong(key, f"{count} integers from {low} to {high}")
        return tuple(value)

    def numbers(self, key: str, least: int, most: int, high: float) -> tuple[float, ...]:
        """Give a list of ``least`` to ``most`` numbers from 0 to ``high``."""
        value = self.value(key)
        if not isinstance(value, list) or not least <= len(value) <= most:
            count = f"{least}" if least == most else f"{least} to {most}"
            raise self._wrong(key, f"a list of {count} numbers")
        if not all(type(item) in (int, float) and 0 <= item <= high for item in value):
            raise self._wrong(key, f"numbers from 0 to {high:g}")
        return tuple(map(float, value))

    def pair(self, key: str, low: int, high: int) -> tuple[int, int]:
        """Give a list of two integers from ``low`` to ``high``."""
        first, second = self.integers(key, 2, low, high)
        return first, second

    def child(self, key: str) -> Fields:
        """Give an object."""
        return Fields(self.value(key), self.path(key))

    def children(self, key: str) -> list[Fields]:
        """Give a list of objects."""
        value = self.value(key)
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return [Fields(item, f"{self.path(key)}[{at}]") for at, item in enumerate(value)]

    def path(self, key: str) -> str:
        """Name a field as errors do, by the whole way to it."""
        return f"{self._where}.{key}" if self._where else key

    def _wrong(self, key: str, wanted: str) -> BundleError:
        value = shown(self.document[key])
        return invalid(f"field {self.path(key)} must be {wanted}, not {value}")


def shown(value: object) -> str:
    """Write a value as errors show it: short, and with nothing that moves a terminal's cursor."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number of thousands of digits"


def optional(fields: Fields, name: str, read: Callable[[Fields], T]) -> T | None:
    """Read the object ``name`` of ``fields``; None if it is absent."""
    return read(fields.child(name)) if fields.has(name) else None


def by_name(table: Fields, read: Callable[[Fields], T]) -> dict[str, T]:
    """Read an object of plain names whose values are objects of one kind."""
    return {key: read(table.child(key)) for key in table.plain_keys()}
