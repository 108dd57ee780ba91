"""The page without a server, in chromium: a browser inverts and edits, and asks no other host."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from browser_pages import CHROMIUM, EXAMPLES, Page, check_with_axe, needs_axe, opened_browser
from hyperstyle_rt import Inversion, Model
from hyperstyle_rt.imaging.pictures import decode_picture
from node_programs import needs_onnxruntime_web, onnxruntime_web

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"),
    needs_onnxruntime_web,
]

SHOTS = os.environ.get("SHOTS")  # folder for pictures of the states
ISOLATED = {"cross-origin-opener-policy": "same-origin"}
ISOLATED |= {"cross-origin-embedder-policy": "require-corp"}


class Handler(SimpleHTTPRequestHandler):
    """Hands out files, with or without the headers that threads need."""

    headers_to_send: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def end_headers(self) -> None:
        for name, value in self.headers_to_send.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("static") / "site"
    command = [sys.executable, "-m", "hyperstyle_rt", "serve", "--static", str(directory)]
    command += ["--also", "faces", "--onnxruntime-web", str(onnxruntime_web())]
    subprocess.run([*command, "--bundle", "portraits"], check=True)
    return directory


def serving(site: Path, headers: dict[str, str]) -> Iterator[str]:
    handler = type("Sending", (Handler,), {"headers_to_send": headers})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def isolated(site: Path) -> Iterator[str]:
    yield from serving(site, ISOLATED)


@pytest.fixture(scope="module")
def plain(site: Path) -> Iterator[str]:
    yield from serving(site, {})


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with opened_browser() as browser:
        yield browser


def slide(page: Page, label: str, amount: float) -> None:
    before = page.page.get_attribute("#result", "src")
    slider = page.page.locator(f"label:has-text('{label}') input[type=range]")
    slider.fill(str(amount))
    slider.dispatch_event("change")
    page.page.wait_for_selector(f"#result:not([src='{before}'])")
    page.page.wait_for_timeout(500)  # the smaller preview comes first


def shoot(page: Page, name: str) -> None:
    if SHOTS:
        page.page.screenshot(path=f"{SHOTS}/{name}.png")


def psnr(one: Any, other: Any) -> float:
    error = np.square(one.astype(float) - other.astype(float)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def test_the_whole_way(browser: Any, isolated: str, tmp_path: Path) -> None:
    page = Page(browser, isolated, viewport={"width": 1360, "height": 900})
    shoot(page, "browser-start")
    page.invert("portrait_0.png")
    assert page.page.locator("#steps li").count() == 5
    shoot(page, "browser-inverted")
    plain = page.saved("#save-picture")
    file = page.saved("#save-file")
    slide(page, "smile", 2)
    edited = page.saved("#save-picture")
    shoot(page, "browser-edited")
    page.page.click("#reset")
    page.invert("portrait_1.png")
    page.page.wait_for_selector("#mixed:not([hidden])")
    page.open_file(file)
    page.page.wait_for_selector("#status:has-text('Done')")
    assert page.page.locator("#faces button").count() == 3
    shoot(page, "browser-between")

    # What the browser has found is what Python finds, and Python reads its file.
    (tmp_path / "file.safetensors").write_bytes(file)
    found = Inversion.load(tmp_path / "file.safetensors")
    assert found.computed["provider"] == "wasm"
    with Model.load("portraits", backend="cpu", threads=1) as model:
        expected = model.invert(EXAMPLES / "portrait_0.png")
        smiling = model.edit(expected, {"smile": 2.0}).image
        assert psnr(model.render(found), expected.image) > 50
    np.testing.assert_allclose(found.latents, expected.latents, atol=1e-4)
    np.testing.assert_allclose(found.codes, expected.codes, atol=1e-4)
    assert psnr(decode_picture(plain, Path("plain")), expected.image) > 50
    assert psnr(decode_picture(edited, Path("edited")), smiling) > 50
    page.check_silence()
    page.page.close()


def test_without_the_headers_one_thread_does(browser: Any, plain: str) -> None:
    page = Page(browser, plain)
    assert page.page.evaluate("crossOriginIsolated") is False
    page.invert("portrait_2.png")
    page.check_silence()
    page.page.close()


def test_the_second_visit_fetches_no_network_again(browser: Any, isolated: str) -> None:
    context = browser.new_context()
    first = Page(context, isolated)
    first.invert("portrait_0.png")
    assert any(path.endswith("generator.onnx.data") for path in Handler.asked)
    Handler.asked.clear()
    second = Page(context, isolated)
    second.invert("portrait_0.png")
    assert not [path for path in Handler.asked if ".onnx" in path]
    assert any(path.endswith("manifest.json") for path in Handler.asked)
    context.close()


def test_an_altered_network_is_refused(browser: Any, isolated: str, site: Path) -> None:
    path = site / "bundles" / "portraits" / "generator.onnx.data"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        page = Page(browser, isolated)
        page.choose(EXAMPLES / "portrait_0.png")
        page.page.wait_for_selector("#status.bad")
        assert "generator.onnx.data is altered" in page.page.inner_text("#status")
        page.page.close()
    finally:
        path.write_bytes(content)


def test_a_bad_picture_gets_its_sentence(browser: Any, isolated: str) -> None:
    page = Page(browser, isolated)
    notes = {"name": "notes.png", "mimeType": "image/png", "buffer": b"hello"}
    page.choose(notes)
    page.page.wait_for_selector("#status.bad")
    assert "not a picture" in page.page.inner_text("#status")
    page.open_file(b"no inversion")
    page.page.wait_for_selector("#status:has-text('not a safetensors file')")
    page.said.clear()  # what a developer may look up
    page.invert("portrait_1.png")
    page.check_silence()
    page.page.close()


def test_the_photographs_bundle_finds_the_face_of_a_photo(browser: Any, isolated: str) -> None:
    page = Page(browser, f"{isolated}?bundle=faces", viewport={"width": 1360, "height": 900})
    page.invert("astronaut.jpg")
    assert page.page.locator("#steps li").count() == 5
    shoot(page, "browser-photo")
    page.check_silence()
    page.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@needs_axe
def test_axe_finds_nothing_serious(browser: Any, isolated: str, scheme: str) -> None:
    check_with_axe(browser, isolated, scheme)
