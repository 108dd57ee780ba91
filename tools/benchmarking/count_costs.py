"""Count anew what a bundle's graphs cost, and say so in its manifest; weights stay as they are.

For bundles that were built before their builder counted: `info` and `bench` tell costs from there.
No file is changed but manifest.json, so digest and space stay what they were.

    python -m benchmarking.count_costs engines/portraits
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import typer
from hyperstyle_export.bundles.writer import graph_file, write_manifest
from hyperstyle_rt.cli.terminal import print_line
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.formats.manifest import BASE_PRECISION
from hyperstyle_rt.formats.manifest_entries import GraphFile
from mistakes import one_sentence


def count_costs(bundle: Bundle) -> None:
    """Write a bundle's manifest again, with the costs of all its graphs.

    Raises
    ------
    HyperStyleError
        If a graph is altered or missing, or the manifest cannot be written.
    """

    def counted(graphs: Mapping[str, GraphFile], precision: str) -> dict[str, GraphFile]:
        paths = {role: bundle.verified_path(role, precision) for role in graphs}
        costs = {role: graph_file(path) for role, path in paths.items()}
        return {
            role: replace(graph, macs=costs[role].macs, bytes_moved=costs[role].bytes_moved)
            for role, graph in graphs.items()
        }

    manifest = bundle.manifest
    precisions = {name: counted(graphs, name) for name, graphs in manifest.precisions.items()}
    graphs = counted(manifest.graphs, BASE_PRECISION)
    write_manifest(bundle.directory, replace(manifest, graphs=graphs, precisions=precisions))


def main(bundle: Annotated[str, typer.Argument(help="Directory or name.")]) -> None:
    """Count the costs of a bundle's graphs."""
    with one_sentence():
        opened = Bundle.open(find_bundle(bundle))
        count_costs(opened)
    print_line(f"{opened.directory}: {len(opened.manifest.graphs)} graphs counted")


if __name__ == "__main__":
    typer.run(main)
