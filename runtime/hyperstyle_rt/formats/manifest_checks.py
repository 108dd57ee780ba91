"""Conditions between the fields of a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .fields import invalid, shown

if TYPE_CHECKING:
    from .manifest import Manifest


def check_manifest(manifest: Manifest) -> None:
    """Refuse a manifest whose fields contradict each other.

    Raises
    ------
    BundleError
        For the first contradiction.
    """
    _check_geometry(manifest)
    _check_tuned_layers(manifest)
    _check_graphs(manifest)
    _check_methods(manifest)
    _check_optional_inputs(manifest)
    _check_parametric_inputs(manifest)


def _check_geometry(manifest: Manifest) -> None:
    side = manifest.resolution
    top, bottom = manifest.crop_rows or (0, side)
    if not top < bottom <= side:
        raise invalid(
            f"field crop_rows must lie within the {side} rows of the image, not [{top}, {bottom}]"
        )
    if manifest.image_size != (bottom - top, side):
        raise invalid(
            f"field image_size must be [{bottom - top}, {side}], as resolution and crop_rows say, "
            f"not {list(manifest.image_size)}"
        )


def _check_tuned_layers(manifest: Manifest) -> None:
    layers = manifest.tuned_layers
    indices = [layer.index for layer in layers]
    if indices != sorted(set(indices)):
        raise invalid(f"field tuned_layers must have ascending indices, not {shown(indices)}")
    if len({layer.name for layer in layers}) < len(layers):
        raise invalid("field tuned_layers gives two layers one name")
    for layer in layers:
        if layer.shape[2] != layer.shape[3]:
            raise invalid(
                f"field tuned_layers gives {layer.name} the kernel {list(layer.shape[2:])}, "
                "which is not square"
            )
    if manifest.codes is not None and not layers:
        raise invalid("field codes is given although tuned_layers is empty")


def _check_graphs(manifest: Manifest) -> None:
    if "generator" not in manifest.graphs:
        raise invalid("lacks the field graphs.generator")
    if (not manifest.tuned_layers) != ("weights" not in manifest.graphs):
        raise invalid("must give both tuned_layers and the graph weights, or neither")
    tables = {"graphs": manifest.graphs}
    tables |= {f"precisions.{key}": graphs for key, graphs in manifest.precisions.items()}
    for where, graphs in tables.items():
        for role, graph in graphs.items():
            if role not in manifest.graphs:
                raise invalid(f"field {where}.{role} is not among the graphs")
            for name in (graph.file, *graph.data):
                if name not in manifest.files:
                    raise invalid(
                        f"field {where}.{role} names {shown(name)}, which is not among the files"
                    )


def _check_methods(manifest: Manifest) -> None:
    default = manifest.default_method
    for name, method in manifest.methods.items():
        for at, phase in enumerate(method.phases):
            if phase.graph not in manifest.graphs:
                raise invalid(
                    f"field methods.{name}.phases[{at}].graph names {shown(phase.graph)}, which is "
                    "not among the graphs"
                )
    if manifest.methods and default is None:
        raise invalid("lacks the field default_method")
    if default is not None and default not in manifest.methods:
        raise invalid(
            f"field default_method names {shown(default)}, which is not among the methods"
        )
    if manifest.then is not None and (default is None or "features" not in manifest.graphs):
        raise invalid("must give the field then with a default method and the graph features")
    if manifest.fit is not None and (manifest.then is None or manifest.objective is None):
        raise invalid("must give the field fit with the fields then and objective")
    if manifest.base is not None and manifest.methods:
        raise invalid("must not give both the field base and methods")


def _check_optional_inputs(manifest: Manifest) -> None:
    inputs, graphs = manifest.optional_inputs, manifest.graphs
    if (inputs is None) != ("styled_generator" not in graphs):
        raise invalid(
            "must give both the field optional_inputs and the graph styled_generator, or neither"
        )
    has_noise = inputs is not None and bool(inputs.noise)
    if has_noise != ("noise" in graphs):
        raise invalid(
            "must give both noise among the optional_inputs and the graph noise, or neither"
        )


def _check_parametric_inputs(manifest: Manifest) -> None:
    graphs = {"parametric_generator", "parameters"} & manifest.graphs.keys()
    if len(graphs) != (0 if manifest.parametric_inputs is None else 2):
        raise invalid(
            "must give the field parametric_inputs and the graphs parametric_generator and "
            "parameters, or none of them"
        )
    if manifest.parametric_inputs is not None and manifest.optional_inputs is None:
        raise invalid("must not give the field parametric_inputs without optional_inputs")
