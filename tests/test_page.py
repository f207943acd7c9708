"""The page at / in Chromium, with a server of the embedded model."""

import json
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Route, expect
from skimage.metrics import structural_similarity

from codec_client import HttpClient
from tests.support.browser import Visit, needs_chromium, run_chromium
from tests.support.npm import npm
from tests.support.page import (
    FILES,
    PAGE,
    WAIT_MS,
    active_jobs,
    build_decoders,
    colours,
    fill,
    generate,
    visit_page,
    wait_until_idle,
)
from tests.support.processes import Addresses

pytestmark = [pytest.mark.slow, needs_chromium]

GENERATIONS = "/v1/images/generations"
IMAGE_PIPELINES = ("raw", "int8", "int4", "int8-adaptive", "int4-adaptive")


@pytest.fixture(scope="module")
def packages() -> Path:
    """The npm packages of the page, which is built with them."""
    return build_decoders()


@pytest.fixture(scope="module")
def server(packages: Path, one_job_server: Addresses) -> Addresses:
    """A server of the embedded model that accepts one generation at a time. It starts when the page has been built."""
    return one_job_server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with run_chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, server: Addresses) -> Iterator[Visit]:
    """The page, ready to generate."""
    with visit_page(browser, server.http) as visit:
        yield visit


def drawn_by(visit: Visit) -> NDArray[np.uint8]:
    """Return the pixels that the page saves as a PNG file."""
    with visit.tab.expect_download() as download:
        visit.tab.click("#save")
    return np.asarray(Image.open(download.value.path()).convert("RGB"))


def test_every_image_pipeline_and_a_video_are_drawn_without_an_error(visit: Visit) -> None:
    tab = visit.tab
    fill(tab)
    for pipeline in IMAGE_PIPELINES:
        tab.select_option("#pipeline", pipeline)
        generate(tab)
        assert tab.locator("#canvas").evaluate("canvas => [canvas.width, canvas.height]") == [64, 64]
        assert colours(tab) > 100
        expect(tab.locator(".current th")).to_have_text(f"Latents, {pipeline}")
    tab.check('[name="modality"][value="video-latents"]')
    tab.select_option("#pipeline", "delta+int8")
    tab.fill("#frames", "3")
    generate(tab)
    expect(tab.locator("#player")).to_be_visible()
    tab.locator("#scrub").fill("2")
    expect(tab.locator("#scrub-position")).to_have_text("3 of 3")
    expect(tab.locator("#play")).to_have_text("Play")
    assert colours(tab) > 100
    assert visit.problems == []


def test_progress_and_previews_are_shown_while_the_server_samples(visit: Visit) -> None:
    tab = visit.tab
    fill(tab, steps=60)
    tab.click("#generate")
    expect(tab.locator("#status")).to_contain_text("of 60", timeout=WAIT_MS)
    expect(tab.locator("#canvas")).to_have_attribute("aria-label", re.compile("^Preview"), timeout=WAIT_MS)
    assert colours(tab) > 50
    tab.click("#cancel")
    expect(tab.locator("#status")).to_contain_text("Cancelled")
    assert visit.problems == []


def test_cancelling_frees_the_place_on_the_server(visit: Visit, server: Addresses) -> None:
    tab = visit.tab
    fill(tab, steps=250, size="512x512")
    tab.click("#generate")
    expect(tab.locator("#status")).to_contain_text(re.compile(r"step \d+ of 250"), timeout=WAIT_MS)
    assert active_jobs(server.http) == 1
    tab.click("#cancel")
    wait_until_idle(server.http)
    with urllib.request.urlopen(f"{server.http}/metrics") as response:
        assert re.search(r'codec_requests_total\{.*outcome="cancelled".*\} [1-9]', response.read().decode())
    fill(tab)
    generate(tab)
    assert visit.problems == []


def test_full_queue_is_explained_with_a_countdown(visit: Visit, server: Addresses) -> None:
    tab = visit.tab
    tab.clock.install()  # to skip the countdown
    tab.reload()
    fill(tab)
    body = json.dumps({"prompt": "a sea", "pipeline": "raw", "steps": 250, "size": "512x512"}).encode()
    request = urllib.request.Request(server.http + GENERATIONS, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request):
        tab.click("#generate")
        expect(tab.locator("#alert-title")).to_have_text("The queue is full", timeout=WAIT_MS)
        retry = tab.locator("#retry")
        assert re.fullmatch(r"Try again in \d+ s", retry.inner_text())
        expect(retry).to_be_disabled()
    wait_until_idle(server.http)
    tab.clock.fast_forward("20:00")
    retry.click()
    expect(tab.locator("#saved")).to_be_visible(timeout=WAIT_MS)


def test_another_map_of_the_server_is_explained(visit: Visit, server: Addresses) -> None:
    def replace_hash(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=re.sub(rb"sha256:[0-9a-f]{64}", b"sha256:" + b"0" * 64, response.body()))

    tab = visit.tab
    tab.route("**/codec/info", replace_hash)
    tab.reload()
    fill(tab)
    tab.click("#generate")
    expect(tab.locator("#alert-title")).to_have_text("The page and the server do not match", timeout=WAIT_MS)
    expect(tab.locator("#retry")).to_have_text("Reload the page")


def test_start_image_is_changed_by_the_given_strength(visit: Visit, tmp_path: Path) -> None:
    start = np.zeros((96, 64, 3), np.uint8)
    start[:, 32:] = (250, 120, 20)
    Image.fromarray(start).save(tmp_path / "start.png")
    tab = visit.tab
    fill(tab, steps=20)
    tab.click("#more summary")
    expect(tab.locator("#strength-field")).to_be_hidden()
    tab.set_input_files("#image", tmp_path / "start.png")
    tab.fill("#strength", "0.05")
    generate(tab)
    drawn = drawn_by(visit)
    halves = drawn[:, :24].mean((0, 1)), drawn[:, 40:].mean((0, 1))
    assert halves[1][0] - halves[0][0] > 120  # dark on the left, orange on the right
    assert halves[1][0] - halves[1][2] > 120
    expect(tab.locator("#sample-text")).to_contain_text("image")
    tab.set_input_files("#image", [])
    generate(tab)
    assert np.abs(drawn_by(visit).astype(int) - drawn).mean() > 20
    assert visit.problems == []


def test_refused_field_is_marked_with_the_reason(visit: Visit) -> None:
    tab = visit.tab
    fill(tab)
    tab.fill("#steps", "9999")
    tab.click("#generate")
    expect(tab.locator("#steps-problem")).to_contain_text("steps", timeout=WAIT_MS)
    expect(tab.locator("#steps")).to_have_attribute("aria-invalid", "true")
    expect(tab.locator("#steps")).to_be_focused()
    expect(tab.locator("#alert")).to_be_hidden()


def test_result_states_how_exact_it_is_and_what_was_downloaded(visit: Visit, server: Addresses) -> None:
    tab = visit.tab
    with urllib.request.urlopen(f"{server.http}/codec/info") as response:
        decoder_bytes = json.load(response)["models"][0]["decoders"][0]["size_bytes"]
    runtime_bytes = (FILES / "ort-wasm.wasm").stat().st_size
    fill(tab)
    expect(tab.locator("#pipeline-hint")).to_contain_text("rounded to 8 bits, half the size of raw")
    expect(tab.locator("#pipeline-hint")).to_contain_text("SSIM of at least 0.98")
    generate(tab)
    assert (
        len(re.findall(r" as (?:PNG|JPEG|WebP) \([\d.,]+ times as much\)", tab.locator("#saved-text").inner_text()))
        == 3
    )
    once = tab.locator("#saved-once").inner_text()
    assert f"the decoder ({decoder_bytes / 1e6:.1f} MB)" in once
    assert f"the runtime that runs it ({runtime_bytes / 1e6:.0f} MB)" in once
    assert re.search(r"compared with PNG, after [\d,]+ images", once)
    expect(tab.locator("#saved-fidelity")).to_contain_text("int8 rounds the latents to 8 bits")
    tab.select_option("#pipeline", "raw")
    generate(tab)
    expect(tab.locator("#saved-fidelity")).to_have_text("raw sends the model's values in fp16, not rounded further.")
    assert visit.problems == []


def test_formats_are_measured_and_compared(visit: Visit) -> None:
    tab = visit.tab
    fill(tab)
    generate(tab)
    tab.click("#compare-run")
    expect(tab.locator("#compare-view")).to_be_visible(timeout=WAIT_MS)
    texts = tab.locator("#trio figcaption").all_inner_texts()
    assert [text.partition(",")[0] for text in texts] == ["raw", "int8", "int4"]
    assert "PSNR" in texts[2]
    expect(tab.locator("#saved-fidelity")).to_contain_text(
        re.compile(r"int8 rounds .* differs from raw by at most \d+ of 255")
    )
    tab.check('[name="view"][value="difference"]')
    expect(tab.locator("#trio canvas").nth(2)).to_have_attribute("aria-label", "Difference of int4 and raw")
    tab.click("#measure")
    expect(tab.locator("#measure")).to_be_hidden(timeout=WAIT_MS)
    expect(tab.locator("#sizes-note")).to_contain_text("Latents were measured")
    names = tab.locator("#sizes-rows th").all_inner_texts()
    assert names.index("Latents, int4") < names.index("Latents, raw") < names.index("PNG")
    raw_row = tab.locator("#sizes-rows tr", has_text="Latents, raw")
    expect(raw_row).to_contain_text("values in fp16, not rounded further")
    expect(tab.locator(".current td").nth(1)).to_have_text(re.compile(r"^1\.0"))
    assert re.search(r"rounded to 4 bits, PSNR [\d.]+ dB to raw", tab.locator("#sizes-rows").inner_text())
    assert visit.problems == []


def test_code_samples_follow_the_form_and_the_keyboard(visit: Visit) -> None:
    tab = visit.tab
    fill(tab, steps=3)
    sample = tab.locator("#sample-text")
    expect(sample).to_contain_text('"steps":3')
    tab.focus("#tab-curl")
    tab.keyboard.press("ArrowRight")
    expect(sample).to_contain_text("HttpClient")
    compile(sample.inner_text(), "sample", "exec")
    tab.keyboard.press("ArrowRight")
    expect(sample).to_contain_text("codec.latents.v1.LatentService/Generate")


def test_axe_finds_no_serious_violation(visit: Visit, packages: Path) -> None:
    tab = visit.tab
    fill(tab)
    generate(tab)
    tab.click("#more summary")
    tab.evaluate((packages / "axe-core" / "axe.min.js").read_text())
    for scheme, width in (("light", 1280), ("dark", 390)):
        tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        tab.set_viewport_size({"width": width, "height": 900})
        found = tab.evaluate("() => axe.run()")["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] != "minor"] == []
        assert tab.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_page_without_a_decoder_lets_the_server_decode_and_states_how_to_get_one(visit: Visit) -> None:
    def remove_decoders(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=re.sub('data-decoders="[^"]*"', 'data-decoders=""', response.text()))

    tab = visit.tab
    tab.route(re.compile("/$"), remove_decoders)
    tab.reload()
    fill(tab)
    assert tab.locator("#decoder option").all_text_contents() == ["The server"]
    expect(tab.locator("#setup")).to_contain_text("make web")
    generate(tab)
    expect(tab.locator("#decoded-by")).to_have_text("The server decoded and sent pixels")
    expect(tab.locator("#saved-once")).to_be_hidden()
    assert colours(tab) > 100
    assert visit.problems == []


def test_browser_draws_the_pixels_that_the_server_decodes(visit: Visit, server: Addresses, tmp_path: Path) -> None:
    tab = visit.tab
    fill(tab, steps=4, size="128x128")
    tab.select_option("#pipeline", "raw")
    generate(tab)
    expect(tab.locator("#decoded-by")).to_have_text("Decoded in this browser (WebAssembly)")
    tab.click("#check")
    expect(tab.locator("#check-result")).to_contain_text("The largest difference is 1 of 255", timeout=WAIT_MS)
    drawn = drawn_by(visit)
    prompt = tab.locator("#prompt").input_value()

    def decoded_by_the_server() -> np.ndarray:
        with HttpClient(server.http, cache_dir=tmp_path).blocking() as client:
            generation = client.generate(prompt, size=(128, 128), steps=4, seed=7, pipeline="raw")
            return np.asarray(client.decode(generation).images()[0])

    with ThreadPoolExecutor(1) as pool:  # the thread of the tests runs the event loop of the browser
        expected = pool.submit(decoded_by_the_server).result()
    similarity = structural_similarity(drawn, expected, channel_axis=2)  # type: ignore[no-untyped-call]
    assert similarity >= 0.999
    assert visit.problems == []


def test_served_script_is_what_the_sources_build(packages: Path, tmp_path: Path) -> None:
    npm(PAGE, "run", "typecheck")
    npm(PAGE, "run", "build", "--", "--script-only", str(tmp_path))
    assert (FILES / "page.js").read_bytes() == (tmp_path / "page.js").read_bytes(), "run `make web` and commit page.js"
