"""What a picture may be given as, and what is inverted of it: one rule, however it comes."""

from __future__ import annotations

import io
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from face_pictures import in_a_photo, known_faces
from hyperstyle_rt import (
    HyperStyleError,
    Inversion,
    Model,
    PictureError,
    find_portraits,
    invert_many,
)
from hyperstyle_rt.imaging.inputs import as_picture
from hyperstyle_rt.imaging.pictures import read_picture, write_picture
from hyperstyle_rt.inverting.preparing import crops_of, looks_for_faces
from hyperstyle_rt.types import Picture
from pictures import BAD_PICTURES, ODD_PICTURES, over_white, photo
from PIL import Image


@pytest.mark.parametrize("name", ODD_PICTURES)
def test_bytes_and_open_files_are_read_as_paths_are(name: str, tmp_path: Path) -> None:
    path, _ = ODD_PICTURES[name](tmp_path)
    expected = read_picture(path)
    assert np.array_equal(as_picture(path), expected)
    assert np.array_equal(as_picture(str(path)), expected)
    assert np.array_equal(as_picture(path.read_bytes()), expected)
    assert np.array_equal(as_picture(memoryview(path.read_bytes())), expected)
    with path.open("rb") as file:
        assert np.array_equal(as_picture(file), expected)
    assert np.array_equal(as_picture(io.BytesIO(path.read_bytes())), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",  # Pillow rounds 16 bits down, compares one transparent grey of 4 bits unscaled, and
    # reads no JPEG that lacks its end mark
    [
        name
        for name in ODD_PICTURES
        if not name.endswith(("16 bits.png", "4 bits.png", "end mark.jpg"))
    ],
)
def test_a_pil_image_is_the_picture_of_its_file(name: str, tmp_path: Path) -> None:
    path, expected = ODD_PICTURES[name](tmp_path)
    with Image.open(path) as image:
        found = as_picture(image)
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= (3 if path.suffix == ".jpg" else 0)  # two decoders


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_bad_bytes_are_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    path = BAD_PICTURES[name](tmp_path)
    if not path.is_file() or path.stat().st_size > 1 << 24:
        pytest.skip("no bytes to give")
    with pytest.raises(PictureError) as refusal:
        as_picture(path.read_bytes())
    assert "\n" not in str(refusal.value)
    assert "the picture" in str(refusal.value)


def test_arrays_of_every_layout() -> None:
    rgb = photo()
    grey = rgb[..., 0]
    repeated = np.repeat(grey[..., None], 3, axis=2)
    alpha = np.arange(grey.size, dtype=np.uint8).reshape(grey.shape)
    assert as_picture(rgb) is rgb
    assert np.array_equal(as_picture(rgb[::-1, ::2]), rgb[::-1, ::2])
    assert np.array_equal(as_picture(grey), repeated)
    assert np.array_equal(as_picture(grey[..., None]), repeated)
    assert np.array_equal(as_picture(np.dstack([rgb, alpha])), over_white(rgb, alpha))


def test_tensors_of_torch() -> None:
    torch = pytest.importorskip("torch")
    rgb = photo()
    assert np.array_equal(as_picture(torch.from_numpy(rgb.copy())), rgb)
    with pytest.raises(PictureError, match="cannot read the Tensor as an array"):
        as_picture(torch.zeros(4, 4, 3, requires_grad=True))
    with pytest.raises(PictureError, match=r"\[3, 8, 9\]; move its channels to the last axis"):
        as_picture(torch.zeros((3, 8, 9), dtype=torch.uint8))


class Unreadable:
    """Something numpy is promised an array of, and does not get."""

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise RuntimeError("on a GPU\nand more")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (None, "a picture must be a path, the bytes .* not NoneType"),
        ([[1, 2]], "not list"),
        (7, "not int"),
        (b"", "the picture is empty"),
        (io.StringIO("x"), "open it in binary mode"),
        (io.TextIOWrapper(io.BytesIO(b"\xff\xd8\xff"), "utf-8"), "open it in binary mode"),
        (np.zeros((4, 4, 3), np.float32), r"\(255 \* x\).round\(\).*0 to 1 and \(127.5"),
        (np.zeros((4, 4, 3), np.float64), "uint8 with values 0 to 255, not float64"),
        (np.zeros((4, 4, 3), np.uint16), "not uint16"),
        (np.zeros((4, 4, 3), bool), "not bool"),
        (np.zeros((4, 4, 3), object), "not object"),
        (np.zeros((3, 9, 8), np.uint8), "move its channels to the last axis"),
        (np.zeros((4, 4, 2), np.uint8), r"not \[4, 4, 2\]"),
        (np.zeros((1, 3, 9, 8), np.uint8), r"not \[1, 3, 9, 8\]"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels|0 x|pixels"),
        (np.zeros((), np.uint8), r"not \[\]"),
        (Unreadable(), r"cannot read the Unreadable as an array \(on a GPU\)"),
        (Image.new("F", (4, 4)), "mode is 'F'"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(source: object, says: str) -> None:
    with pytest.raises(PictureError, match=says) as refusal:
        as_picture(source)
    assert "\n" not in str(refusal.value)


def test_a_closed_file_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", photo())
    with (tmp_path / "a.png").open("rb") as file:
        pass
    with pytest.raises(PictureError, match="cannot read the picture"):
        as_picture(file)


def test_every_way_is_inverted_alike(
    tiny_bundle: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    model = Model.load(tiny_bundle, "cpu", threads=1)
    path = tmp_path / "face.png"
    write_picture(path, picture)
    expected = model.invert(picture, 1)
    for source in (path, str(path), path.read_bytes(), Image.open(path)):
        assert np.array_equal(model.invert(source, 1).codes, expected.codes)


# Alignment, on photos of rendered faces and a bundle that says it is for faces


@pytest.fixture(scope="module")
def scene() -> Picture:
    """Two faces, the larger one on the left."""
    faces = known_faces()
    large = in_a_photo(faces[3], (420, 800), np.array([220.0, 210.0]), 330, 5)
    small = in_a_photo(faces[5], (420, 800), np.array([620.0, 210.0]), 230, -8)
    picture = large.picture.copy()
    picture[:, 450:] = small.picture[:, 450:]
    return picture


@pytest.fixture(scope="module")
def faces(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    bundle = shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("faces") / "faces")
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"domain": "human faces"}))
    return Model.load(bundle, "cpu", threads=1)


def same(one: Inversion, other: Inversion) -> bool:
    return np.array_equal(one.codes, other.codes) and np.array_equal(
        one.data.transform, other.data.transform
    )


def test_python_the_command_and_batches_align_alike(
    faces: Model, scene: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_picture("party.png", scene)
    found = faces.invert("party.png", 1)
    assert found.data.transform is not None
    assert same(found, faces.invert(scene, 1))
    assert same(found, faces.invert(Path("party.png").read_bytes(), 1))
    portraits = find_portraits(scene)
    assert same(found, faces.invert(portraits[0], 1))
    second = faces.invert("party.png", 1, face=1)
    assert same(second, faces.invert(portraits[1], 1))
    assert not same(found, second)
    ((_, batched),) = invert_many(faces, ["party.png"], 1)
    assert same(found, batched)
    bundle = faces.bundle.directory
    options = ("--bundle", bundle, "--backend", "cpu", "--threads", 1, "-n", 1)
    result = run("invert", "party.png", *options, "--save-inversion")
    assert result.exit_code == 0, result.output
    assert same(found, Inversion.load("party.safetensors"))
    (crop,), notice = crops_of(scene, faces.bundle.manifest)
    assert notice is None
    assert np.array_equal(crop.picture, portraits[0].crop)


def test_never_takes_the_picture_as_it_is(faces: Model, scene: Picture) -> None:
    plain = faces.invert(scene, 1, align="never")
    assert plain.data.transform is None
    assert not np.array_equal(plain.codes, faces.invert(scene, 1).codes)


def test_an_aligned_crop_is_not_aligned_again(faces: Model, scene: Picture) -> None:
    crop = find_portraits(scene)[0].crop
    again = faces.invert(crop, 1)
    assert again.data.transform is None
    assert np.array_equal(again.codes, faces.invert(crop, 1, align="never").codes)
    assert faces.invert(crop, 1, align="always").data.transform is not None


def test_other_bundles_look_for_no_faces(tiny_bundle: Path, scene: Picture) -> None:
    model = Model.load(tiny_bundle, "cpu", threads=1)
    assert not looks_for_faces(model.bundle.manifest, "auto")
    assert model.invert(scene, 1).data.transform is None
    assert model.invert(scene, 1, align="always").data.transform is not None


def test_a_picture_without_a_face_is_used_with_a_warning(
    faces: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    empty = np.full((64, 64, 3), 90, np.uint8)
    with caplog.at_level(logging.WARNING, "hyperstyle_rt"):
        found = faces.invert(empty, 1)
    assert caplog.messages == [
        "no face was found, so the picture is used as it is, as an aligned crop"
    ]
    assert np.array_equal(found.codes, faces.invert(empty, 1, align="never").codes)
    with pytest.raises(PictureError, match="no face was found; try"):
        faces.invert(empty, 1, align="always")
    write_picture("empty.png", empty)
    options = ("--bundle", faces.bundle.directory, "--backend", "cpu", "--threads", 1)
    result = run("invert", "empty.png", *options, "-n", 1)
    assert result.exit_code == 0
    assert result.stderr.startswith("note: empty.png: no face was found, so the picture is used")
    assert read_picture("empty.inverted.png").shape == (32, 32, 3)


def test_refining_sees_the_crop_that_was_inverted(faces: Model, scene: Picture) -> None:
    found = faces.invert(scene, 1)
    from_photo = faces.optimise(found, scene, steps=2)
    from_crop = faces.optimise(found, find_portraits(scene)[0], steps=2)
    assert np.array_equal(from_photo.channel_offsets, from_crop.channel_offsets)
    assert np.array_equal(from_photo.data.transform, found.data.transform)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"align": "sometimes"}, "align must be auto, always, never, not 'sometimes'"),
        ({"face": "all"}, "one inversion is of one face"),
        ({"face": 2}, "there is no face 2 in the photo, which has 2 faces"),
        ({"face": "prettiest"}, "the face must be largest, all or a number"),
    ],
)
def test_other_ways_to_align_are_refused(
    faces: Model, scene: Picture, options: dict[str, object], says: str
) -> None:
    with pytest.raises(HyperStyleError, match=says):
        faces.invert(scene, 1, **options)
