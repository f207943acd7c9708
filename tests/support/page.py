"""The page that a server shows at /, in Chromium."""

import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import Visit
from tests.support.npm import install, npm

PAGE = Path(__file__).resolve().parent.parent.parent / "web" / "page"
"""Source of the page."""
FILES = PAGE.parent.parent / "codec_http" / "page"
"""Files that a server serves."""
WAIT_MS = 90_000
"""Limit of one wait, far above what an idle machine needs."""


def build_decoders() -> Path:
    """Build the decoders of the page unless they exist; return its npm packages. Skips the test without npm."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed; it builds the page")
    install(PAGE)
    if not (FILES / "ort-wasm.wasm").exists():
        npm(PAGE, "run", "build")
    return PAGE / "node_modules"


@contextmanager
def visit_page(browser: Browser, server: str) -> Iterator[Visit]:
    """Open the page of the server at this URL in a new tab. Its requests must stay at the server."""
    with browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True) as context:
        context.set_default_timeout(WAIT_MS)
        visit = Visit(context.new_page(), server)
        visit.tab.goto(f"{server}/")
        yield visit
    assert visit.foreign == []


def fill(tab: Page, steps: int = 2, size: str = "64x64") -> None:
    """Fill in a small request."""
    expect(tab.locator("#generate")).to_be_enabled(timeout=WAIT_MS)
    tab.select_option("#size", size)
    tab.fill("#steps", str(steps))


def generate(tab: Page) -> None:
    """Generate, and wait until the result is shown."""
    tab.click("#generate")
    tab.wait_for_selector("#saved:visible, #alert:visible")
    expect(tab.locator("#alert")).to_be_hidden()
    expect(tab.locator("#saved")).to_be_visible()


def colours(tab: Page) -> int:
    """Return the number of different colours on the canvas."""
    script = """() => {
        const canvas = document.querySelector("#canvas");
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return new Set(new Uint32Array(data.buffer)).size;
    }"""
    return int(tab.evaluate(script))


def active_jobs(server: str) -> int:
    """Return the number of active jobs of the server at this URL."""
    with urllib.request.urlopen(f"{server}/codec/info") as response:
        return int(json.load(response)["jobs"])


def wait_until_idle(server: str) -> None:
    """Wait until the server at this URL has no active job."""
    end = time.monotonic() + WAIT_MS / 1000
    while active_jobs(server):
        assert time.monotonic() < end
        time.sleep(0.05)
