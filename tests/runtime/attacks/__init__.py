"""Malformed manifests and inversion files, each named for its trick, and the sound ones beside."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hyperstyle_rt.errors import HyperStyleError

LONGEST_SENTENCE = 500  # without the path it is about, which is said whole


def refusal(error: type[HyperStyleError], call: Callable, *arguments: object) -> str:
    """The one sentence that a call is refused with."""
    with pytest.raises(error) as caught:
        call(*arguments)
    sentence = str(caught.value)
    assert "\n" not in sentence
    spoken = sentence
    for path in (str(argument) for argument in arguments if isinstance(argument, Path)):
        spoken = spoken.replace(path, "PATH")
    assert len(spoken) < LONGEST_SENTENCE
    return sentence
