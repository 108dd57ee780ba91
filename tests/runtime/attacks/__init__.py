"""Malformed manifests and inversion files, each named for its trick, and the sound ones beside."""

from collections.abc import Callable

import pytest
from hyperstyle_rt.errors import HyperStyleError

LONGEST_SENTENCE = 500


def refusal(error: type[HyperStyleError], call: Callable, *arguments: object) -> str:
    """The one sentence that a call is refused with."""
    with pytest.raises(error) as caught:
        call(*arguments)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < LONGEST_SENTENCE
    return sentence
