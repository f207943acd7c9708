"""Measure how long the page takes to decode an image in Chromium, with WebAssembly and with WebGPU without a GPU.

    python -m scripts.browser_decode_times http://127.0.0.1:8080 --write

Needs `make web`, a running server of the embedded model, the program chromium, and an idle machine. With --write, the
table is written to docs/page.md, otherwise it is printed. An idle machine needs a few minutes.
"""

import argparse
import os
import re
import shutil
import statistics
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from scripts.browser_pixels import LIMIT_MS, SWIFTSHADER

TARGET = Path(__file__).resolve().parent.parent / "docs" / "page.md"
BEGIN, END = "<!-- decode times -->\n", "<!-- end of decode times -->\n"
SIZES = ("256x256", "512x512")
DECODERS: dict[str, tuple[str, tuple[str, ...], int]] = {
    "wasm": ("WebAssembly, one thread, median of 5", (), 5),
    "webgpu": ("WebGPU that the CPU emulates (SwiftShader), once", SWIFTSHADER, 0),
}
"""Description of each decoder, options of Chromium, and how often to decode after the first time."""


def measure(browser: Browser, server: str, decoder: str, size: str, repetitions: int) -> float:
    """Return the time in seconds of decoding an image of this size: the median of the repetitions, if there are any."""
    tab = browser.new_page()
    tab.set_default_timeout(LIMIT_MS)
    tab.goto(server)
    tab.wait_for_selector("#generate:enabled")
    tab.click("#more summary")
    tab.select_option("#decoder", decoder)
    tab.select_option("#size", size)
    tab.fill("#steps", "1")
    times = []
    for _ in range(1 + repetitions):
        tab.click("#generate")
        tab.wait_for_selector("#generate:enabled")
        tab.wait_for_selector("#saved:visible, #alert:visible")
        if tab.locator("#alert").is_visible():
            raise SystemExit(f"{decoder} {size}: {tab.locator('#alert').inner_text()}")
        found = re.fullmatch(r"(?:under )?([0-9.]+) s", tab.locator("#time-decode").inner_text())
        assert found is not None
        times.append(float(found.group(1)))
        print(f"{decoder} {size}: {times[-1]} s", flush=True)
    tab.close()
    return statistics.median(times[1:] or times)


def main() -> int:
    """Measure every decoder and write the table; return the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("server", help="URL of a server of the embedded model, after `make web`")
    parser.add_argument("--write", action="store_true", help=f"write the table to docs/{TARGET.name}")
    arguments = parser.parse_args()
    sizes = " | ".join(size.replace("x", "&times;") for size in SIZES)
    lines = [f"| decoder | {sizes} |", "|---|---|---|"]
    with sync_playwright() as playwright:
        for decoder, (name, options, repetitions) in DECODERS.items():
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", *options]
            )
            version = browser.version.partition(".")[0]
            times = [f"{measure(browser, arguments.server, decoder, size, repetitions):.2f} s" for size in SIZES]
            lines.append(f"| {name} | {' | '.join(times)} |")
            browser.close()
    table = "\n".join(lines)
    text = f"{table}\n\nChromium {version}, {os.cpu_count()} cores. Downloads are not included.\n"
    if not arguments.write:
        print(text, end="")
        return 0
    page = TARGET.read_text()
    before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    TARGET.write_text(before + text + after)
    print(f"wrote {TARGET.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
