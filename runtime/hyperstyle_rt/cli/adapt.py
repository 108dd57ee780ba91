"""``hyperstyle-rt adapt``: a face in the domain of a fine-tuned generator."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..batch.streams import is_pipe_out
from ..errors import HyperStyleError
from ..optimising.names import FAST
from . import options
from .frames import film_path, write_frames
from .pipes import as_file, name_of, refuse_json_to_pipe
from .subjects import is_inversion, open_subject, pasted, subject_crop
from .terminal import print_done

if TYPE_CHECKING:
    from ..inversion import Inversion
    from ..model import Model

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt adapt face.safetensors --bundle engines/toon

hyperstyle-rt adapt face.png --bundle engines/toon --offsets-from 11 --out toon.png

hyperstyle-rt adapt face.png --bundle engines/toon --noise-seed 1

hyperstyle-rt adapt face.png --bundle engines/toon --latents restyle-e4e --method hyperstyle

hyperstyle-rt adapt face.png --bundle engines/toon --method e4e --offsets none
"""


class Offsets(str, Enum):
    """Which weight offsets an adapted generator is given."""

    FINE = "fine"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class AdaptRequest:
    """What `adapt` is asked for."""

    subject: options.Subject
    bundle: Annotated[
        str,
        typer.Option(
            help="Bundle built with build_engines.py --adapt.", metavar="BUNDLE", show_default=False
        ),
    ]
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A picture: .png, .jpg or .webp.", show_default=False),
    ] = None
    base: Annotated[
        str | None,
        typer.Option(
            help="Bundle it was adapted from. Default: the one of that name.", metavar="BUNDLE"
        ),
    ] = None
    offsets_from: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Offset index of the first layer that keeps its offsets. Default: 14.",
            metavar="INDEX",
        ),
    ] = None
    offsets: Annotated[
        Offsets,
        typer.Option(help="Weight offsets of the fine layers, or none: the latents alone."),
    ] = Offsets.FINE
    noise_seed: Annotated[
        int | None,
        typer.Option(min=0, help="Draw fresh noise. Default: the stored noise.", metavar="N"),
    ] = None
    method: options.Method = None
    latents: Annotated[
        str | None,
        typer.Option(
            help="Take the latents from another method, or inversion file, than the offsets. "
            "Default: restyle-e4e where the base has it, as published.",
            metavar="METHOD|FILE",
        ),
    ] = None
    running: options.Running
    force: options.Force = False
    align: options.Align = options.When.AUTO
    paste: options.PasteInto = None
    printing: options.Printing


def adapt(request: AdaptRequest) -> None:
    """Render a face with a fine-tuned generator: as a drawing, a statue, another kind of being.

    A picture is inverted with the bundle that the generator was fine-tuned from;
    an inversion file must be of that bundle.
    Writes NAME.adapted.png without --out.
    """
    from ..adaptation import Adaptation
    from ..model import Model

    subject, running, printing = request.subject, request.running, request.printing
    inputs = [subject] if request.paste is None else [subject, request.paste]
    out = film_path(request.out, f"{name_of(subject)}.adapted.png", request.force, inputs)
    refuse_json_to_pipe(out, printing.json_)
    first = _first_layer(request)
    more = running.settings()
    adaptation = Adaptation.load(request.bundle, running.backend, **more)
    started = time.perf_counter()
    seed = request.noise_seed
    noise = None if seed is None else adaptation.draw_noise(seed)
    inverter = adaptation.find_base(request.base).directory
    with as_file(subject) as file:
        if is_inversion(file):
            model = Model.load(inverter, "cpu")  # which runs nothing
        else:
            model = Model.load(inverter, running.backend, **more)
        face = _adapted_face(model, file, request)
        rendered = iter([adaptation.render(face, first, noise)])
        frames = pasted(rendered, request.paste, face, file, request.force)
        write_frames(frames, 1, out, 1.0, subject.name, not printing.shows_lines)
    seconds = time.perf_counter() - started
    kept = len(adaptation.kept_layers(first))
    document = {
        "input": str(subject),
        "output": str(out),
        "bundle": adaptation.bundle.manifest.name,
        "base": adaptation.base.name,
        "provider": adaptation.backend.provider,
        "layers_with_offsets": kept,
        "seconds": round(seconds, 3),
    }
    line = f"{subject} -> {out}  (offsets of {kept} layers, {seconds:.1f} s)"
    print_done(document, line, printing.json_, printing.quiet or is_pipe_out(out))


def _first_layer(request: AdaptRequest) -> int | None:
    """Offset index of the first layer that keeps its offsets; None for no layer.

    Raises
    ------
    HyperStyleError
        If the options contradict each other.
    """
    from ..adaptation import KEPT_FROM

    if request.offsets is Offsets.NONE:
        if request.offsets_from is not None:
            raise HyperStyleError("--offsets none keeps no offsets; leave out --offsets-from")
        return None
    return KEPT_FROM if request.offsets_from is None else request.offsets_from


def _adapted_face(model: Model, file: Path, request: AdaptRequest) -> Inversion:
    """A face: offsets of one method, latents of the same or another one.

    Raises
    ------
    HyperStyleError
        If there is no such method or file, or a photo has no face where one is wanted.
    """
    from ..adaptation import LATENTS_ITERATIONS, LATENTS_METHOD
    from ..inversion import Inversion

    latents, manifest = request.latents, model.bundle.manifest
    if latents is not None and is_inversion(Path(latents)):
        face = open_subject(model, file, request.align, request.method)
        return face.with_latents(Inversion.load(Path(latents)))
    if is_inversion(file) and latents is not None:
        raise HyperStyleError(
            f"--latents {latents} inverts a picture, and {file} is an inversion; give an "
            "inversion file of the same picture, or the picture itself"
        )
    if latents is None and request.method is None and LATENTS_METHOD in manifest.methods:
        latents = LATENTS_METHOD
    if is_inversion(file) or latents in (None, request.method or manifest.default_method):
        return open_subject(model, file, request.align, request.method)
    crop = subject_crop(model, file, request.align)
    iterates = manifest.method(latents).iterating_phase is not None
    other = model.invert(crop, LATENTS_ITERATIONS if iterates else None, method=latents)
    if request.offsets is Offsets.NONE:
        return other
    return model.invert(crop, method=request.method, effort=FAST).with_latents(other)
