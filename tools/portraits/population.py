"""Who is in the crowd: factors drawn so that they belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .factors import FACTORS, SHAPES, SLIDERS, Person

Colour = NDArray[np.float64]

# sRGB 0..1, light to dark.
SKIN = np.array(
    [
        [0.95, 0.80, 0.72], [0.91, 0.73, 0.62], [0.85, 0.66, 0.53], [0.75, 0.55, 0.42],
        [0.62, 0.43, 0.31], [0.48, 0.32, 0.23], [0.36, 0.235, 0.17],
    ]
)  # fmt: skip
HAIR = {
    "black": (0.10, 0.09, 0.085),
    "dark brown": (0.22, 0.155, 0.115),
    "brown": (0.36, 0.25, 0.17),
    "light brown": (0.50, 0.36, 0.24),
    "blond": (0.74, 0.60, 0.40),
    "red": (0.52, 0.25, 0.12),
}
GREY = np.array([0.74, 0.73, 0.72])
IRIS = {
    "brown": (0.30, 0.19, 0.11),
    "hazel": (0.45, 0.36, 0.20),
    "blue": (0.40, 0.54, 0.66),
    "green": (0.40, 0.50, 0.38),
    "grey": (0.50, 0.54, 0.56),
}
# Styles of hair: lengths in front, on top, at the sides, behind; parting, combed to the side,
# combed back, lift, volume, gravity, curl, turns of a curl, frizz.
STYLES: dict[str, tuple[float, ...]] = {
    "buzz": (0.07, 0.07, 0.05, 0.05, 0.0, 0.1, -0.3, 1.0, 0.02, 0.1, 0.0, 3, 0.3),
    "crew": (0.26, 0.24, 0.09, 0.08, 0.3, 0.4, 0.2, 0.9, 0.06, 0.1, 0.0, 3, 0.4),
    "parted": (0.55, 0.55, 0.18, 0.16, 0.5, 1.0, 0.3, 0.5, 0.11, 0.4, 0.0, 3, 0.2),
    "swept": (0.65, 0.6, 0.2, 0.2, 0.3, 0.5, 1.1, 0.6, 0.12, 0.3, 0.0, 3, 0.2),
    "fringe": (0.42, 0.45, 0.22, 0.22, 0.4, 0.4, -0.9, 0.3, 0.10, 0.5, 0.0, 3, 0.25),
    "tousled": (0.42, 0.42, 0.25, 0.25, 0.2, 0.5, -0.2, 0.8, 0.12, 0.4, 0.02, 3, 0.8),
    "curly": (0.45, 0.5, 0.28, 0.3, 0.1, 0.5, -0.1, 0.9, 0.16, 0.25, 0.05, 4, 0.7),
    "afro": (0.35, 0.4, 0.32, 0.32, 0.0, 0.2, 0.1, 1.4, 0.30, 0.0, 0.05, 6, 0.9),
    "cropped coils": (0.12, 0.14, 0.10, 0.10, 0.0, 0.2, 0.0, 1.3, 0.08, 0.0, 0.03, 7, 0.8),
    "long": (2.5, 2.7, 2.1, 2.0, 0.1, 1.2, 0.3, 0.25, 0.14, 1.0, 0.01, 1.0, 0.15),
    "long parted": (2.4, 2.6, 2.1, 2.0, 0.55, 1.2, 0.35, 0.35, 0.16, 0.9, 0.02, 0.9, 0.15),
    "long fringe": (0.55, 2.6, 2.1, 2.0, 0.0, 0.5, -0.9, 0.25, 0.13, 0.9, 0.01, 1.0, 0.15),
    "wavy": (2.2, 2.4, 1.9, 1.9, 0.35, 1.1, 0.3, 0.4, 0.20, 0.7, 0.06, 1.6, 0.35),
    "long curls": (1.8, 2.0, 1.7, 1.7, 0.2, 0.9, 0.2, 0.6, 0.26, 0.5, 0.08, 2.6, 0.6),
    "bob": (1.6, 1.75, 1.05, 0.9, 0.4, 1.1, 0.25, 0.35, 0.15, 0.9, 0.01, 1.0, 0.15),
    "bob fringe": (0.52, 1.7, 1.05, 0.9, 0.0, 0.5, -0.9, 0.3, 0.14, 0.9, 0.01, 1.0, 0.15),
    "tied": (1.2, 1.2, 1.0, 0.7, 0.1, 0.4, 1.4, 0.1, 0.03, 0.25, 0.0, 3, 0.1),
    "pixie": (0.5, 0.5, 0.32, 0.22, 0.5, 0.8, -0.3, 0.5, 0.11, 0.5, 0.0, 3, 0.3),
}
STYLE_FACTORS = (
    "length_front", "length_top", "length_side", "length_back", "part", "comb_side", "comb_back",
    "lift", "volume", "gravity", "curl", "curl_rate", "frizz",
)  # fmt: skip
MASCULINE = {
    "buzz": 0.12, "crew": 0.2, "parted": 0.19, "swept": 0.13, "fringe": 0.1, "tousled": 0.13,
    "curly": 0.06, "long": 0.03, "long parted": 0.02, "wavy": 0.02,
}  # fmt: skip
FEMININE = {
    "long": 0.15, "long parted": 0.16, "long fringe": 0.09, "wavy": 0.16, "long curls": 0.07,
    "bob": 0.12, "bob fringe": 0.05, "tied": 0.12, "pixie": 0.06,
}  # fmt: skip
COILED = {
    0: {"afro": 0.3, "long curls": 0.25, "tied": 0.25, "cropped coils": 0.2},
    1: {"buzz": 0.3, "cropped coils": 0.45, "afro": 0.15, "crew": 0.1},
}


@dataclass(frozen=True)
class Distribution:
    """How widely the crowd varies, and which fixed patterns it is drawn with."""

    slider: float  # standard deviation of the shape sliders
    head: float  # of the whole-head shapes
    yaw: float  # degrees
    pitch: float
    style: float  # jitter of the hair styles, relative
    saturation: float  # of clothes and backgrounds
    pattern: int  # seed of a `Renderer`


DISTRIBUTIONS = {
    "default": Distribution(0.20, 0.22, 10, 5, 0.12, 0.065, 0),
    "shifted": Distribution(0.32, 0.36, 13, 6.5, 0.25, 0.16, 7),
}


def person_at(seed: int, index: int, distribution: str = "default") -> Person:
    """The factors of picture `index` of a set; depends on nothing else."""
    rng = np.random.default_rng([seed, index])
    return sample(rng, DISTRIBUTIONS[distribution])


def sample(rng: np.random.Generator, spread: Distribution) -> Person:
    """One person; every factor within its range."""
    person: Person = {}
    _body(rng, spread, person)
    _expression(rng, spread, person)
    tone = _skin(rng, person)
    _hair_colour(rng, person, tone)
    _hair_style(rng, spread, person)
    _beard(rng, person)
    _make_up(rng, person)
    _worn(rng, spread, person)
    _surroundings(rng, spread, person)
    return {f.name: float(np.clip(person[f.name], f.low, f.high)) for f in FACTORS}


def _set_colour(person: Person, name: str, colour: Colour | tuple[float, ...]) -> None:
    for channel, value in zip("rgb", colour, strict=True):
        person[f"{name}_{channel}"] = float(value)


def _chosen(rng: np.random.Generator, odds: dict[str, float]) -> str:
    names = list(odds)
    share = np.array([odds[name] for name in names])
    return names[int(rng.choice(len(names), p=share / share.sum()))]


def _body(rng: np.random.Generator, spread: Distribution, person: Person) -> None:
    person["sex"] = rng.uniform(0, 0.2) if rng.random() < 0.5 else rng.uniform(0.8, 1)
    young, middle, old = rng.uniform(18, 36), rng.uniform(30, 58), rng.uniform(55, 80)
    person["age"] = rng.choice([young, middle, old], p=[0.45, 0.35, 0.2])
    shares = rng.dirichlet([0.5, 0.5, 0.6])
    person["african"], person["asian"], person["european"] = shares
    person["weight"] = rng.normal(0, 0.4)
    for name, _, _ in SLIDERS:
        person[name.replace("*-", "")] = rng.normal(0, spread.slider)
    person["head-scale-horiz"] -= 0.35
    person["head-fat"] -= 0.15
    person["chin-width"] -= 0.15 + 0.15 * (person["sex"] < 0.5)
    person["mouth-angles"] *= 0.5
    person["eye-height2"] *= 0.6
    person["eyebrows-angle"] *= 0.6
    for name in SHAPES:
        person[f"head-{name}"] = max(0.0, rng.normal(0, spread.head))
    person["head-oval"] += 0.25


def _expression(rng: np.random.Generator, spread: Distribution, person: Person) -> None:
    person["smile"] = np.clip(rng.normal(0.4, 0.32), -0.2, 0.95)
    person["mouth_open"] = max(0.0, rng.normal(-0.06, 0.10))
    person["brow_raise"] = rng.normal(0.15, 0.25)
    person["frown"] = max(0.0, rng.normal(-0.4, 0.28))
    person["squint"] = np.clip(rng.normal(0.1, 0.2), 0, 0.7)
    person["lids"] = np.clip(rng.normal(0.03, 0.05), -0.1, 0.3)
    person["yaw"] = np.clip(rng.normal(0, spread.yaw), -2.8 * spread.yaw, 2.8 * spread.yaw)
    person["pitch"] = np.clip(rng.normal(0, spread.pitch), -3 * spread.pitch, 3 * spread.pitch)
    away = 1.0 if rng.random() < 0.2 else 0.25
    person["gaze_x"], person["gaze_y"] = away * rng.normal(0, 7), away * rng.normal(0, 3)


def _skin(rng: np.random.Generator, person: Person) -> float:
    """Skin, freckles, wrinkles, eyes; the tone, 0 light to 1 dark."""
    tone = 0.76 * person["african"] + 0.30 * person["asian"] + 0.14 * person["european"]
    tone = float(np.clip(tone + rng.normal(0, 0.07), 0, 1))
    steps = np.arange(len(SKIN)) / (len(SKIN) - 1)
    colour = np.array([np.interp(tone, steps, SKIN[:, c]) for c in range(3)])
    warm = rng.normal(0, 0.02)
    _set_colour(person, "skin", colour * [1 + 0.5 * warm, 1 - 0.3 * warm, 1 - warm])
    person["redness"] = np.clip(rng.normal(0.3, 0.5), -0.8, 1.6)
    person["gloss"] = rng.uniform(0.12, 0.5)
    light_skinned = tone < 0.3 and rng.random() < 0.2
    person["freckles"] = rng.uniform(0.2, 0.9) if light_skinned else 0.0
    person["wrinkles"] = np.clip((person["age"] - 34) / 44 + rng.normal(0, 0.08), 0, 1)
    light_eyes = person["european"] > 0.45 and rng.random() < 0.65
    odds = {"hazel": 0.25, "blue": 0.4, "green": 0.18, "grey": 0.17} if light_eyes else {
        "brown": 0.85, "hazel": 0.15
    }  # fmt: skip
    iris = np.array(IRIS[_chosen(rng, odds)]) * np.exp(rng.normal(0, 0.12))
    _set_colour(person, "iris", iris)
    return tone


def _hair_colour(rng: np.random.Generator, person: Person, tone: float) -> None:
    if tone > 0.45 or person["european"] < 0.4:
        odds = {"black": 0.62, "dark brown": 0.32, "brown": 0.06}
    else:
        odds = {"black": 0.1, "dark brown": 0.28, "brown": 0.24, "light brown": 0.17}
        odds |= {"blond": 0.15, "red": 0.06}
    colour = np.array(HAIR[_chosen(rng, odds)]) * np.exp(rng.normal(0, 0.1))
    dyed = person["sex"] < 0.5 and rng.random() < 0.4
    grey = np.clip((person["age"] - 50) / 25 + rng.normal(0, 0.2), 0, 1)
    grey = 0.0 if person["age"] < 38 else float(grey) * (0.25 if dyed else 1)
    person["grey"] = grey
    hair = colour * (1 - grey) + GREY * rng.uniform(0.85, 1.05) * grey
    _set_colour(person, "hair", hair)
    brow = colour * (1 - 0.6 * grey) + GREY * 0.36 * grey
    _set_colour(person, "brow", brow * 0.72)
    _set_colour(person, "beard", np.minimum(hair * 0.85 + 0.12 * grey, 0.85))
    masculine = person["sex"]
    person["brow_density"] = rng.uniform(0.5, 0.85) + 0.15 * masculine
    person["brow_width"] = 0.030 + 0.013 * masculine + abs(rng.normal(0, 0.006))


def _hair_style(rng: np.random.Generator, spread: Distribution, person: Person) -> None:
    masculine = int(person["sex"] > 0.5)
    coiled = person["african"] > 0.55 and rng.random() < 0.85
    usual = MASCULINE if masculine else FEMININE
    name = _chosen(rng, COILED[masculine] if coiled else usual)
    jitter = spread.style
    for factor, value in zip(STYLE_FACTORS, STYLES[name], strict=True):
        person[factor] = value * np.exp(rng.normal(0, jitter))
    person["part"] = person["part"] * rng.choice([-1, 1]) + rng.normal(0, jitter * 0.5)
    person["comb_back"] += rng.normal(0, jitter)
    person["frizz"] += abs(rng.normal(0, jitter * 0.5))
    straight = person["asian"] > 0.5
    person["curl"] = person["curl"] * (0.5 if straight else 1) + abs(rng.normal(0, 0.006))
    person["hairline"] = rng.normal(62, 2.0) - 1.5 * masculine
    ageing = masculine * np.clip((person["age"] - 28) / 40, 0, 1)
    person["recession"] = abs(rng.normal(3 * masculine, 3)) + ageing * rng.uniform(0, 14)
    balding = rng.random() < 0.05 * masculine + 0.4 * ageing
    person["bald"] = rng.uniform(0.3, 1) if balding else 0.0
    if person["bald"] > 0:
        for factor in ("length_front", "length_top", "length_side", "length_back"):
            person[factor] = min(person[factor], 0.14)
        person["volume"] = min(person["volume"], 0.05)
        person["hairline"] -= 6 * person["bald"]


def _beard(rng: np.random.Generator, person: Person) -> None:
    person["beard"] = person["moustache"] = person["beard_length"] = 0.0
    if person["sex"] < 0.5:
        return
    kind = _chosen(rng, {"shaved": 0.46, "stubble": 0.24, "full": 0.22, "moustache": 0.08})
    if kind == "shaved":
        person["beard"] = person["moustache"] = rng.uniform(0, 0.12)
    elif kind == "stubble":
        person["beard"] = rng.uniform(0.2, 0.45)
        person["moustache"] = person["beard"] * rng.uniform(0.8, 1.1)
    elif kind == "full":
        person["beard"] = rng.uniform(0.6, 1)
        person["moustache"] = rng.uniform(0.6, 1)
        person["beard_length"] = rng.uniform(0.03, 0.16)
    else:
        person["moustache"] = rng.uniform(0.6, 1)
        person["beard_length"] = rng.uniform(0.05, 0.1)
        person["beard"] = rng.uniform(0, 0.08)


def _make_up(rng: np.random.Generator, person: Person) -> None:
    feminine = person["sex"] < 0.5
    wears = feminine and rng.random() < 0.6
    person["lipstick"] = rng.uniform(0.25, 0.8) if wears else rng.uniform(0, 0.1)
    shade = rng.uniform(0, 1, 3)
    _set_colour(person, "lipstick", (0.58 + 0.22 * shade[0], 0.22 + 0.2 * shade[1],
                                     0.25 + 0.18 * shade[2]))  # fmt: skip
    person["eyeshadow"] = rng.uniform(0.1, 0.5) if wears and rng.random() < 0.5 else 0.0
    person["lashes"] = rng.uniform(0.55, 0.85) if feminine else rng.uniform(0.2, 0.4)


def _worn(rng: np.random.Generator, spread: Distribution, person: Person) -> None:
    person["glasses"] = float(rng.random() < 0.10 + 0.12 * (person["age"] > 50))
    person["glasses_size"] = rng.uniform(0.20, 0.245)
    person["glasses_square"] = rng.uniform(2, 4.2)
    dark = rng.random() < 0.65
    frame = rng.uniform(0.08, 0.2) if dark else rng.uniform(0.3, 0.65)
    _set_colour(person, "glasses", frame * np.exp(rng.normal(0, 0.05 if dark else 0.15, 3)))
    clothes = rng.uniform(0.12, 0.9) + rng.normal(0, spread.saturation, 3)
    _set_colour(person, "clothes", np.clip(clothes, 0.06, 0.95))
    person["neckline"] = rng.uniform(5.55, 6.0)


def _surroundings(rng: np.random.Generator, spread: Distribution, person: Person) -> None:
    base = rng.uniform(0.2, 0.85) + rng.normal(0, spread.saturation, 3)
    other = base + rng.normal(0, 0.15) + rng.normal(0, 0.5 * spread.saturation, 3)
    _set_colour(person, "backdrop_a", np.clip(base, 0.05, 0.95))
    _set_colour(person, "backdrop_b", np.clip(other, 0.05, 0.95))
    angle = rng.uniform(0, 2 * np.pi)
    person["backdrop_sin"], person["backdrop_cos"] = np.sin(angle), np.cos(angle)
    person["backdrop_curve"] = rng.normal(0, 0.4)
    around = np.radians(np.clip(rng.normal(0, 28), -62, 62))
    up = np.radians(rng.uniform(12, 52))
    person["light_x"] = np.sin(around) * np.cos(up)
    person["light_y"] = np.sin(up)
    person["light_z"] = np.cos(around) * np.cos(up)
    warm = rng.normal(0, 0.06)
    main, sky = rng.uniform(1.5, 2.6), rng.uniform(0.45, 0.8)
    _set_colour(person, "light", np.array([1 + warm, 1, 1 - warm]) * main)
    _set_colour(person, "ambient", np.array([1 - 0.6 * warm, 1, 1 + 0.6 * warm]) * sky)
    person["rim"] = rng.uniform(0.1, 0.7) if rng.random() < 0.3 else 0.0
    person["exposure"] = np.exp(rng.normal(0, 0.09))
    person["shift_x"], person["shift_y"] = rng.normal(0, 0.008, 2)
    person["zoom"] = np.exp(rng.normal(0, 0.012))
    person["roll"] = rng.normal(0, 1.0)
