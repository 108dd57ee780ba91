"""The C API through ctypes, as thin as it gets: what the tests of the library are written in."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_float, c_int32, c_size_t, c_ssize_t, c_void_p
from pathlib import Path

import numpy as np
import onnxruntime

REPOSITORY = Path(__file__).resolve().parents[2]
API_VERSION = 1
STATUS = {2: "VERSION", 3: "PICTURE", 4: "BUNDLE", 5: "INVERSION", 6: "BACKEND", 7: "ABORTED"}
RGB8, BGR8, RGBA8, RGB_PLANES_F32 = range(4)
PRECISIONS = {"fp32": 0, "fp16": 1}


class CError(Exception):
    """A call that failed; `kind` is the end of the status's name."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = STATUS.get(status, str(status))


class Image(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("data", c_void_p),
        ("width", c_int32),
        ("height", c_int32),
        ("format", c_int32),
        ("stride", c_ssize_t),
    ]


class ModelOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("provider", c_int32),
        ("device", c_int32),
        ("threads", c_int32),
        ("precision", c_int32),
        ("optimisation", c_int32),
    ]


class ModelInfo(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        *(
            (name, c_char_p)
            for name in ("name", "domain", "license", "space", "digest", "provider")
        ),
        *((name, c_int32) for name in ("image_width", "image_height")),
        *((name, c_int32) for name in ("input_width", "input_height")),
        *((name, c_int32) for name in ("latent_rows", "latent_width", "code_rows", "code_width")),
        ("method_count", c_size_t),
        ("default_method", c_char_p),
    ]


class MethodInfo(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("name", c_char_p), ("iterations", c_int32)]


class Progress(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("iteration", c_int32),
        ("iterations", c_int32),
        ("rendering", POINTER(c_float)),
        ("codes", POINTER(c_float)),
    ]


OnProgress = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(Progress))
OnAbort = ctypes.CFUNCTYPE(c_int32, c_void_p)


class InvertOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("method", c_char_p),
        ("iterations", c_int32),
        ("until", c_float),
        ("progress", OnProgress),
        ("abort", OnAbort),
        ("user", c_void_p),
    ]


def library_path() -> Path | None:
    """The built library: HSRT_LIBRARY's, or what tests/cpp/run.sh makes; None if not built."""
    path = Path(os.environ.get("HSRT_LIBRARY", REPOSITORY / "build/cpp/libhyperstyle_rt.so"))
    return path if path.exists() else None


def load_library(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name in ("last_error", "version", "git_revision", "onnxruntime_version"):
        getattr(library, f"hsrt_{name}").restype = c_char_p
    for name in ("latents", "codes", "transform"):
        function = getattr(library, f"hsrt_inversion_{name}")
        function.restype, function.argtypes = POINTER(c_float), [c_void_p]
    library.hsrt_inversion_iterations.argtypes = [c_void_p]
    library.hsrt_inversion_channel_offset_count.restype = c_size_t
    library.hsrt_inversion_channel_offset_count.argtypes = [c_void_p]
    library.hsrt_inversion_method.restype = c_char_p
    library.hsrt_inversion_method.argtypes = [c_void_p]
    for name in ("model", "session", "inversion"):
        function = getattr(library, f"hsrt_{name}_free")
        function.restype, function.argtypes = None, [c_void_p]
    return library


def runtimes_agree(library: ctypes.CDLL) -> bool:
    """Whether C and Python have the same ONNX Runtime, so that they give the same bits."""
    return library.hsrt_onnxruntime_version().decode() == onnxruntime.__version__


def random_picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def same_bytes(folder: Path) -> bool:
    """Whether both runtimes wrote the same file."""
    ours, theirs = folder / "c.safetensors", folder / "python.safetensors"
    return ours.read_bytes() == theirs.read_bytes()


def refusal_of(call: Callable[..., object], *arguments: object) -> CError:
    """The error of a call that must be refused, in one line."""
    try:
        call(*arguments)
    except CError as error:
        assert "\n" not in str(error)
        return error
    raise AssertionError("nothing was refused")


def _image(array: np.ndarray, pixel_format: int) -> Image:
    """An image of a C-contiguous array, which must outlive it."""
    height, width = array.shape[1:] if pixel_format == RGB_PLANES_F32 else array.shape[:2]
    return Image(ctypes.sizeof(Image), array.ctypes.data, width, height, pixel_format, 0)


class CInversion:
    def __init__(self, model: CModel, handle: c_void_p) -> None:
        self.model, self.handle = model, handle

    def __del__(self) -> None:
        self.model.library.hsrt_inversion_free(self.handle)

    def _floats(self, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        pointer = getattr(self.model.library, f"hsrt_inversion_{name}")(self.handle)
        return np.ctypeslib.as_array(pointer, shape).copy() if pointer else None

    @property
    def latents(self) -> np.ndarray:
        return self._floats("latents", (self.model.info.latent_rows, self.model.info.latent_width))

    @property
    def codes(self) -> np.ndarray | None:
        return self._floats("codes", (self.model.info.code_rows, self.model.info.code_width))

    @property
    def transform(self) -> np.ndarray:
        return self._floats("transform", (3, 3))

    @property
    def channel_offset_count(self) -> int:
        return self.model.library.hsrt_inversion_channel_offset_count(self.handle)

    @property
    def method(self) -> str:
        return self.model.library.hsrt_inversion_method(self.handle).decode()

    @property
    def iterations(self) -> int:
        return self.model.library.hsrt_inversion_iterations(self.handle)

    def image(self, pixel_format: int = RGB8) -> np.ndarray:
        array = self.model.empty_image(pixel_format)
        image = _image(array, pixel_format)
        self.model.call("inversion_image", self.handle, byref(image))
        return array

    def save(self, path: Path) -> None:
        self.model.call("inversion_save", self.handle, os.fsencode(path))


class CModel:
    """A model and one session on it."""

    def __init__(self, library: ctypes.CDLL, directory: Path, precision: str = "fp32") -> None:
        self.library = library
        self.handle, self.session = c_void_p(), c_void_p()
        options = ModelOptions(ctypes.sizeof(ModelOptions), precision=PRECISIONS[precision])
        path = os.fsencode(directory)
        self.call("model_load", API_VERSION, path, byref(options), byref(self.handle))
        self.info = ModelInfo(ctypes.sizeof(ModelInfo))
        self.call("model_get_info", self.handle, byref(self.info))
        self.call("session_create", self.handle, byref(self.session))

    def __del__(self) -> None:
        self.library.hsrt_session_free(self.session)
        self.library.hsrt_model_free(self.handle)

    def call(self, name: str, *arguments: object) -> None:
        status = getattr(self.library, f"hsrt_{name}")(*arguments)
        if status != 0:
            raise CError(status, self.library.hsrt_last_error().decode())

    def methods(self) -> dict[str, int]:
        """Name -> default number of iterations."""
        methods = {}
        for at in range(self.info.method_count):
            info = MethodInfo(ctypes.sizeof(MethodInfo))
            self.call("model_get_method", self.handle, c_size_t(at), byref(info))
            methods[info.name.decode()] = info.iterations
        return methods

    def empty_image(self, pixel_format: int) -> np.ndarray:
        height, width = self.info.image_height, self.info.image_width
        if pixel_format == RGB_PLANES_F32:
            return np.empty((3, height, width), np.float32)
        return np.empty((height, width, 4 if pixel_format == RGBA8 else 3), np.uint8)

    def invert(
        self, picture: np.ndarray, pixel_format: int = RGB8, **options: object
    ) -> CInversion:
        picture = np.ascontiguousarray(picture)
        image = _image(picture, pixel_format)
        inversion = c_void_p()
        settings = InvertOptions(ctypes.sizeof(InvertOptions), **options)
        self.call("session_invert", self.session, byref(image), byref(settings), byref(inversion))
        return CInversion(self, inversion)

    def load(self, path: Path) -> CInversion:
        inversion = c_void_p()
        self.call("inversion_load", self.handle, os.fsencode(path), byref(inversion))
        return CInversion(self, inversion)

    def render(self, inversion: CInversion, latents: np.ndarray | None = None) -> np.ndarray:
        """uint8 [N,H,W,3]; latents float32 [N,L,W] or None."""
        count = 1 if latents is None else len(latents)
        arrays = [self.empty_image(RGB8) for _ in range(count)]
        images = (Image * count)(*(_image(array, RGB8) for array in arrays))
        data = None if latents is None else np.ascontiguousarray(latents).ctypes.data_as(c_void_p)
        self.call("session_render", self.session, inversion.handle, data, c_size_t(count), images)
        return np.stack(arrays)

    def edit(self, inversion: CInversion, direction: np.ndarray, strength: float) -> np.ndarray:
        array = self.empty_image(RGB8)
        image = _image(array, RGB8)
        data = np.ascontiguousarray(direction)
        self.call(
            "session_edit",
            self.session,
            inversion.handle,
            data.ctypes.data_as(c_void_p),
            c_size_t(data.size),
            c_float(strength),
            byref(image),
        )
        return array
