"""Write docs/page.webp, the screenshot in README.md, from the page of a running server.

python -m scripts.page_screenshot http://127.0.0.1:8080
"""

import argparse
import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

TARGET = Path(__file__).resolve().parent.parent / "docs" / "page.webp"
WIDTH, HEIGHT = 1280, 1390
LIMIT_MS = 300_000


def main() -> int:
    """Generate an image on the page and write the screenshot; return the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("server", help="URL of a server of the embedded model, after `make web`")
    server = parser.parse_args().server
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.set_default_timeout(LIMIT_MS)
        tab.goto(server)
        tab.wait_for_selector("#generate:enabled")
        for _ in range(2):  # the first run downloads the decoder
            tab.click("#generate")
            tab.wait_for_selector("#generate:enabled")
            tab.wait_for_selector("#saved:visible")
        image = Image.open(io.BytesIO(tab.screenshot()))
        browser.close()
    image.save(TARGET, quality=82, method=6)
    print(f"wrote {TARGET.name}: {TARGET.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
