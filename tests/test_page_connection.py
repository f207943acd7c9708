"""The page at / in Chromium: cancellation, lost connections, access keys, and a server that is stopped."""

import hashlib
import json
import re
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from codec_pixels.device_thread import DeviceThread
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.vae_engine import DiffusersVae
from tests.support.background import background_servers
from tests.support.browser import needs_chromium, run_chromium
from tests.support.held_sampler import (
    HELD_STEP,
    HeldSampler,
    hold_sampler,
    wait_for_device_thread,
    wait_until_cancelled,
    wait_until_no_jobs,
)
from tests.support.page import WAIT_MS, build_decoders, colours, fill, generate, visit_page, wait_until_idle
from tests.support.processes import Addresses, start_process, start_server
from tests.support.relay import run_relay
from tests.support.serving import http_address

pytestmark = [pytest.mark.slow, needs_chromium]

KEY = "key-of-alice"


@pytest.fixture(scope="module", autouse=True)
def decoders() -> None:
    """The decoders of the page, built."""
    build_decoders()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with run_chromium() as browser:
        yield browser


def test_no_further_step_runs_after_cancel_was_pressed(
    browser: Browser, engine: DiffusersEngine, tiny_model: LoadedModel, device_thread: DeviceThread
) -> None:
    vae = DiffusersVae(tiny_model, device_thread)
    with background_servers(engine, tiny_model.info, vae=vae, max_jobs=1) as (servers, thread):

        async def hold() -> HeldSampler:
            return stack.enter_context(hold_sampler(tiny_model))

        with ExitStack() as stack, visit_page(browser, http_address(servers)) as visit:
            tab = visit.tab
            fill(tab, steps=30)
            sampler = thread.run(hold())
            tab.click("#generate")
            expect(tab.locator("#status")).to_contain_text(f"step {HELD_STEP - 1} of 30", timeout=WAIT_MS)
            thread.run(sampler.reached.wait())
            tab.click("#cancel")
            expect(tab.locator("#status")).to_have_text("Cancelled.")
            thread.run(wait_until_cancelled(servers))  # the device is still in its third step
            sampler.release()
            thread.run(wait_until_no_jobs(servers))
            thread.run(wait_for_device_thread(engine))
            assert sampler.steps == HELD_STEP
            fill(tab)
            tab.click("#generate")  # the only place is free
            expect(tab.locator("#saved")).to_be_visible(timeout=WAIT_MS)
            assert visit.problems == []


def test_connection_lost_in_mid_stream_shows_what_is_known_and_offers_another_attempt(
    browser: Browser, one_job_server: Addresses
) -> None:
    server = one_job_server
    with (
        run_relay(server.http.removeprefix("http://")) as relay,
        visit_page(browser, f"http://{relay.address}") as visit,
    ):
        tab = visit.tab
        fill(tab, steps=40, size="512x512")
        tab.click("#generate")
        expect(tab.locator("#canvas")).to_have_attribute("aria-label", re.compile("^Preview"), timeout=WAIT_MS)
        relay.cut()
        expect(tab.locator("#alert-title")).to_have_text("The connection was lost", timeout=WAIT_MS)
        known = tab.locator("#alert-known")
        expect(known).to_contain_text(re.compile(r"\d+ of 40 steps were completed, 0 of 1 frame arrived"))
        assert colours(tab) > 50  # the last preview
        wait_until_idle(server.http)  # the server has stopped the generation
        tab.select_option("#size", "64x64")
        tab.click("#retry")
        expect(tab.locator("#saved")).to_be_visible(timeout=WAIT_MS)
        expect(tab.locator("#alert")).to_be_hidden()


def test_access_key_is_requested_and_then_sent_with_every_request(browser: Browser, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"alice sha256:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
    with (
        start_server("--models-dir", str(tmp_path), "--api-keys-file", str(keys)) as server,
        visit_page(browser, server.http) as visit,
    ):
        tab = visit.tab
        fill(tab)
        tab.click("#generate")
        expect(tab.locator("#alert-title")).to_have_text("An access key is required", timeout=WAIT_MS)
        expect(tab.locator("#key")).to_be_focused()
        tab.keyboard.type(KEY)
        generate(tab)
        tab.click("#check")
        expect(tab.locator("#check-result")).to_contain_text("pixels", timeout=WAIT_MS)
        tab.click("#measure")
        expect(tab.locator("#measure")).to_be_hidden(timeout=WAIT_MS)
        assert KEY not in tab.locator("#sample-text").inner_text()
        assert tab.evaluate("() => [localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_server_that_is_stopped_is_explained(browser: Browser, tmp_path: Path) -> None:
    ports = ["serve", "--port", "0", "--grpc-port", "0", "--threads", "1", "--models-dir", str(tmp_path)]
    with start_process(ports, HF_HUB_OFFLINE="1") as process:
        server = process.wait_for(r"(http://127\.0\.0\.1:\d+)/v1/images").group(1)
        process.wait_for("Ready after")
        with visit_page(browser, server) as visit:
            tab = visit.tab
            fill(tab)
            body = json.dumps({"prompt": "a sea", "pipeline": "raw", "steps": 250, "size": "512x512"}).encode()
            request = urllib.request.Request(
                f"{server}/v1/images/generations", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request):  # keeps the server from ending at once
                process.popen.send_signal(signal.SIGTERM)
                process.wait_for("draining")
                tab.click("#generate")
                expect(tab.locator("#alert-title")).to_have_text("The server is shutting down", timeout=WAIT_MS)
                expect(tab.locator("#retry")).to_contain_text("Try again")
            process.exit_status()
            tab.clock.install()
            tab.locator("#generate").click()
            expect(tab.locator("#alert-title")).to_have_text("The server does not respond", timeout=WAIT_MS)
