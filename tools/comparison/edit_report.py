"""What edits do after each method: tables, JSON, and curves."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from evaluation.report import finite
from hyperstyle_rt.types import Floats

from .edit_curves import Compared, Curve


def edits_markdown(all_compared: Sequence[Compared], count: int) -> str:
    """Tables: what edits move after each method, and what of the identity they keep."""
    lines = [f"# Edits after each method, {count} picture" + "s" * (count != 1), ""]
    lines += [
        "*moves*: change of the edit's own attribute a step, as its judge reads it. *ordered*: the "
        "share of pictures that have more of it at the last step than at the first; *right way*: "
        "of edits that move it as asked. *distance*: of the edits' embeddings from the picture's "
        "own, median and largest. *unedited*: identity (cosine with the picture's own "
        "embedding, about the mean of the pictures where there are several) before any edit. "
        "*kept*: its mean over the sizes of edits that all methods reach, the area under the "
        "curve; *between*: that beyond the first method's.",
        "",
    ]
    for compared in all_compared:
        lines += [f"## {compared.direction}", ""]
        if compared.range is not None:
            low, high = compared.range
            lines += [f"Changes from {low:+.2f} to {high:+.2f}.", ""]
        lines += ["| method | moves | ordered | right way | distance | unedited | kept | between |"]
        lines += ["|---|---:|---:|---:|---:|---:|---:|---:|"]
        for number, curve in enumerate(compared.curves):
            kept = compared.kept[number] if compared.kept else math.nan
            between = compared.between[number] if compared.between else math.nan
            cells = [
                curve.row.name,
                _shown(curve.slope, "+.2f"),
                _shown(curve.ordered, ".0%"),
                _shown(curve.right_way, ".0%"),
                _distances(curve),
                _shown(_unedited(curve), ".3f"),
                _shown(kept, ".3f"),
                _shown(between, "+.3f"),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def edits_document(all_compared: Sequence[Compared], names: Sequence[str]) -> dict[str, Any]:
    """All curves as JSON."""
    return {
        "pictures": list(names),
        "directions": [
            {
                "direction": compared.direction,
                "range": compared.range,
                "methods": [
                    {
                        "row": curve.row.name,
                        "amounts": curve.amounts.tolist(),
                        "change": _rounded(curve.change),
                        "identity": _rounded(curve.identity),
                        "identity_centred": _rounded(curve.centred),
                        "slope": _rounded(curve.slope),
                        "right_way": _rounded(curve.right_way),
                        "ordered": _rounded(curve.ordered),
                        "distances": _rounded(curve.distances),
                        "kept": _rounded(compared.kept[number]) if compared.kept else None,
                        "between": _rounded(compared.between[number]) if compared.between else None,
                    }
                    for number, curve in enumerate(compared.curves)
                ],
            }
            for compared in all_compared
        ],
    }


def edits_plot(all_compared: Sequence[Compared]) -> bytes:
    """Identity against the size of the edit as PNG: a panel a direction, a curve a method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * len(all_compared), 4.4), layout="constrained")
    panels = figure.subplots(1, len(all_compared), squeeze=False)[0]
    for axes, compared in zip(panels, all_compared, strict=True):
        for number, curve in enumerate(compared.curves):
            centred = not any(map(math.isnan, curve.centred))
            judged = not any(map(math.isnan, curve.change))
            axes.plot(
                curve.change if judged else curve.amounts,
                curve.centred if centred else curve.identity,
                ("-o" if number < 10 else "-s"),
                color=f"C{number % 10}",
                markersize=3,
                label=curve.row.name,
            )
            axes.set(
                title=compared.direction,
                xlabel="change of the attribute" if judged else "steps along the direction",
                ylabel="identity, centred" if centred else "identity",
            )
        if compared.range is not None:
            axes.axvspan(*compared.range, color="0.94", zorder=0)
        axes.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _unedited(curve: Curve) -> float:
    (zero,) = (at for at, amount in enumerate(curve.amounts) if amount == 0)
    return float(curve.identity[zero] if math.isnan(curve.centred[zero]) else curve.centred[zero])


def _distances(curve: Curve) -> str:
    """Median and largest."""
    values = float(np.median(curve.distances)), float(curve.distances.max())
    return "; ".join(_shown(value, ".3f") for value in values)


def _shown(value: float, style: str) -> str:
    return "–" if math.isnan(value) else format(value, style)


def _rounded(values: Floats | float) -> Any:
    return finite(np.round(values, 5).tolist())
