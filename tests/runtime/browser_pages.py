"""A page in a real browser, Debian's chromium: pip install 'hyperstyle-rt[browser]'."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
CHROMIUM = shutil.which("chromium")
PATIENCE = 120_000  # milliseconds
AXE = os.environ.get("AXE", "")  # axe.min.js of the npm package axe-core
needs_axe = pytest.mark.skipif(not AXE, reason="the variable AXE names no axe.min.js")


@contextmanager
def opened_browser() -> Iterator[Any]:
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Page:
    """A page that was opened, with what its console said and which hosts it asked."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.address = address
        self.said: list[str] = []
        self.hosts: set[str] = set()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.page.goto(address)
        self.page.wait_for_selector("#bundle:has-text('×')")

    def invert(self, name: str) -> None:
        self.choose(EXAMPLES / name)
        self.page.wait_for_selector("#status:has-text('Done')")

    def choose(self, file: Any) -> None:
        """Choose a file; what the page said before is gone then."""
        self.page.evaluate("document.getElementById('status').textContent = ''")
        self.page.set_input_files("#file", file)

    def saved(self, button: str) -> bytes:
        with self.page.expect_download() as download:
            self.page.click(button)
        return Path(download.value.path()).read_bytes()

    def open_file(self, content: bytes) -> None:
        """Open an inversion file."""
        kind = "application/octet-stream"
        file = {"name": "again.safetensors", "mimeType": kind, "buffer": content}
        self.choose(file)

    def serious(self) -> list[str]:
        """What axe-core finds that is serious."""
        self.page.evaluate(Path(AXE).read_text("utf-8"))
        found = self.page.evaluate("axe.run()")["violations"]
        return [each["id"] for each in found if each["impact"] in ("serious", "critical")]

    def check_silence(self) -> None:
        """Nothing was said on the console, and no other host was asked."""
        assert self.said == []
        host = self.address.split("/")[2]
        assert {asked for asked in self.hosts if ":" in asked} == {host}


def check_with_axe(browser: Any, address: str, scheme: str) -> None:
    """axe-core finds nothing serious: before an inversion, and with all that it brings opened.

    Parameters
    ----------
    scheme:
        ``light`` or ``dark``.
    """
    page = Page(browser, address, color_scheme=scheme, bypass_csp=True)
    assert page.serious() == []
    page.invert("portrait_0.png")
    page.page.click("summary")
    assert page.serious() == []
    page.page.close()
