"""PyInstaller's hook: what an app needs of this package that no import statement shows.

Public names are imported by name on first use, so every module is collected; the bundle, the face
models and the manifest's schema are files that are read beside the modules. Packages for GPUs are
imported by name as well, and collected where they are installed.
"""

from importlib.util import find_spec

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

OPTIONAL = (
    "cuda.bindings.runtime",
    "pycuda.driver",
    "pycuda.gpuarray",
    "tensorrt",
    "tensorrt_rtx",
)


def _is_code(name: str) -> bool:
    return not name.startswith("hyperstyle_rt._pyinstaller")


hiddenimports = collect_submodules("hyperstyle_rt", filter=_is_code)
hiddenimports += [name for name in OPTIONAL if find_spec(name.partition(".")[0])]
datas = collect_data_files("hyperstyle_rt", excludes=["_pyinstaller", "**/py.typed"])
