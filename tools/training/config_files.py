"""TOML files read into the frozen dataclasses of `config.py`, keys and types checked."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from hyperstyle_rt.files import read_regular

from .errors import TrainingError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

MAX_CONFIG_BYTES = 1 << 20


def read_config(path: Path, kind: type[T]) -> T:
    """Read a TOML file into a config dataclass.

    Raises
    ------
    TrainingError
        If the file cannot be read, is no TOML, or a key is unknown, missing, or of another type.
    """
    try:
        table = tomllib.loads(read_regular(path, MAX_CONFIG_BYTES, TrainingError).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} is no TOML file: {error}") from error
    try:
        return from_table(table, kind)
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from error


def from_table(table: dict[str, Any], kind: type[T], where: str = "") -> T:
    """Build the dataclass ``kind`` from a table, keys and types checked."""
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(table) - set(fields)):
        raise TrainingError(f"'{where}{unknown[0]}' is unknown; known: {', '.join(fields)}")
    needed = [
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing := [name for name in needed if name not in table]:
        raise TrainingError(f"'{where}{missing[0]}' is missing")
    return kind(**{name: _value(table[name], hints[name], where + name) for name in table})


def to_table(config: Any) -> Any:
    """The inverse of `from_table`, with plain values only."""
    return dataclasses.asdict(config)


def _value(value: Any, hint: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise TrainingError(f"'{name}' is {value!r}, not a table")
        return from_table(value, typing.cast("type[Any]", hint), f"{name}.")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise TrainingError(f"'{name}' is {value!r}, not a list")
        kinds = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        if len(kinds) != len(value):
            raise TrainingError(f"'{name}' has {len(value)} entries, not {len(kinds)}")
        return tuple(_value(v, k, name) for v, k in zip(value, kinds, strict=True))
    if origin in (types.UnionType, typing.Union):  # T | None; TOML has no null
        return _value(value, arguments[0], name) if value is not None else None
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise TrainingError(f"'{name}' is {value!r}, not of type {hint.__name__}")
    return value
