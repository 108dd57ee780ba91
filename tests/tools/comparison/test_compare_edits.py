"""What edits do after each method: judges, curves, areas, and the report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import fakeweights
import numpy as np
import onnx
import pytest
from comparison.cli import app
from comparison.edit_curves import compare_curves
from comparison.edit_judges import onnx_reader, open_edit_judges
from comparison.edit_run import edits_asked
from comparison.edits import Plan, Reading
from comparison.errors import ComparisonError
from comparison.rows import Row
from directions.files import add_to_bundle
from hyperstyle_rt import Bundle, HyperStyleError
from hyperstyle_rt.formats.directions_file import LinearDirection
from hyperstyle_rt.imaging.pictures import write_picture
from onnx import TensorProto, helper
from typer.testing import CliRunner


def colour_network(path: Path, shape: list[int]) -> Path:
    """Mean colours of a picture [B,3,8,8], repeated and reshaped to [B,*shape]."""
    count = int(np.prod(shape)) if shape else 1
    chosen = np.arange(count) % 3
    constants = {"axes": np.array([2, 3]), "chosen": chosen, "shape": np.array([-1, *shape])}
    nodes = [
        helper.make_node("ReduceMean", ["face", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gather", ["mean", "chosen"], ["many"], axis=1),
        helper.make_node("Reshape", ["many", "shape"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colour",
        [helper.make_tensor_value_info("face", TensorProto.FLOAT, ["B", 3, 8, 8])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["B", *shape]),
            helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["B", 3]),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


def pictures() -> np.ndarray:
    found = np.zeros((2, 16, 16, 3), np.uint8)
    found[0], found[1] = (255, 0, 51), (0, 255, 102)
    return found


def test_a_users_network_is_read_by_its_shape(tmp_path: Path) -> None:
    single = onnx_reader(colour_network(tmp_path / "one.onnx", [1]))
    np.testing.assert_allclose(single(pictures()), [1, -1], atol=1e-6)
    chosen = onnx_reader(colour_network(tmp_path / "three.onnx", [3]), column="2")
    np.testing.assert_allclose(chosen(pictures()), [-0.6, -0.2], atol=1e-6)
    named = onnx_reader(tmp_path / "one.onnx", output="mean", column="1", input="imagenet")
    np.testing.assert_allclose(named(pictures()), [-0.456 / 0.224, 0.544 / 0.224], atol=1e-5)
    pairs = onnx_reader(colour_network(tmp_path / "pairs.onnx", [4, 2]), column="0")
    np.testing.assert_allclose(pairs(pictures()), [-2, 2], atol=1e-6)  # green over red
    turned = onnx_reader(colour_network(tmp_path / "pose.onnx", [66]))
    scores = np.array([[1, -1, -0.6], [-1, 1, -0.2]])[:, np.arange(66) % 3]
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(
        turned(pictures()), (shares * (np.arange(66) * 3 - 99)).sum(1), atol=1e-4
    )


def test_senseless_judges_are_refused(tmp_path: Path) -> None:
    network = colour_network(tmp_path / "three.onnx", [3])
    for words, sentence in (({}, "column=N"), ({"column": "3"}, "column=N")):
        with pytest.raises(ComparisonError, match=sentence):
            onnx_reader(network, **words)
    with pytest.raises(ComparisonError, match="no output 'x', only score, mean"):
        onnx_reader(network, output="x")
    for text in ("smile", "smile=", "smile=a.onnx,column=x", "smile=a.onnx,side=3"):
        with pytest.raises(ComparisonError, match="--judge is"):
            open_edit_judges(["smile"], None, [text], print)
    with pytest.raises(ComparisonError, match="not edited"):
        open_edit_judges(["smile"], None, ["yaw=a.onnx"], print)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    texts = [f"smile={tmp_path / 'bad.onnx'}", f"yaw={tmp_path / 'gone.onnx'}"]
    judges = open_edit_judges(["smile", "yaw"], None, texts, print)
    assert not judges.readers and len(judges.problems) == 2  # named, and stop nothing
    assert "bad.onnx is no network" in judges.problems[0]


def test_judges_are_looked_at_before_anything_is_inverted(tmp_path: Path) -> None:
    model = SimpleNamespace(directions={"smile": None})
    folder, recipe = tmp_path / "set", tmp_path / "recipe.json"
    folder.mkdir()
    np.savez(folder / "factors.npz", names=np.array(["age"]), values=np.zeros((9, 1), np.float32))
    write_picture(folder / "000000.png", np.zeros((16, 16, 3), np.uint8))

    def sentence(*judges: str, learning: tuple[Path | None, Path | None] = (None, None)) -> str:
        with pytest.raises(HyperStyleError) as caught:
            edits_asked(model, "smile", "-1:1:3", judges, learning, 100)
        return str(caught.value)

    assert "--judge is DIRECTION=FILE" in sentence("smile")
    assert "which is not edited" in sentence("age=a.onnx")
    assert "cannot read" in sentence(learning=(folder, recipe))
    for name, said in (("age", "describes age and none of the --edits"), ("smile", "1 renders")):
        recipe.write_text(json.dumps({name: {"factors": {"age": 1}, "unit": "a year"}}))
        assert said in sentence(learning=(folder, recipe))
    assert "nowhere" in sentence(learning=(tmp_path / "nowhere", recipe))


def reading(change: float, turn: float, start: float, target: tuple[float, float]) -> Reading:
    """An edit by -1, 1 and 2 steps, whose face turns by so much an step from `start` on."""
    amounts = np.array([-1.0, 1.0, 2.0])
    own = np.arctan2(target[1], target[0])

    def face(angle: np.ndarray) -> np.ndarray:
        return np.stack([np.cos(angle), np.sin(angle)], -1).astype(np.float32)

    faces = face(own + start + turn * np.abs(amounts))[None]
    return Reading(amounts[None] * change, faces, face(np.array(own + start)), face(np.array(own)))


def test_curves_and_the_areas_between_them() -> None:
    plan = Plan(("smile",), (-1.0, 1.0, 2.0))
    rows = [Row("psp", "psp"), Row("pti", None, preset="pti")]
    one, two = reading(1.0, 0.2, 0.5, (1, 0)), reading(0.5, 0.1, 0.0, (1, 0))
    (compared,) = compare_curves(plan, rows, [[one], [two]])
    first, second = compared.curves
    assert first.amounts.tolist() == [-1, 0, 1, 2] and first.change.tolist() == [-1, 0, 1, 2]
    np.testing.assert_allclose(first.identity, np.cos([0.7, 0.5, 0.7, 0.9]), rtol=1e-5)
    assert np.isnan(first.centred).all()  # about the mean of a single picture there is nothing
    assert (first.slope, second.slope, second.right_way) == (1.0, 0.5, 1.0)
    np.testing.assert_allclose(first.distances, 2 * np.sin([0.35, 0.35, 0.45]), rtol=1e-5)
    assert compared.range == (-0.5, 1.0)
    # Trapezoids by hand: the first on -0.5..0 and 0..1, the second on -0.5..0, 0..0.5 and 0.5..1.
    at = np.cos([0.5, 0.7])
    middle = (at[0] + at[1]) / 2
    area = (middle + at[0]) / 2 * 0.5 + (at[0] + at[1]) / 2
    assert compared.kept[0] == pytest.approx(area / 1.5, abs=1e-3)
    of_second = (np.cos(0.1) + 1) / 2 + (np.cos(0.1) + np.cos(0.2)) / 2 * 0.5
    assert compared.kept[1] == pytest.approx(of_second / 1.5, abs=1e-3)
    assert compared.between == pytest.approx([0, compared.kept[1] - compared.kept[0]])
    both = [[one, reading(1.0, 0.2, 0.5, (0, 1))], [two, reading(-0.5, 0.1, 0.0, (0, 1))]]
    (compared,) = compare_curves(plan, rows, both)
    # About (0.5, 0.5), the face at the angle a beside that at 0.
    mean = np.array([0.5, 0.5])
    shown = np.array([np.cos(0.5), np.sin(0.5)]) - mean
    cosine = shown @ (np.array([1, 0]) - mean) / np.linalg.norm(shown) / np.sqrt(0.5)
    other = np.array([-np.sin(0.5), np.cos(0.5)]) - mean
    beside = other @ (np.array([0, 1]) - mean) / np.linalg.norm(other) / np.sqrt(0.5)
    assert compared.curves[0].centred[1] == pytest.approx((cosine + beside) / 2, abs=1e-5)
    assert compared.curves[1].right_way == 0.5 and compared.curves[1].slope == 0
    assert [curve.ordered for curve in compared.curves] == [1.0, 0.5]
    assert compared.range is None and compared.kept == []  # one method moves nothing


def test_edits_are_reported(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    vector = np.random.default_rng(0).standard_normal(16).astype(np.float32)
    direction = LinearDirection(vector, (0, 8), 1.0, "half")
    add_to_bundle(Bundle.open(bundle), {"smile": direction})
    folder = tmp_path / "pictures"
    folder.mkdir()
    write_picture(folder / "1.png", fakeweights.image_u8(1, 40, 40))
    network = colour_network(tmp_path / "smile.onnx", [1])
    words = ["--bundle", bundle, "--out", tmp_path / "out", "--resume", "--json"]
    words += ["--methods", "hyperstyle@0", "--edits", "smile", "--edit-steps=-2:2:5"]

    def call(*more: object) -> tuple[int, str]:
        given = [str(word) for word in (folder, *words, *more)]
        result = CliRunner().invoke(app, given)
        return result.exit_code, " ".join(result.stderr.split())

    judged = ("--judge", f"smile={network}")
    code, said = call(*judged)
    assert code == 0, said
    out = tmp_path / "out"
    assert "NaN" not in (out / "edits.json").read_text()  # though identity was not measured
    (found,) = json.loads((out / "edits.json").read_text())["directions"]
    (method,) = found["methods"]
    assert method["amounts"] == [-2, -1, 0, 1, 2] and method["change"][2] == 0
    assert len(set(method["change"])) == 5 and method["right_way"] is not None
    page = (out / "edits.md").read_text()
    assert "## smile" in page and f"| hyperstyle@0 | {method['slope']:+.2f} |" in page
    assert (out / "edits.png").read_bytes().startswith(b"\x89PNG")
    kept = next((out / "edits").rglob("*.npz"))
    before = kept.stat().st_mtime_ns
    assert call(*judged)[0] == 0 and kept.stat().st_mtime_ns == before  # read, not edited again
    network.write_bytes(b"")
    code, said = call(*judged)
    assert code == 2 and "the judge of smile is left out" in said
    assert json.loads((out / "edits.json").read_text())["directions"][0]["range"] is None
    code, said = call("--edits", "laugh")
    assert code == 2 and "must name directions of the bundle" in said
    code, said = call("--edit-steps", "0")
    assert code == 2 and "no step but 0" in said
    words[words.index("--edits") : words.index("--edits") + 2] = []
    code, said = call(*judged)
    assert code == 2 and "--edits" in said


def test_a_folder_of_face_api_is_a_judge(tmp_path: Path) -> None:
    judges = open_edit_judges(["laugh", "smile"], None, [f"laugh={tmp_path}"], print)
    assert "face-api reads no 'laugh', only age, masculinity" in judges.problems[0]
    judges = open_edit_judges(["smile"], None, [f"smile={tmp_path}"], print)
    assert "age_gender_model" in judges.problems[0] and not judges.readers
