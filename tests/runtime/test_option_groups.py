"""Commands made of dataclasses of options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from hyperstyle_rt.cli.option_groups import command
from typer.main import get_command
from typer.testing import CliRunner


@dataclass(frozen=True, kw_only=True)
class Sound:
    loud: Annotated[bool, typer.Option("--loud")] = False
    times: Annotated[int, typer.Option("--times", "-n", min=1)] = 1


@dataclass(frozen=True, kw_only=True)
class SayRequest:
    word: Annotated[str, typer.Argument()]
    sound: Sound
    to: Annotated[str | None, typer.Option()] = None


@pytest.fixture
def said() -> list[SayRequest]:
    return []


@pytest.fixture
def app(said: list[SayRequest]) -> typer.Typer:
    def say(request: SayRequest) -> None:
        """Say a word."""
        said.append(request)

    app = typer.Typer()
    app.command()(command(SayRequest, say))
    return app


def test_groups_arrive_filled(app: typer.Typer, said: list[SayRequest]) -> None:
    result = CliRunner().invoke(app, ["hello", "-n", "3", "--to", "you", "--loud"])
    assert result.exit_code == 0, result.output
    assert said == [SayRequest(word="hello", sound=Sound(loud=True, times=3), to="you")]


def test_what_is_not_named_has_its_default(app: typer.Typer, said: list[SayRequest]) -> None:
    assert CliRunner().invoke(app, ["hello"]).exit_code == 0
    assert said == [SayRequest(word="hello", sound=Sound(), to=None)]


def test_the_command_is_the_functions_with_options_in_the_order_of_the_fields(
    app: typer.Typer,
) -> None:
    made = get_command(app)
    assert (made.name, made.help) == ("say", "Say a word.")
    assert [p.name for p in made.params[:4]] == ["word", "loud", "times", "to"]


def test_limits_hold_in_groups(app: typer.Typer, said: list[SayRequest]) -> None:
    assert CliRunner().invoke(app, ["hello", "-n", "0"]).exit_code == 2
    assert CliRunner().invoke(app, []).exit_code == 2
    assert said == []
