"""PyInstaller's hook: what an app needs of this package that no import statement shows.

Public names are imported by name on first use, so every module is; the bundle, the face models and
the manifest's schema are files that are read beside the modules.
"""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

hiddenimports = collect_submodules(
    "hyperstyle_rt", filter=lambda name: not name.startswith("hyperstyle_rt._pyinstaller")
)
datas = collect_data_files("hyperstyle_rt", excludes=["_pyinstaller"])
