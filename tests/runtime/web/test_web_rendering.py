"""Rendering in a browser where something fails for a while."""

from __future__ import annotations

from hyperstyle_rt.formats.bundle_lookup import find_bundle
from node_programs import needs_node, run


@needs_node
def test_what_has_failed_is_tried_again_when_it_is_asked_for_again() -> None:
    said = run("trying_again.mjs", find_bundle("faces"))
    assert said["rendered"] == ["no weights", "no generator", "done"]
    assert said["noise"] == ["no noise", "done", "done"]
