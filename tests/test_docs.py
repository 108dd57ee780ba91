"""The documents hold together: links lead somewhere, and so does every source the code names."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    if name and (ROOT / name).is_file()
]
PAGES = [path for path in FILES if path.suffix == ".md"]
CODE = [
    path
    for path in FILES
    if path.suffix in {".py", ".c", ".h", ".cpp", ".hpp", ".sh", ".toml", ".md"}
    and "golden" not in path.parts
]

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CITATION = re.compile(
    r"docs/([a-z-]+\.md), (?:the )?sections? ([0-9][0-9.]*(?:(?:,| and| to) [0-9][0-9.]*)*)"
)
BARE_CITATION = re.compile(r"\b(?:spec|design|spec-methods) [0-9]")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", h)) for h in headings)
    return {re.sub(r"\s+", "-", heading.strip().lower()) for heading in plain}


def sections(page: str) -> set[str]:
    """The numbers of a page's sections: 2, 5.3."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    return {number.rstrip(".") for number in re.findall(r"^#+ ([0-9][0-9.]*)", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim.exists(), f"{page.name} links to {target}"
        if anchor and aim.suffix == ".md":
            assert anchor in anchors(aim), f"{page.name} links to {target}"


def test_every_section_that_is_cited_exists() -> None:
    cited = 0
    for path in CODE:
        text = re.sub(r"\s*\n[\s#*/]*", " ", path.read_text("utf-8"))  # a citation may be wrapped
        for page, numbers in CITATION.findall(text):
            for number in re.findall(r"[0-9][0-9.]*", numbers):
                cited += 1
                assert number.rstrip(".") in sections(page), f"{path.name}: {page}, {number}"
    assert cited > 20


def test_no_source_is_named_without_its_document() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in CODE
        if path != Path(__file__)
        for match in BARE_CITATION.finditer(path.read_text("utf-8"))
    ]
    assert found == []


def test_every_page_is_on_the_site() -> None:
    listed = set(
        re.findall(r": ([a-z-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    )
    assert listed == {page.name for page in PAGES if page.parent == ROOT / "docs"}
