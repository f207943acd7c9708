"""Fast mode from the measurement to the response: `golden accelerate`, then a server with the measured switches."""

import asyncio
import json
from pathlib import Path

import pytest

from codec_golden.fast_model import FastModel
from codec_golden.reference import ReferenceModel
from codec_server.local_model import LocalModel
from codec_wire.errors import InvalidSettings
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import MODE_KEY
from codec_wire.http import MODE_HEADER
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.map_store import bundle_folder
from core.role import Role
from core.service import LatentService
from core.settings import Settings, read_settings
from core.switches import FAST_DEFAULTS, Switches
from tests.support.commands import invoke
from tests.support.families.images import build_flux
from tests.support.grpc_requests import request
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.serving import run_http_gateway, run_servers_for
from tests.support.tiny_sd import build_bundle, build_small_pipeline

pytestmark = pytest.mark.slow

SPACE = "tiny-fast-vae"
SWITCHES = "channels_last+guidance_interval=0-0.9"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models directory with a tiny model, whose switches were measured with the command."""
    folder = tmp_path_factory.mktemp("models")
    build_small_pipeline().save_pretrained(folder / "tiny-fast")
    build_bundle(SPACE, 64).write(bundle_folder(folder, SPACE))
    flags = ("--models-dir", folder, "--model", "tiny-fast", "--latent-space", SPACE, "--threads", "1")
    sets = f"{SWITCHES},channels_last+batch_size=2,step_cache=first_block"
    status, output = invoke(
        "golden", "accelerate", folder / "out", *flags, "--images", "1", "--concurrent", "2", "--switches", sets
    )
    assert status == 0, output
    columns = ("speed, 1 request", "images/s, 1 request", "speed, 2 requests", "images/s, 2 requests", "memory")
    assert f"| switches | {' | '.join(columns)} |" in output
    return folder


def settings_for(models_dir: Path, **fields: object) -> Settings:
    """Return settings of a server in fast mode with channels_last and without compilation."""
    chosen = {"mode": "fast", "compile": "none", "guidance_interval": "0-0.9", **fields}
    model = {"model": "tiny-fast", "latent_space": SPACE, "models_dir": models_dir}
    return read_settings({**model, "device": "cpu", "threads": 1, **chosen})


async def start(settings: Settings) -> tuple[LocalModel, LatentService]:
    local, service = LocalModel(settings), LatentService(Lifecycle(), Admission(8, 10**12))
    try:
        await local.start_serving(service)
    except BaseException:
        await asyncio.to_thread(local.free)
        raise
    return local, service


def test_command_writes_table_plot_and_results_and_stores_them_next_to_the_map(measured: Path) -> None:
    table = (measured / "out" / "acceleration.md").read_text()
    assert f"`{SWITCHES}`" in table
    assert "* `step_cache=first_block`: CODEC_STEP_CACHE" in table
    assert (measured / "out" / "acceleration.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((measured / "out" / "acceleration.json").read_text())
    (stored,) = json.loads((bundle_folder(measured, SPACE) / "accelerations.json").read_text())["entries"]
    assert written == stored
    sets = [SWITCHES.split("+"), ["channels_last", "batch_size=2"]]
    assert [result["switches"] for result in stored["results"]] == sets
    for result in stored["results"]:
        assert result["speed"] > 0
        assert result["speed_concurrent"] > 0
        assert result["concurrent"] == 2
        for rate in ("images_per_s", "images_per_s_concurrent"):
            assert result[rate] > 0
            assert result[f"reference_{rate}"] > 0
        assert result["images"] == 3, "one alone, and two at the same time"
        assert result["moves_reference"]
        assert 0 < result["ssim"] <= 1
    single, batches = (result["peak_bytes"] for result in stored["results"])
    assert batches > 1.5 * single
    assert stored["reference_images_per_s_concurrent"] > 0


def test_table_states_the_fastest_sets_and_why_a_metric_is_missing(measured: Path) -> None:
    table = (measured / "out" / "acceleration.md").read_text()
    assert "\n| reference | 1.00x | " in table
    assert "\n* 1 request: " in table
    assert "\n* 2 concurrent requests: " in table
    assert "\nLPIPS was not measured: AlexNet weights are not configured; set --lpips-backbone.\n" in table


def test_batches_larger_than_the_number_of_concurrent_requests_are_not_measured(measured: Path) -> None:
    status, output = invoke(
        "golden", "accelerate", measured / "none", "--switches", "batch_size=4", "--concurrent", "2"
    )
    assert status == 2
    assert "--concurrent: must be at least 4 (the largest batch_size that is measured), got 2" in output


async def test_every_response_of_a_fast_server_has_its_switches_and_their_distance(measured: Path) -> None:
    local, service = await start(settings_for(measured, fast_min_ssim=0))
    try:
        async with run_servers_for(service) as servers, run_http_gateway(servers.grpc_address) as (_, gateway):
            for http in (servers.http, gateway):
                async with http.get("/codec/info") as response:
                    info = await response.json()
                assert (info["mode"], info["switches"]) == ("fast", SWITCHES.split("+"))
                assert 0 < info["distance"]["ssim"] < 1
                async with http.post(IMAGES, json=LATENTS) as response:
                    header = response.headers[MODE_HEADER]
                assert header.startswith(f'fast; switches="{SWITCHES}"; ssim=0.')
            async with servers.http.get("/metrics") as response:
                text = await response.text()
            assert f'codec_mode_info{{mode="fast",model="tiny-fast",switches="{SWITCHES}"}} 1.0' in text
            assert 'codec_mode_distance{metric="ssim",model="tiny-fast"} 0.' in text
            call = servers.stub.Generate(request())
            assert dict(await call.initial_metadata())[MODE_KEY] == header
            described = (await servers.stub.GetServerInfo(pb.GetServerInfoRequest())).models[0].acceleration
            assert list(described.switches) == SWITCHES.split("+")
            assert described.distance.ssim == info["distance"]["ssim"]
    finally:
        await asyncio.to_thread(local.free)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vae_tiling": True}, r"was not measured: measure it with .*golden accelerate --switches .*vae_tiling"),
        ({"fast_min_ssim": 1}, r"outside the bounds: SSIM must be at least 1 \(CODEC_FAST_MIN_SSIM\), measured 0\."),
        ({"step_cache": "mag"}, r"CODEC_STEP_CACHE \(--step-cache\): the value mag .*no step caches"),
    ],
)
async def test_fast_server_with_unmeasured_or_distant_switches_does_not_start(
    measured: Path, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidSettings, match=message):
        await start(settings_for(measured, **fields))


def test_defaults_that_a_model_cannot_have_are_left_off_in_a_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    build_flux().save_pretrained(tmp_path / "flux")
    settings = read_settings({"model": "flux", "models_dir": tmp_path, "device": "cpu", "threads": 1})
    model = FastModel(settings, Switches(**FAST_DEFAULTS, batch_size=2))
    try:
        assert model.switches == ("batch_size=2",)
    finally:
        model.close()


def test_golden_fixtures_are_not_made_in_fast_mode(measured: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"CODEC_MODE \(--mode\) is fast, but golden fixtures are only generated"):
        ReferenceModel(settings_for(measured))


async def test_decoder_has_only_the_switches_that_affect_a_vae(tmp_path: Path) -> None:
    service = LatentService(Lifecycle(), Admission(32, 10**12))
    decoder = LocalModel(Settings(mode="fast", device="cpu", models_dir=tmp_path), Role.DECODER)
    await decoder.start_serving(service)
    assert [served.acceleration.switches for served in service.models] == [("channels_last",)]
    decoder.free()
