"""The graphs by which a bundle of photographs descends, written anew by today's builders.

Encoder, learnt steps and generator stay as they are, so the files that these were trained into need
not be at hand: the head of the draft is read off its graph.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hyperstyle_export.bundles.mobile_recovery import recover_draft
from hyperstyle_export.bundles.mobile_writer import descent_graphs
from hyperstyle_export.bundles.writer import GraphFiles, stored_graph, write_manifest
from hyperstyle_export.graphs.mobile_objectives import DRAFT_OBJECTIVE
from hyperstyle_export.graphs.mobile_stored_inputs import mobile_parametric_inputs
from hyperstyle_export.networks.lpips import Lpips
from hyperstyle_export.networks.mobile_model import DescentModel
from hyperstyle_export.networks.mobilestylegan import MobileStyleGan
from hyperstyle_rt.formats.bundle import Bundle

from .errors import PhotosError


def rewrite_objectives(
    bundle: Bundle,
    generator: MobileStyleGan,
    lpips: Lpips,
    out: Path,
    on_progress: Callable[[str], None],
) -> Bundle:
    """Write a copy of a bundle whose descent graphs are built anew.

    Parameters
    ----------
    bundle:
        With objectives and a draft.
    generator, lpips:
        What it was built of.
    out:
        A folder that does not exist.

    Raises
    ------
    PhotosError
        If the folder exists.
    BuildError
        If the bundle is of another generator or has no draft.
    """
    manifest = bundle.manifest
    if out.exists():
        raise PhotosError(f"{out} exists; name another folder")
    draft = recover_draft(bundle, generator)
    model = DescentModel(
        generator=generator, input_size=manifest.input_size, lpips=lpips, draft=draft
    )
    storage = manifest.files[manifest.graphs[DRAFT_OBJECTIVE].file].stored
    shutil.copytree(bundle.directory, out)
    graphs = descent_graphs(model)
    written = GraphFiles(out)
    written.graphs = {role: g for role, g in manifest.graphs.items() if role not in graphs}
    kept = list(written.graphs)
    for role, build in graphs.items():
        on_progress(f"{role} graph")
        graph = stored_graph(build, "fp16" if storage == "fp16" else "fp32")
        written.write_sharing(role, graph, role, storage, kept)
    changed = replace(
        manifest,
        graphs=written.graphs,
        files=dict(sorted({**manifest.files, **written.files}.items())),
        parametric_inputs=mobile_parametric_inputs(generator),
    )
    write_manifest(out, changed)
    return Bundle.open(out)
