"""Pages in Chromium. Host names that end in .example are 127.0.0.1."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

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
