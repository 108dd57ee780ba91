"""Rewrite this machine's apt sources for another suite of the same mirrors, on standard output.

    python3 runtime/cpp/apt_sources.py SUITE FILE_OR_FOLDER...

Reads one-line ``.list`` files and deb822 ``.sources`` files, as apt does, and keeps of each entry
what says how to reach and trust its mirror: options, URIs, ``Signed-By``. Entries that are switched
off, of sources, without the component ``main``, or of no main suite of the distribution (updates,
security, backports, other people's repositories) are left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ALIASES = {"stable", "oldstable", "oldoldstable", "testing", "unstable", "sid"}
RELEASE = Path("/etc/os-release")

# deb [options] URI suite components
LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<rest>.+)"
)


def rewritten(files: list[Path], suite: str, own_suites: set[str]) -> list[str]:
    """Give deb822 stanzas for `suite`, each once, in the order of the files.

    Parameters
    ----------
    own_suites:
        Names of the distribution's main suites, any of which stands for its mirror.
    """
    stanzas: dict[str, None] = {}
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        read = read_stanzas if file.suffix == ".sources" else read_lines
        for fields in read(text):
            named = fields["Suites"].split()
            if (
                "deb" in fields["Types"].split()
                and "main" in fields["Components"].split()
                and fields.get("Enabled", "yes").strip().lower() not in ("no", "false", "0")
                and own_suites & set(named)
            ):
                changed = {"Types": "deb", "Suites": suite, "Components": "main"}
                lines = (f"{name}: {value}" for name, value in (fields | changed).items())
                stanzas["\n".join(lines) + "\n"] = None
    return list(stanzas)


def read_lines(text: str) -> Iterator[dict[str, str]]:
    """Give the fields that the entries of a one-line file stand for."""
    for line in text.splitlines():
        entry = LINE.fullmatch(line.split("#")[0].strip())
        if entry is None:
            continue
        options = dict(option.split("=", 1) for option in (entry["options"] or "").split())
        names = {"signed-by": "Signed-By", "trusted": "Trusted", "arch": "Architectures"}
        yield {
            "Types": "deb",
            "URIs": entry["uri"],
            "Suites": entry["suite"],
            "Components": entry["rest"],
            **{names.get(key, key.title()): value for key, value in options.items()},
        }


def read_stanzas(text: str) -> Iterator[dict[str, str]]:
    """Give the fields of each stanza; a key written into it, of several lines, is kept as it is."""
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", uncommented):
        fields: dict[str, str] = {}
        for name, value in re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)", stanza, re.M):
            canonical = {"uris": "URIs"}.get(name.lower(), name.title())
            fields[canonical] = value
        if {"Types", "URIs", "Suites", "Components"} <= fields.keys():
            yield fields


def own_suites(release: str) -> set[str]:
    """Give the names that this distribution's main suite may have, by the text of os-release."""
    found = re.search(r'^VERSION_CODENAME="?([\w.-]+)"?$', release, re.M)
    return ALIASES | ({found[1]} if found else set())


def source_files(places: list[Path]) -> list[Path]:
    """Give the files that apt reads, in its order."""
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            files += [p for p in sorted(place.iterdir()) if p.suffix in (".list", ".sources")]
        elif place.is_file():
            files.append(place)
    return files


def main() -> None:
    """Write the stanzas; nothing if no entry is of use."""
    suite, *places = sys.argv[1:]
    release = RELEASE.read_text(encoding="utf-8") if RELEASE.is_file() else ""
    files = source_files(list(map(Path, places)))
    sys.stdout.write("\n".join(rewritten(files, suite, own_suites(release))))


if __name__ == "__main__":
    main()
