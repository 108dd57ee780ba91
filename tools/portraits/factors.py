"""The factors that determine a portrait: one table of plain numbers, in a fixed order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Person = dict[str, float]


@dataclass(frozen=True)
class Factor:
    """One number of a portrait: its name, its range, and what it does."""

    name: str
    low: float
    high: float
    meaning: str


# Sliders -1..1 of the face's shape: name, target added above 0, target added below 0. `*-` stands
# for both sides of the face.
SLIDERS: tuple[tuple[str, str, str], ...] = tuple(
    (name, name + "-" + above, name + "-" + below)
    for name, above, below in (
        ("head-fat", "incr", "decr"),
        ("head-scale-horiz", "incr", "decr"),
        ("head-scale-vert", "incr", "decr"),
        ("forehead-scale-vert", "incr", "decr"),
        ("forehead-temple", "incr", "decr"),
        ("eyebrows-trans", "up", "down"),
        ("eyebrows-angle", "up", "down"),
        ("*-eye-scale", "incr", "decr"),
        ("*-eye-trans", "out", "in"),
        ("*-eye-corner1", "up", "down"),
        ("*-eye-corner2", "up", "down"),
        ("*-eye-epicanthus", "out", "in"),
        ("*-eye-eyefold", "convex", "concave"),
        ("*-eye-height2", "incr", "decr"),
        ("*-eye-bag", "incr", "decr"),
        ("nose-scale-vert", "incr", "decr"),
        ("nose-scale-horiz", "incr", "decr"),
        ("nose-scale-depth", "incr", "decr"),
        ("nose-volume", "incr", "decr"),
        ("nose-hump", "incr", "decr"),
        ("nose-curve", "convex", "concave"),
        ("nose-point", "up", "down"),
        ("nose-point-width", "incr", "decr"),
        ("nose-nostrils-width", "incr", "decr"),
        ("nose-width1", "incr", "decr"),
        ("nose-width2", "incr", "decr"),
        ("nose-base", "up", "down"),
        ("nose-trans", "up", "down"),
        ("mouth-scale-horiz", "incr", "decr"),
        ("mouth-scale-vert", "incr", "decr"),
        ("mouth-trans", "up", "down"),
        ("mouth-lowerlip-volume", "incr", "decr"),
        ("mouth-upperlip-volume", "incr", "decr"),
        ("mouth-lowerlip-height", "incr", "decr"),
        ("mouth-upperlip-height", "incr", "decr"),
        ("mouth-cupidsbow", "incr", "decr"),
        ("mouth-angles", "up", "down"),
        ("mouth-philtrum-volume", "incr", "decr"),
        ("*-cheek-bones", "incr", "decr"),
        ("*-cheek-volume", "incr", "decr"),
        ("*-cheek-inner", "incr", "decr"),
        ("chin-width", "incr", "decr"),
        ("chin-height", "incr", "decr"),
        ("chin-prominent", "incr", "decr"),
        ("chin-bones", "incr", "decr"),
        ("chin-jaw-drop", "incr", "decr"),
        ("*-ear-wing", "incr", "decr"),
        ("*-ear-scale", "incr", "decr"),
        ("neck-scale-horiz", "incr", "decr"),
    )
)
# Whole-head shapes, 0..1.
SHAPES = ("oval", "round", "square", "rectangular", "triangular", "invertedtriangular", "diamond")


def _colour(name: str, meaning: str, high: float = 1.0) -> tuple[Factor, ...]:
    return tuple(Factor(f"{name}_{c}", 0, high, f"{meaning}, {c}") for c in "rgb")


FACTORS: tuple[Factor, ...] = (
    Factor("sex", 0, 1, "presentation, 0 feminine to 1 masculine"),
    Factor("age", 18, 80, "years"),
    Factor("african", 0, 1, "share of the shape's African pole"),
    Factor("asian", 0, 1, "share of the shape's Asian pole"),
    Factor("european", 0, 1, "share of the shape's European pole"),
    Factor("weight", -1, 1, "thin to heavy"),
    *(Factor(name.replace("*-", ""), -1, 1, "shape slider") for name, _, _ in SLIDERS),
    *(Factor(f"head-{name}", 0, 1, "shape of the whole head") for name in SHAPES),
    Factor("smile", -0.4, 1, "mouth corners down (below 0) or a smile; teeth show above 0.5"),
    Factor("mouth_open", 0, 0.5, "jaw opened"),
    Factor("brow_raise", -1, 1, "brows down or up"),
    Factor("frown", 0, 1, "brows knit, mouth corners down"),
    Factor("squint", 0, 0.8, "lower lids raised"),
    Factor("lids", -0.2, 0.5, "upper lids lowered"),
    Factor("yaw", -35, 35, "head turned, degrees, positive to the right of the picture"),
    Factor("pitch", -20, 20, "head lifted, degrees"),
    Factor("gaze_x", -20, 20, "eyes off the camera, degrees, positive to the picture's right"),
    Factor("gaze_y", -12, 12, "eyes off the camera, degrees, positive upwards"),
    *_colour("skin", "skin, sRGB"),
    Factor("redness", -1, 2, "of cheeks, nose and ears"),
    Factor("gloss", 0, 1, "shine of the skin"),
    Factor("freckles", 0, 1, "strength of freckles"),
    Factor("wrinkles", 0, 1, "strength of wrinkles and age spots"),
    *_colour("iris", "iris, sRGB"),
    Factor("lashes", 0, 1, "darkness of the upper lashes"),
    Factor("brow_density", 0, 1, "how much the brows cover"),
    Factor("brow_width", 0.02, 0.07, "thickness of the brows, decimetres"),
    *_colour("brow", "brows, sRGB"),
    Factor("lipstick", 0, 1, "strength of lip colour"),
    *_colour("lipstick", "lip colour, sRGB"),
    Factor("eyeshadow", 0, 1, "strength of eye shadow"),
    Factor("beard", 0, 1, "how much of the jaw the beard covers; below 0.3 stubble"),
    Factor("moustache", 0, 1, "how much it covers"),
    Factor("beard_length", 0, 0.5, "decimetres; 0 is stubble"),
    *_colour("beard", "beard, sRGB"),
    *_colour("hair", "hair of the head, sRGB"),
    Factor("grey", 0, 1, "share of grey already mixed into the hair's colour"),
    Factor("hairline", 44, 72, "front hairline, degrees from the crown"),
    Factor("recession", 0, 22, "temples receded, degrees"),
    Factor("bald", 0, 1, "hair lost on the crown and in front"),
    Factor("length_front", 0.02, 3.6, "hair over the forehead, decimetres"),
    Factor("length_top", 0.02, 3.6, "hair on top, decimetres"),
    Factor("length_side", 0.02, 3.6, "hair at the sides, decimetres"),
    Factor("length_back", 0.02, 3.6, "hair at the back, decimetres"),
    Factor("part", -1, 1, "where the parting is, left to right"),
    Factor("comb_side", 0, 1.5, "combed away from the parting"),
    Factor("comb_back", -1.5, 1.5, "combed forward (below 0) or back"),
    Factor("lift", 0, 1.5, "hair standing off the head"),
    Factor("volume", 0, 0.5, "depth of the hair over the skull, decimetres"),
    Factor("gravity", 0, 1.5, "how heavily hair hangs"),
    Factor("curl", 0, 0.12, "radius of curls, decimetres"),
    Factor("curl_rate", 0.5, 8, "turns of a curl in a decimetre"),
    Factor("frizz", 0, 1, "disorder of single hairs"),
    Factor("glasses", 0, 1, "worn (1) or not (0)"),
    Factor("glasses_size", 0.17, 0.27, "radius of a lens, decimetres"),
    Factor("glasses_square", 1.8, 5, "2 round, above squarer"),
    *_colour("glasses", "frame, sRGB"),
    *_colour("clothes", "clothing, sRGB"),
    Factor("neckline", 5.3, 6.1, "height of the collar, decimetres"),
    *_colour("backdrop_a", "background at one end, sRGB"),
    *_colour("backdrop_b", "background at the other end, sRGB"),
    Factor("backdrop_sin", -1, 1, "direction of the background's gradient, sine"),
    Factor("backdrop_cos", -1, 1, "direction of the background's gradient, cosine"),
    Factor("backdrop_curve", -1, 1, "bend of the background's gradient"),
    Factor("light_x", -1, 1, "direction to the main light, right"),
    Factor("light_y", -1, 1, "direction to the main light, up"),
    Factor("light_z", 0, 1, "direction to the main light, towards the camera"),
    *_colour("light", "main light, linear", 4.0),
    *_colour("ambient", "light from everywhere, linear", 2.0),
    Factor("rim", 0, 1, "light on the edges from behind"),
    Factor("exposure", 0.5, 2, "brightness of the whole picture"),
    Factor("shift_x", -0.05, 0.05, "picture moved off the alignment, share of its side"),
    Factor("shift_y", -0.05, 0.05, "picture moved off the alignment, share of its side"),
    Factor("zoom", 0.9, 1.1, "picture scaled off the alignment"),
    Factor("roll", -6, 6, "picture turned off the alignment, degrees"),
)
NAMES = tuple(factor.name for factor in FACTORS)


def to_vector(person: Person) -> NDArray[np.float32]:
    """The factors in the order of FACTORS, [F]."""
    return np.array([person[name] for name in NAMES], np.float32)


def from_vector(values: NDArray[np.float32]) -> Person:
    """The factors by name; values [F] in the order of FACTORS."""
    if values.shape != (len(NAMES),):
        raise ValueError(f"{len(NAMES)} factors are needed, not {values.shape}")
    return dict(zip(NAMES, (float(value) for value in values), strict=True))


def triple(person: Person, name: str) -> NDArray[np.float32]:
    """A colour factor, [3]."""
    return np.array([person[f"{name}_{c}"] for c in "rgb"], np.float32)


def linear(colour: NDArray[np.float32]) -> NDArray[np.float32]:
    """Display values 0..1 to light."""
    return np.asarray(colour**2.2, np.float32)


def description() -> str:
    """The table of all factors, in Markdown."""
    rows = [f"| `{f.name}` | {f.low:g} .. {f.high:g} | {f.meaning} |" for f in FACTORS]
    return "\n".join(["| factor | range | meaning |", "|---|---|---|", *rows])
