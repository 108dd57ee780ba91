"""The page in a real browser, Debian's chromium: pip install 'hyperstyle-rt[browser]'."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import browser_pages
import pytest
from browser_pages import CHROMIUM, EXAMPLES, check_with_axe, needs_axe, opened_browser
from services import await_health, free_port

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The console command, serving."""
    port = free_port()
    command = [sys.executable, "-m", "hyperstyle_rt", "serve", "--bundle", "portraits"]
    command += ["--port", str(port), "--quiet"]
    with subprocess.Popen(command) as process:
        try:
            yield await_health(port, process)
        finally:
            process.terminate()
            assert process.wait(60) == 0, "SIGTERM is an orderly end"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with opened_browser() as browser:
        yield browser


class Page(browser_pages.Page):
    """The page of the service."""

    def slide(self, label: str, amount: float) -> None:
        slider = self.page.locator(f"label:has-text('{label}') input[type=range]")
        with self.page.expect_response("**/edits"):
            slider.fill(str(amount))
            slider.dispatch_event("change")


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Page]:
    opened = Page(browser, address)
    yield opened
    opened.check_silence()
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
    page.open_file(file)
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


def test_a_service_that_has_gone_gets_its_sentence(page: Page) -> None:
    page.invert("portrait_0.png")
    page.page.route("**/v1/**", lambda route: route.abort())
    page.page.set_input_files("#file", EXAMPLES / "portrait_1.png")
    page.page.wait_for_selector("#status.bad")
    assert "does not answer" in page.page.inner_text("#status")
    page.page.unroute_all()
    page.said.clear()  # browsers tell every request that fails
    page.invert("portrait_1.png")


def test_a_picture_that_comes_too_early_gets_its_sentence(page: Page) -> None:
    held: list[Any] = []
    page.page.route("**/events", lambda route: held.append(route))
    page.page.set_input_files("#file", EXAMPLES / "portrait_0.png")
    page.page.wait_for_selector("#cancel:not([hidden])")
    page.page.set_input_files("#file", EXAMPLES / "portrait_1.png")
    page.page.wait_for_selector("#status:has-text('One picture at a time')")
    held[0].continue_()
    page.page.wait_for_selector("#status:has-text('Done:')")
    assert page.page.locator("#faces button").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@needs_axe
def test_axe_finds_nothing_serious(browser: Any, address: str, scheme: str) -> None:
    check_with_axe(browser, address, scheme)


def test_narrow_screens_need_no_sideways_scrolling(browser: Any, address: str) -> None:
    page = Page(browser, address, viewport={"width": 320, "height": 700})
    page.invert("portrait_0.png")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 320
    page.page.close()


@pytest.mark.parametrize("height", [720, 900, 1080])
def test_the_status_covers_no_button_of_the_result(browser: Any, address: str, height: int) -> None:
    page = Page(browser, address, viewport={"width": 1360, "height": height})
    page.invert("portrait_0.png")
    button, status = (page.page.locator(each).bounding_box() for each in ("#save-file", "#status"))
    assert button["y"] + button["height"] <= status["y"]
    page.page.close()
