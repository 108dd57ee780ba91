"""The page without a server: a folder that any web server hands out, where browsers compute.

It holds the page, the modules of ``runtime/web``, onnxruntime-web's files, the models that find
faces, and bundles. ``docs/browser.md`` says how to serve it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..errors import BackendError, BundleError, HyperStyleError
from ..files import reason
from ..formats.bundle import BESIDE, MANIFEST_NAME, Bundle
from ..photos.face_models import MODELS
from ..temporaries import replacing_folder
from .headers import CONTENT_POLICY, HEADERS

PAGE = Path(__file__).with_name("page")
PACKAGE = "onnxruntime-web"

RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
"""What a browser loads of onnxruntime-web: the first three, or with WebGPU the others."""

_OF_THE_SERVER = {"start.js", "server.js"}  # of the page
_STYLE_SHEET = '<link rel="stylesheet"'


def write_static_page(
    directory: Path, bundles: Sequence[Bundle], onnxruntime_web: Path | None = None
) -> None:
    """Write the folder; it appears with all its files or not at all.

    Parameters
    ----------
    directory:
        A new one, or one that is empty.
    bundles:
        At least one; pages open the first unless a visitor chooses another.
    onnxruntime_web:
        Folder of the npm package; None to look for it in ``node_modules`` of the working directory
        and of the folders above it.

    Raises
    ------
    BackendError
        If the package is not there or lacks a file.
    BundleError
        If a file of a bundle is missing or altered, or a bundle has no method or is named twice.
    HyperStyleError
        If the directory holds files, or cannot be written.
    """
    _check_bundles(bundles)
    runtime = find_onnxruntime_web(onnxruntime_web)
    directory = directory.resolve()
    try:
        _check_empty(directory)
        with replacing_folder(directory) as staged:
            _write(staged, bundles, runtime)
            _check_empty(directory)
    except OSError as error:
        raise HyperStyleError(f"cannot write {directory}: {reason(error)}") from None


def _check_empty(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise HyperStyleError(f"{directory} holds files; name a new folder for the page")


def find_onnxruntime_web(named: Path | None = None) -> Path:
    """Find the folder ``dist`` of the npm package onnxruntime-web.

    Parameters
    ----------
    named:
        Folder of the package; None to look for it.

    Raises
    ------
    BackendError
        If it is not there or lacks a file.
    """
    wanted = wanted_version()
    candidates = [named] if named is not None else _installed()
    for package in candidates:
        missing = [name for name in RUNTIME_FILES if not (package / "dist" / name).is_file()]
        if missing and named is None:
            continue
        if missing:
            raise BackendError(
                f"{package} has no dist/{missing[0]}; name the folder of the npm package {PACKAGE} "
                f"{wanted}"
            )
        found = _version_of(package)
        if found != wanted:
            says = (
                "has no package.json that says its version"
                if found is None
                else f"is version {found}"
            )
            raise BackendError(
                f"{package} {says} and the page is made for {wanted}; run: npm install "
                f"{PACKAGE}@{wanted}"
            )
        return package / "dist"
    raise BackendError(
        f"the npm package {PACKAGE} is not installed here; run: npm install {PACKAGE}@{wanted}, or "
        "name its folder with --onnxruntime-web"
    )


def _version_of(package: Path) -> str | None:
    """What the package says that it is; None where it says nothing."""
    try:
        return str(json.loads((package / "package.json").read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def wanted_version() -> str:
    """The version of onnxruntime-web that the page is made for."""
    package = json.loads((web_package() / "package.json").read_text(encoding="utf-8"))
    version: str = package["dependencies"][PACKAGE]
    return version


def web_package() -> Path:
    """The npm package ``runtime/web``, in the installed package or in the repository."""
    packaged = Path(__file__).with_name("web")
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "web"


def _installed() -> list[Path]:
    here = Path.cwd()
    folders = [here, *here.parents, web_package()]
    return [folder / "node_modules" / PACKAGE for folder in folders]


def _check_bundles(bundles: Sequence[Bundle]) -> None:
    names = [bundle.manifest.name for bundle in bundles]
    for name in names:
        if names.count(name) > 1:
            raise BundleError(f"two bundles are named {name!r}; choose one of them")
    for bundle in bundles:
        bundle.manifest.method()  # an adapted bundle only renders


def _write(directory: Path, bundles: Sequence[Bundle], runtime: Path) -> None:
    web = web_package()
    shutil.copytree(
        PAGE,
        directory,
        ignore=lambda _folder, names: _OF_THE_SERVER & set(names),
        dirs_exist_ok=True,
    )
    for module in (web / "page").glob("*.js"):
        shutil.copy(module, directory)
    shutil.copytree(web / "src", directory / "engine", ignore=shutil.ignore_patterns("*.d.ts"))
    page = directory / "index.html"
    policy = f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">\n'
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace(_STYLE_SHEET, policy + _STYLE_SHEET, 1), encoding="utf-8")
    (directory / PACKAGE).mkdir()
    for name in RUNTIME_FILES:
        shutil.copy(runtime / name, directory / PACKAGE)
    shutil.copy(runtime.parent / "package.json", directory / PACKAGE)  # says version and licence
    shutil.copytree(MODELS, directory / "models")
    for bundle in bundles:
        _copy_bundle(bundle, directory / "bundles" / bundle.manifest.name)
    names = [bundle.manifest.name for bundle in bundles]
    (directory / "bundles.json").write_text(json.dumps(names), encoding="utf-8")
    lines = "".join(f"  {name}: {value}\n" for name, value in HEADERS.items())
    (directory / "_headers").write_text(f"/*\n{lines}", encoding="utf-8")


def _copy_bundle(bundle: Bundle, directory: Path) -> None:
    """Copy a bundle, verified; without TensorRT's plans."""
    directory.mkdir(parents=True)
    for name in bundle.manifest.files:
        shutil.copy(bundle.verified_file(name), directory)
    for name in (MANIFEST_NAME, *BESIDE):
        if (bundle.directory / name).is_file():
            shutil.copy(bundle.directory / name, directory)
