"""A head of a few hundred vertices with every morph target the portraits' renderer names."""

from __future__ import annotations

import numpy as np
from portraits import assets
from portraits.factors import SHAPES, SLIDERS

AROUND, DOWN = 32, 24
EYE_RADIUS = 0.15


def target_names() -> list[str]:
    names = [f"head-{name}" for name in SHAPES]
    for _, above, below in SLIDERS:
        for target in (above, below):
            names += [target.replace("*-", side) for side in ("l-", "r-") if "*-" in target]
            names += [target] if "*-" not in target else []
    for sex in ("male", "female"):
        for age in ("child", "young", "old"):
            names += [f"{pole}-{sex}-{age}" for pole in ("african", "asian", "caucasian")]
            names += [f"universal-{sex}-{age}-averagemuscle-{w}weight" for w in ("max", "min")]
    for side in ("Left", "Right"):
        parts = "mouthSmile mouthFrown cheekSquint eyeSquint eyeBlink browDown browOuterUp"
        names += [f"expression-{part}{side}" for part in parts.split()]
        names += [f"expression-mouthUpperUp{side}", f"expression-mouthLowerDown{side}"]
    return [*names, "expression-browInnerUp", "expression-jawOpen"]


def grid(rows: int, columns: int, first: int) -> list[list[int]]:
    """Triangles of a grid of vertices."""
    triangles = []
    for a in range(rows - 1):
        for d in range(columns - 1):
            i = first + a * columns + d
            j = i + columns
            triangles += [[i, j, j + 1], [i, j + 1, i + 1]]
    return triangles


def ball(around: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Unit vectors [A, D, 3] by angle around (0 in front) and down from the crown."""
    a, d = np.meshgrid(around, down, indexing="ij")
    return np.stack([np.sin(a) * np.sin(d), np.cos(d), np.cos(a) * np.sin(d)], -1)


def small_head() -> assets.Head:
    """An egg with two eyes: skin first, as rays from `assets.HEAD` meet it."""
    around = np.linspace(-np.pi, np.pi, AROUND + 1)
    down = np.linspace(0.02, np.radians(assets.GRID_LOWEST), DOWN)
    egg = ball(around, down) * [0.75, 1.35, 0.9] + assets.HEAD
    skin = egg.reshape(-1, 3)
    points, triangles, material = [skin], grid(AROUND + 1, DOWN, 0), []
    material += [assets.SKIN] * len(triangles)
    for side in (1, -1):
        eye = ball(np.linspace(-np.pi, np.pi, 13), np.linspace(0.05, 3.09, 9)) * EYE_RADIUS
        more = grid(13, 9, sum(map(len, points)))
        points.append(eye.reshape(-1, 3) + np.array([0.305 * side, 7.285, 1.2]))
        triangles += more
        material += [assets.EYE] * len(more)
    rest = np.concatenate(points).astype(np.float32)
    on_skin = np.arange(len(rest)) < len(skin)
    mouth = np.exp(-((rest[:, 0] / 0.22) ** 2) - ((rest[:, 1] - 6.62) / 0.1) ** 2)
    lips = mouth * on_skin * (rest[:, 2] > 0.5)
    names = target_names()
    rng = np.random.default_rng(3)
    targets = 0.02 * rng.normal(size=(len(names), 1, 3)) * lips[:, None]
    index = np.arange((AROUND + 1) * DOWN).reshape(AROUND + 1, DOWN)
    nothing = np.zeros(len(rest), np.float32)
    return assets.Head(
        rest=rest,
        triangles=np.array(triangles, np.int32),
        material=np.array(material, np.int8),
        names=np.array(names),
        targets=targets.astype(np.float32),
        lips=lips.astype(np.float32),
        ears=nothing,
        mouth=nothing,
        occlusion=np.ones(len(rest), np.float32),
        grid_vertices=np.repeat(index[..., None], 3, -1).astype(np.int32),
        grid_weights=np.full((AROUND + 1, DOWN, 3), 1 / 3, np.float32),
    )
