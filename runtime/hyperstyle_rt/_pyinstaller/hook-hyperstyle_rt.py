"""PyInstaller's hook: what an app needs of this package that no import statement shows.

Public names are imported by name on first use, so every module is collected; the bundle, the face
models and the manifest's schema are files that are read beside the modules. Packages for GPUs are
imported by name as well, and collected where they are installed. OpenVINO and the plug-ins of ONNX
Runtime also load libraries of their own by file name: those for devices, for ONNX files.
"""

from importlib.util import find_spec

from PyInstaller.utils.hooks import (
    collect_data_files,
    collect_dynamic_libs,
    collect_submodules,
)

WITH_LIBRARIES = (
    "openvino",
    "onnxruntime_ep_mlx",
    "onnxruntime_ep_nv_tensorrt_rtx",
    "onnxruntime_ep_openvino",
    "onnxruntime_ep_webgpu",
)
LIBRARIES = ["*.dll", "lib*.dylib", "lib*.so", "lib*.so.*"]  # OpenVINO's have a version behind

OPTIONAL = (
    "cuda.bindings.runtime",
    "pycuda.driver",
    "pycuda.gpuarray",
    "tensorrt",
    "tensorrt_rtx",
    *WITH_LIBRARIES,
)


def _is_code(name: str) -> bool:
    return not name.startswith("hyperstyle_rt._pyinstaller")


hiddenimports = collect_submodules("hyperstyle_rt", filter=_is_code)
hiddenimports += [name for name in OPTIONAL if find_spec(name.partition(".")[0])]
datas = collect_data_files("hyperstyle_rt", excludes=["_pyinstaller", "**/py.typed"])
binaries = [
    library
    for name in WITH_LIBRARIES
    if find_spec(name)
    for library in collect_dynamic_libs(name, search_patterns=LIBRARIES)
]
