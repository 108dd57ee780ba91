"""Commands whose parameters are dataclasses: options that belong together stay together."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard, TypeVar, get_type_hints

Options = TypeVar("Options")


def command(kind: type[Options], run: Callable[[Options], None]) -> Callable[..., None]:
    """Make a function that typer can make a command of.

    Parameters
    ----------
    kind:
        A dataclass whose fields are options: ``Annotated`` with ``typer.Option`` or
        ``typer.Argument``. A field that is a dataclass itself stands for its fields.
    run:
        Called with an instance; its docstring is the command's help.

    Returns
    -------
    A function of keyword parameters, one for every option, with the name and docstring of `run`.
    """

    def with_keywords(**values: Any) -> None:
        run(_filled(kind, values))

    parameters = list(_parameters(kind))
    with_keywords.__name__, with_keywords.__doc__ = run.__name__, run.__doc__
    with_keywords.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_keywords.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_keywords


def _parameters(kind: type[Any]) -> Iterator[inspect.Parameter]:
    hints: dict[str, Any] = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if _is_group(hint):
            yield from _parameters(hint)
            continue
        default = inspect.Parameter.empty
        if field.default is not dataclasses.MISSING:
            default = field.default
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint
        )


def _is_group(hint: Any) -> TypeGuard[type[Any]]:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _filled(kind: type[Options], values: Mapping[str, Any]) -> Options:
    hints: dict[str, Any] = get_type_hints(kind)
    filled = {
        name: _filled(hint, values) if _is_group(hint) else values[name]
        for name, hint in hints.items()
    }
    return kind(**filled)
