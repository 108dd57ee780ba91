"""What a Ray Serve config file may say of the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.scale.serve_settings import ServeArguments

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "ray" / "serve.yaml"


def test_the_example_is_understood() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    document = yaml.safe_load(EXAMPLE.read_text())
    (application,) = document["applications"]
    assert application["import_path"] == "hyperstyle_rt.scale.ray_serve:application"
    asked = ServeArguments.parse(application["args"])
    assert (asked.bundle, asked.workers, asked.gpus) == ("faces", 4, 0)
    assert asked.host == document["http_options"]["host"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"bundel": "faces"}, "args of the service have no 'bundel', only "),
        ({"threads": "2"}, "args of the service have threads: '2', which is to be int"),
        ({"threads": True}, "args of the service have threads: True, which is to be int"),
        ({"bundle": 3}, "args of the service have bundle: 3, which is to be str or NoneType"),
        ({"workers": 0}, "args of the service have a workers below 1; give at least 1"),
        ({"seconds": 0}, "args of the service have a seconds below 1; give at least 1"),
        ({"least_workers": 2}, "more least_workers than workers"),
    ],
)
def test_what_is_wrong_is_named(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(HyperStyleError) as refusal:
        ServeArguments.parse(arguments)
    assert says in str(refusal.value)


def test_whole_numbers_are_numbers() -> None:
    assert ServeArguments.parse({"gpus": 1, "seconds": 60}).gpus == 1
