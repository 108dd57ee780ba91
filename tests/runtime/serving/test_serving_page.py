"""The page in a real browser, Debian's chromium: pip install 'hyperstyle-rt[browser]'."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"),
]

EXAMPLES = Path(__file__).parents[3] / "examples"
PATIENCE = 120_000  # milliseconds
AXE = os.environ.get("AXE", "")  # axe.min.js of the npm package axe-core


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The console command, serving."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hyperstyle_rt", "serve", "--bundle", "portraits"]
    command += ["--port", str(port), "--quiet"]
    with subprocess.Popen(command) as process:
        try:
            yield _ready(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            assert process.wait(60) == 0, "SIGTERM is an orderly end"


def _ready(address: str) -> str:
    for _ in range(240):
        try:
            with urlopen(f"{address}/health") as answer:
                assert answer.status == 200
                return address
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the service did not start")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Page:
    """A page that was opened, with what its console said and which hosts it asked."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.page = browser.new_page(accept_downloads=True, **options)
        self.said: list[str] = []
        self.hosts: set[str] = set()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.page.goto(address)
        self.page.wait_for_selector("#bundle:has-text('×')")

    def invert(self, name: str) -> None:
        self.page.set_input_files("#file", EXAMPLES / name)
        self.page.wait_for_selector("#status:has-text('Done')")

    def slide(self, label: str, amount: float) -> None:
        slider = self.page.locator(f"label:has-text('{label}') input[type=range]")
        with self.page.expect_response("**/edits"):
            slider.fill(str(amount))
            slider.dispatch_event("change")

    def saved(self, button: str) -> bytes:
        with self.page.expect_download() as download:
            self.page.click(button)
        return Path(download.value.path()).read_bytes()

    def serious(self) -> list[str]:
        """What axe-core finds that is serious."""
        self.page.evaluate(Path(AXE).read_text("utf-8"))
        found = self.page.evaluate("axe.run()")["violations"]
        return [each["id"] for each in found if each["impact"] in ("serious", "critical")]


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Page]:
    opened = Page(browser, address)
    yield opened
    assert opened.said == [], "the console is silent"
    assert {host for host in opened.hosts if ":" in host} == {address.split("/")[2]}
    opened.page.close()


def test_the_whole_way(page: Page) -> None:
    page.invert("portrait_0.png")
    assert page.page.locator("#steps li").count() == 5
    plain = page.saved("#save-picture")
    page.slide("smile", 2)
    edited = page.saved("#save-picture")
    assert plain.startswith(b"\x89PNG")
    assert edited.startswith(b"\x89PNG")
    assert plain != edited
    file = page.saved("#save-file")
    page.page.click("#reset")
    assert page.saved("#save-film")[4:8] in (b"ftyp", b"9a\x80\x00"), "an MP4, or a GIF"
    page.page.set_input_files(
        "#file",
        {"name": "again.safetensors", "mimeType": "application/octet-stream", "buffer": file},
    )
    page.page.wait_for_selector("#mixed:not([hidden])")
    assert page.page.locator("#faces button").count() == 2


def test_a_bad_picture_gets_its_sentence(page: Page) -> None:
    page.page.set_input_files(
        "#file", {"name": "notes.png", "mimeType": "image/png", "buffer": b"hello"}
    )
    page.page.wait_for_selector("#status.bad")
    assert "not a picture" in page.page.inner_text("#status")
    page.said.clear()  # browsers tell every 4xx
    page.invert("portrait_1.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.skipif(not AXE, reason="the variable AXE names no axe.min.js")
def test_axe_finds_nothing_serious(browser: Any, address: str, scheme: str) -> None:
    page = Page(browser, address, color_scheme=scheme, bypass_csp=True)
    assert page.serious() == []
    page.invert("portrait_0.png")
    page.page.click("summary")
    assert page.serious() == []
    page.page.close()


def test_narrow_screens_need_no_sideways_scrolling(browser: Any, address: str) -> None:
    page = Page(browser, address, viewport={"width": 320, "height": 700})
    page.invert("portrait_0.png")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 320
    page.page.close()
