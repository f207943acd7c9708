"""Decode latent streams in Chromium, on the page of a server, for `codec-diffusers golden verify --pixels`.

    python -m scripts.browser_pixels http://127.0.0.1:8080 ./streams ./drawn --decoder wasm

`./streams` is written by `codec-diffusers golden streams`. The page receives each stream as the response to a request,
decodes it with WebAssembly or WebGPU, and saves what it has drawn. Needs `make web`, and the program chromium.
"""

import argparse
import base64
import json
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, Route, sync_playwright

from codec_wire import StreamReader, WireFormat, encode
from codec_wire.latents import LatentStreamHeader, Modality
from codec_wire.server_sent_events import EVENT_STREAM, FRAME, HEADER, server_sent_event

SWIFTSHADER = (
    *("--enable-unsafe-webgpu", "--enable-features=Vulkan,WebGPU"),
    *("--use-webgpu-adapter=swiftshader", "--use-vulkan=swiftshader"),
)
"""Options with which Chromium has WebGPU without a GPU."""
LIMIT_MS = 600_000
"""Limit of one decoding."""


def events_of(stream: bytes) -> bytes:
    """Return a msgpack stream as Server-Sent Events."""
    reader = StreamReader(WireFormat.MSGPACK)
    events = b""
    for message in reader.feed(stream):
        text = base64.b64encode(encode(message, WireFormat.MSGPACK)).decode()
        name = HEADER if isinstance(message, LatentStreamHeader) else FRAME
        events += server_sent_event(name, json.dumps({"message": text}))
    reader.close()
    return events


def select(tab: Page, stream: bytes) -> None:
    """Select the modality and the encoding pipeline of `stream` on the page, which lists the sizes of such streams."""
    reader = StreamReader(WireFormat.MSGPACK)
    header = next(message for message in reader.feed(stream) if isinstance(message, LatentStreamHeader))
    modality = Modality.VIDEO if (header.total_frames or 1) > 1 else Modality.IMAGE
    tab.check(f"input[name=modality][value={modality}]", force=True)
    tab.select_option("#pipeline", header.pipeline)


def draw(tab: Page, stream: bytes, target: Path) -> str:
    """Let the page decode `stream`, and write an image to TARGET.png or frames to TARGET/. Return the decoding time."""
    map_hash = tab.evaluate("async () => (await (await fetch('codec/info')).json()).latent_map_sha256")

    def respond(route: Route) -> None:
        headers = {"Content-Type": EVENT_STREAM, "Codec-Latent-Map": map_hash, "Codec-Seed": "0"}
        route.fulfill(body=events_of(stream), headers=headers)

    select(tab, stream)
    tab.route("**/v1/*/generations", respond, times=1)
    tab.click("#generate")
    tab.wait_for_selector("#saved:visible, #alert:visible")
    if tab.locator("#alert").is_visible():
        raise SystemExit(f"{target}: {tab.locator('#alert').inner_text()}")
    last = int(tab.locator("#scrub").get_attribute("max") or 0)
    for frame in range(last + 1):
        path = target / f"frame_{frame:04}.png" if last else target.with_suffix(".png")
        if last:
            tab.locator("#scrub").fill(str(frame))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tab.expect_download() as download:
            tab.click("#save")
        download.value.save_as(path)
    return tab.locator("#time-decode").inner_text()


def main() -> int:
    """Decode all streams; return the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("server", help="URL of a server of the model")
    parser.add_argument("streams", type=Path, help="folder with FIXTURE/PIPELINE.msgpack")
    parser.add_argument("target", type=Path, help="folder for FIXTURE/PIPELINE.png or FIXTURE/PIPELINE/frame_0000.png")
    parser.add_argument("--decoder", choices=("wasm", "webgpu"), default="wasm", help="default: wasm")
    arguments = parser.parse_args()
    options = SWIFTSHADER if arguments.decoder == "webgpu" else ()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", *options])
        tab = browser.new_page(accept_downloads=True)
        tab.set_default_timeout(LIMIT_MS)
        tab.goto(arguments.server)
        tab.wait_for_selector("#generate:enabled")
        tab.click("#more summary")
        tab.select_option("#decoder", arguments.decoder)
        for path in sorted(arguments.streams.glob("*/*.msgpack")):
            target = arguments.target / path.parent.name / path.stem
            print(f"{path.parent.name} {path.stem}: {draw(tab, path.read_bytes(), target)}", flush=True)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
