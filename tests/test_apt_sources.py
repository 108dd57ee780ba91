"""Where `runtime/cpp/fetch_dependencies.sh` gets its packages: from the mirrors of this machine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "runtime" / "cpp" / "fetch_dependencies.sh"

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib
deb-src http://mirror.example/debian bookworm main
deb [ arch=amd64 signed-by=/keys/own.gpg trusted=yes ] https://cache.example:3142/debian stable main
deb http://mirror.example/debian bookworm-updates main
deb http://mirror.example/debian-security bookworm-security main
deb https://other.example/node nodistro main
deb http://mirror.example/flat ./
"""
DEB822 = """\
Types: deb deb-src
# a remark
URIs: mirror+file:/etc/mirrors.txt
Suites: bookworm bookworm-updates
Components: main non-free-firmware
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQ==
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
uris: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


@pytest.fixture(scope="module")
def apt_sources() -> ModuleType:
    spec = importlib.util.spec_from_file_location("apt_sources", SCRIPT.with_name("apt_sources.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    """A sources.list, and a sources.list.d with one file of the newer form and others."""
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (folder / "debian.sources").write_text(DEB822)
    (folder / "old.list").write_text(ONE_LINE.splitlines()[1])
    (folder / "debian.sources.bak").write_text(DEB822.replace("mirror+file", "backup"))
    return [tmp_path / "sources.list", folder, tmp_path / "missing"]


def test_the_mirrors_of_both_forms_are_asked_for_another_suite(
    apt_sources: ModuleType, places: list[Path]
) -> None:
    own = apt_sources.own_suites('ID=debian\nVERSION_CODENAME=bookworm\nVERSION="12"\n')
    stanzas = apt_sources.rewritten(apt_sources.source_files(places), "trixie", own)
    plain, cache, file = (next(apt_sources.read_stanzas(text)) for text in stanzas)
    assert plain == {
        "Types": "deb",
        "URIs": "http://mirror.example/debian",
        "Suites": "trixie",
        "Components": "main",
    }
    assert cache["URIs"] == "https://cache.example:3142/debian"
    assert (cache["Signed-By"], cache["Trusted"]) == ("/keys/own.gpg", "yes")
    assert file["URIs"] == "mirror+file:/etc/mirrors.txt"
    assert (file["Types"], file["Suites"]) == ("deb", "trixie")
    assert "mQ==" in file["Signed-By"] and file["Signed-By"].count("\n ") == 4


def test_another_distribution_s_mirrors_are_left_alone(
    apt_sources: ModuleType, places: list[Path]
) -> None:
    own = apt_sources.own_suites("ID=ubuntu\nVERSION_CODENAME=noble\n") - apt_sources.ALIASES
    assert own == {"noble"}
    assert apt_sources.rewritten(apt_sources.source_files(places), "trixie", own) == []


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text("#!/usr/bin/env bash\nset -eu\n" + text)
    (folder / name).chmod(0o755)


def test_the_script_asks_the_mirror_that_apt_is_set_up_with(tmp_path: Path) -> None:
    """With stand-ins for apt and dpkg, of which the machine's own suites lack the packages."""
    etc, bin_ = tmp_path / "etc", tmp_path / "bin"
    etc.mkdir()
    bin_.mkdir()
    line = "deb http://mirror.example/debian stable main\n"
    (etc / "sources.list").write_text(line)
    program(bin_, "apt-config", f"echo \"list='{etc}/sources.list'; parts='{etc}/parts'\"\n")
    program(bin_, "dpkg", 'mkdir -p "$3/usr/lib"\n')
    program(
        bin_,
        "apt-get",
        f"""
for word; do [[ $word == Dir::Etc::sourcelist=* ]] && list=${{word#*=}}; done
[[ -n ${{list:-}} ]] || exit 100
echo "$*" >>{tmp_path}/calls
cp "$list" {tmp_path}/asked
[[ " $* " == *" download "* ]] && touch libonnxruntime-dev.deb
exit 0
""",
    )
    environment = os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}", "PYTHON": sys.executable}
    target = tmp_path / "with a space"
    subprocess.run(["bash", str(SCRIPT), str(target)], env=environment, check=True)
    asked = (tmp_path / "asked").read_text()
    assert asked.split() == (
        [
            "Types:",
            "deb",
            "URIs:",
            "http://mirror.example/debian",
            "Suites:",
            "trixie",
            "Components:",
            "main",
        ]
    )
    update, download = (tmp_path / "calls").read_text().splitlines()
    assert update.endswith(" update") and "libonnxruntime-dev nlohmann-json3-dev" in download
    assert (target / "usr" / "lib" / "libonnxruntime.so").exists()


def test_a_machine_without_mirrors_gets_a_sentence(tmp_path: Path) -> None:
    program(tmp_path, "apt-config", 'echo "list=/nowhere; parts=/nowhere"\n')
    program(tmp_path, "apt-get", "exit 100\n")
    program(tmp_path, "dpkg", "exit 1\n")
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
    }
    command = ["bash", str(SCRIPT), str(tmp_path / "target")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 3
    log = tmp_path / "target" / "apt" / "log"
    assert f"cannot be fetched here nor from Debian trixie: see {log}" in result.stderr
    assert "no mirror of this distribution's main suite" in log.read_text()
