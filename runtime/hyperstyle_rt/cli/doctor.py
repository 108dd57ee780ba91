"""``hyperstyle-rt doctor``: what of this machine can be used, and how to get what is missing."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..backends.cuda.driver import Driver, find_driver
from ..backends.processors import Processors, find_processors, useful_threads
from ..backends.registry import BACKENDS, NOT_OFFERED
from ..errors import BundleError
from . import options
from .terminal import (
    Table,
    cell,
    error_console,
    exit_with_errors,
    facts_table,
    print_json,
    print_line,
    print_tables,
)

if TYPE_CHECKING:
    from rich.text import Text

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt doctor

hyperstyle-rt doctor --json
"""

CPU_EXTRA = "pip install 'hyperstyle-rt[cpu]'"
GPU_EXTRA = "pip install 'hyperstyle-rt[gpu]'"

# Module -> how to get it where it is missing, how to mend it where it is broken; ONNX Runtime's
# sentence is that of the backend on the CPU.
REQUIRED = {
    "numpy": ("pip install numpy", "pip install --force-reinstall numpy"),
    "cv2": (CPU_EXTRA, "pip install --force-reinstall opencv-python-headless"),
    "safetensors": ("pip install safetensors", "pip install --force-reinstall safetensors"),
}
SHOWN = (*REQUIRED, "onnxruntime", "tensorrt")
CPU, CUDA, TENSORRT = "cpu", "cuda", "tensorrt"  # backends that advice is about
NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Findings:
    """What there is on a machine.

    Attributes
    ----------
    versions:
        Version of each module that can be imported.
    import_errors:
        Why the others cannot be.
    backends:
        Backend of the registry -> None if it can be used, else why not.
    processors:
        What limits the processors of this process.
    threads:
        How many threads an operator uses unless a user wants fewer.
    driver:
        None if there is none.
    bundle:
        Directory of the default bundle, None if there is none.
    bundle_problem:
        What is wrong with it, None if all its files are verified.
    devices:
        Backend -> devices that it can be asked to run on, by number.
    """

    versions: Mapping[str, str]
    import_errors: Mapping[str, str]
    backends: Mapping[str, str | None]
    processors: Processors
    threads: int
    driver: Driver | None
    bundle: str | None
    bundle_problem: str | None
    devices: Mapping[str, list[str]] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """List what keeps pictures from being inverted on the CPU, with the cure, in sentences."""
        problems = [
            f"{module} cannot be imported ({self.import_errors[module]}); run: "
            + (get if self.import_errors[module] == NOT_INSTALLED else mend)
            for module, (get, mend) in REQUIRED.items()
            if module in self.import_errors
        ]
        broken = self.backends.get(CPU)
        if "onnxruntime" in self.import_errors:
            problems.append(self.import_errors["onnxruntime"])
        elif broken is not None:
            problems.append(
                f"ONNX Runtime cannot use the CPU ({broken}); "
                "run: pip install --force-reinstall onnxruntime"
            )
        if self.bundle_problem is not None:
            problems.append(self.bundle_problem)
        return problems

    def advice(self) -> list[str]:
        """List what is missing for the GPU and how to get it, in sentences."""
        if self.driver is None:
            return ["There is no NVIDIA driver, so the CPU is used; for a GPU install its driver."]
        if not self.driver.gpus:
            return [
                "The NVIDIA driver finds no GPU; a container needs it passed, as by --gpus all."
            ]
        advice: list[str] = []
        missing = self.backends.get(CUDA)
        if "onnxruntime" in self.import_errors:
            return advice
        if missing == NOT_OFFERED and _installed("onnxruntime", "onnxruntime-gpu"):
            advice.append(
                "onnxruntime has overwritten files of onnxruntime-gpu; for the GPU run: "
                f"pip uninstall -y onnxruntime onnxruntime-gpu; {GPU_EXTRA}"
            )
        elif missing == NOT_OFFERED and _installed("onnxruntime"):
            advice.append(f"For the GPU run: pip uninstall -y onnxruntime; {GPU_EXTRA}")
        elif missing == NOT_OFFERED:
            advice.append(f"For the GPU run: {GPU_EXTRA}")
        elif missing is not None:
            advice.append(
                "ONNX Runtime fails to use the GPU; install the CUDA and cuDNN libraries that its "
                "message on standard error names"
            )
        if TENSORRT in self.import_errors:
            advice.append(f"For TensorRT run: {GPU_EXTRA}")
        return advice

    def to_json(self) -> dict[str, Any]:
        """Make the document of ``--json``."""
        problems = self.problems()
        facts = {"hyperstyle-rt": __version__, "platform": _platform()}
        return (
            {"ok": not problems}
            | facts
            | {name: value for name, value in asdict(self).items() if name != "devices"}
            | {
                "backends": {
                    entry.name: {
                        "problem": self.backends[entry.name],
                        "devices": self.devices.get(entry.name, []),
                        "requires": entry.requires,
                        "description": entry.description,
                    }
                    for entry in BACKENDS
                    if entry.name in self.backends
                },
                "usable_processors": self.processors.usable,
                "problems": problems,
                "advice": self.advice(),
            }
        )


def doctor(json_: options.Json = False) -> None:
    """Examine this machine: packages, processors, backends, GPU, the embedded bundle.

    The exit status is 0 if pictures can be inverted on the CPU, else 2.
    """
    with error_console().status("examining this machine"):
        findings = examine()
    if json_:
        print_json(findings.to_json())
    else:
        print_tables(_table(findings))
        print_line("")
        for sentence in findings.advice():
            print_line(sentence)
    exit_with_errors(findings.problems())


def examine() -> Findings:
    """Find out what there is; nothing that is missing or broken raises."""
    from ..backends.ort_library import load_onnxruntime

    versions: dict[str, str] = {}
    import_errors: dict[str, str] = {}
    for module in SHOWN:
        try:
            found = load_onnxruntime() if module == "onnxruntime" else import_module(module)
            versions[module] = found.__version__
        except ModuleNotFoundError as error:
            import_errors[module] = NOT_INSTALLED if error.name == module else _first_line(error)
        except Exception as error:  # a broken package may raise anything when imported
            import_errors[module] = _first_line(error)
    bundle, bundle_problem = _default_bundle()
    problems = {entry.name: entry.problem() for entry in BACKENDS}
    return Findings(
        versions=versions,
        import_errors=import_errors,
        backends=problems,
        processors=find_processors(),
        threads=useful_threads(None),
        driver=find_driver(),
        bundle=bundle,
        bundle_problem=bundle_problem,
        devices={entry.name: entry.devices() for entry in BACKENDS if problems[entry.name] is None},
    )


def _default_bundle() -> tuple[str | None, str | None]:
    """Verify the embedded bundle; give its directory and what is wrong, either may be None."""
    from ..formats.bundle import Bundle
    from ..formats.bundle_lookup import default_bundle

    directory = None
    try:
        directory = str(default_bundle())
        Bundle.open(directory).verify()
    except BundleError as error:
        return directory, str(error)
    return directory, None


def _table(findings: Findings) -> Table:
    facts: dict[str, str | Text] = {
        "platform": _platform(),
        "Python": platform.python_version(),
        "hyperstyle-rt": __version__,
    }
    for module in SHOWN:
        broken = findings.import_errors.get(module)
        style = "dim" if module == TENSORRT else "red"
        facts[module] = cell(broken, style) if broken else findings.versions[module]
    facts["processors"] = _shown_processors(findings.processors)
    facts["threads"] = str(findings.threads)
    for entry in BACKENDS:
        problem = findings.backends.get(entry.name)
        if problem == NOT_OFFERED:
            problem = f"{problem}; needs {entry.requires}"
        style = "red" if entry.name == CPU else "dim"
        devices = findings.devices.get(entry.name, [])
        listed = ", ".join(f"{number} {device}" for number, device in enumerate(devices))
        working = f"works on {listed}" if listed else "works"
        works = cell(working, "green") if problem is None else cell(problem, style)
        facts[f"backend {entry.name}"] = works
    driver = findings.driver
    if driver is None:
        facts["NVIDIA driver"] = cell("not found", "dim")
    else:
        names = ", ".join(f"{gpu.name} (sm {gpu.sm})" for gpu in driver.gpus)
        facts["NVIDIA driver"] = f"CUDA {driver.cuda}; {names or 'no GPU'}"
    if findings.bundle_problem is None:
        facts["embedded bundle"] = cell(f"{findings.bundle} verified", "green")
    else:
        state = "not found" if findings.bundle is None else f"{findings.bundle} altered"
        facts["embedded bundle"] = cell(state, "red")
    return facts_table("hyperstyle-rt on this machine", facts)


def _shown_processors(found: Processors) -> str:
    """What there is, and what of it may be used: ``64, of which 8 allowed, quota 2.5``."""
    shown = [f"{found.present} of the machine", f"{found.allowed} allowed"]
    if found.quota is not None:
        shown.append(f"quota of {found.quota:g}")
    return ", ".join(shown)


def _platform() -> str:
    return platform.platform()


def _installed(*distributions: str) -> bool:
    """Whether pip has installed all of them."""
    from importlib import metadata

    try:
        for distribution in distributions:
            metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _first_line(error: Exception) -> str:
    """Give the first line of an error's text, or its type if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
