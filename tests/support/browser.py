"""Pages in Chromium. Host names that end in .example are 127.0.0.1."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--no-proxy-server", "--disable-background-networking", "--disable-component-update", "--disable-extensions"),
    "--host-resolver-rules=MAP *.example 127.0.0.1",
)

needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="the program chromium is not installed")


@asynccontextmanager
async def open_page(url: str, profile: Path) -> AsyncIterator[None]:
    """Show the page at `url` in a browser whose profile is the new directory `profile`."""
    browser = await asyncio.create_subprocess_exec(
        *("chromium", *OPTIONS, f"--user-data-dir={profile}", url),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        browser.terminate()
        await browser.wait()


class Visit:
    """A page in a new tab. Collects what must not happen: messages of errors, and requests to other origins."""

    def __init__(self, tab: Page, origin: str) -> None:
        self.tab = tab
        self.problems: list[str] = []
        """Errors of the console and of scripts."""
        self.foreign: list[str] = []
        """URLs of requests to other origins."""
        tab.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: self.problems.append(str(error)))
        tab.on("request", lambda request: self._check(request.url, origin))

    def _check(self, url: str, origin: str) -> None:
        if not url.startswith((f"{origin}/", f"blob:{origin}/", "data:")):
            self.foreign.append(url)


@contextmanager
def run_chromium(*options: str) -> Iterator[Browser]:
    """Run one browser for several tests."""
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *options])
        try:
            yield browser
        finally:
            browser.close()
