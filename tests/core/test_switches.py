"""The switches that settings and texts select."""

from dataclasses import replace
from pathlib import Path

import pytest

from codec_wire.errors import InvalidSettings
from core.acceleration import Acceleration, Distance
from core.acceleration_store import (
    AccelerationKey,
    AccelerationResult,
    Accelerations,
    find_acceleration,
    require_distance,
    store_acceleration,
)
from core.model import Lora
from core.settings import Settings, read_settings
from core.switches import FAST_DEFAULTS, Mode, Switches, parse_switches, switches_of, with_switches
from tests.support.serving import MODEL

KEY = AccelerationKey(latent_map="sha256:00", model="tiny", device="cpu", versions={})
SWITCHES = ("channels_last", "compile=full")
RESULT = AccelerationResult(
    switches=SWITCHES,
    speed=1.5,
    images_per_s=3.0,
    images_per_s_concurrent=None,
    peak_bytes=None,
    ssim=0.96,
    ssim_mean=0.98,
    psnr_db=31.0,
    lpips=None,
    moves_reference=True,
    images=3,
)


def entry(result: AccelerationResult = RESULT, key: AccelerationKey = KEY) -> Accelerations.Entry:
    return Accelerations.Entry(
        key=key, fixtures=("256",), reference_images_per_s=2.0, reference_peak_bytes=None, results=(result,)
    )


def test_reference_mode_has_no_switches() -> None:
    assert switches_of(Settings()) == Switches()
    assert Switches().names == ()


def test_fast_mode_has_its_defaults_unless_they_are_set() -> None:
    assert switches_of(Settings(mode="fast")) == Switches(**FAST_DEFAULTS)
    chosen = switches_of(read_settings({"mode": "FAST", "channels_last": False, "compile": "none", "vae_tiling": True}))
    assert chosen.names == ("guidance_interval=0-0.04/0.12-0.68/0.84-1", "vae_tiling")
    assert chosen.required == {"channels_last", "compile", "vae_tiling", "dtype"}


def test_switch_in_reference_mode_is_refused_with_its_name_and_value() -> None:
    with pytest.raises(
        InvalidSettings, match=r"CODEC_STEP_CACHE \(--step-cache\): got 'first_block' .*CODEC_MODE=fast"
    ):
        switches_of(Settings(step_cache="first_block"))


def test_batches_are_refused_in_reference_mode() -> None:
    with pytest.raises(InvalidSettings, match=r"--batch-size\): got 8 in reference mode, .*CODEC_MODE=fast"):
        switches_of(Settings(batch_size=8))
    assert switches_of(Settings(batch_size=8, mode="fast")) == Switches(**FAST_DEFAULTS, batch_size=8)
    assert switches_of(Settings(batch_size=8, mode="fast")).names[-1] == "batch_size=8"


def test_batches_are_refused_with_a_step_cache_that_decides_for_all_members() -> None:
    with pytest.raises(InvalidSettings, match="must be 1 with the step cache first_block.*got 8"):
        switches_of(Settings(batch_size=8, mode="fast", step_cache="first_block"))
    assert switches_of(Settings(batch_size=8, mode="fast", step_cache="taylorseer")).step_cache == "taylorseer"


def test_dtype_is_a_switch_only_in_fast_mode() -> None:
    assert switches_of(Settings(dtype="bf16")).names == ()
    assert "dtype=bf16" in switches_of(Settings(dtype="bf16", mode="fast")).names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("warp", "'warp' is not a switch; the switches are channels_last, "),
        ("compile", "needs a value: compile=VALUE"),
        ("compile=half", "'auto', 'none', 'regional' or 'full', got 'half'"),
        ("guidance_interval=0.5-1", "should match pattern .*, got '0.5-1'"),
    ],
)
def test_text_with_an_invalid_switch_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        parse_switches(text)


def test_names_of_switches_are_their_text() -> None:
    switches = parse_switches("channels_last+guidance_interval=0-0.5")
    assert "+".join(switches.names) == "channels_last+guidance_interval=0-0.5"
    assert switches_of(with_switches(Settings(), switches)) == switches


def test_stored_distance_is_found_only_with_the_same_key_and_switches(tmp_path: Path) -> None:
    store_acceleration(tmp_path, "space", entry())
    store_acceleration(tmp_path, "space", entry(RESULT.model_copy(update={"switches": ("vae_tiling",)})))
    assert find_acceleration(tmp_path, "space", KEY, tuple(reversed(SWITCHES))) == RESULT
    assert find_acceleration(tmp_path, "space", KEY, ("vae_tiling",)) is not None
    assert find_acceleration(tmp_path, "space", KEY, ("vae_slicing",)) is None
    for other in ({"latent_map": "sha256:01"}, {"model": "other"}, {"device": "cuda:0"}, {"versions": {"torch": "0"}}):
        assert find_acceleration(tmp_path, "space", KEY.model_copy(update=other), SWITCHES) is None


def test_later_result_of_the_same_switches_replaces_the_earlier_one(tmp_path: Path) -> None:
    store_acceleration(tmp_path, "space", entry())
    store_acceleration(tmp_path, "space", entry(RESULT.model_copy(update={"speed": 2.0})))
    found = find_acceleration(tmp_path, "space", KEY, SWITCHES)
    assert found is not None
    assert found.speed == 2.0


def test_damaged_file_of_distances_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store_acceleration(tmp_path, "space", entry()).write_text("{")
    assert find_acceleration(tmp_path, "space", KEY, SWITCHES) is None
    assert "is ignored" in caplog.text


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"fast_min_ssim": 0.97}, r"SSIM must be at least 0.97 \(CODEC_FAST_MIN_SSIM\), measured 0.9600"),
        ({"fast_min_psnr_db": 35}, r"PSNR must be at least 35 dB \(CODEC_FAST_MIN_PSNR_DB\), measured 31.00"),
        ({"fast_max_lpips": 0.1}, r"LPIPS must be at most 0.1 \(CODEC_FAST_MAX_LPIPS\), not measured"),
    ],
)
def test_distance_outside_of_a_bound_is_refused(bounds: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        require_distance(read_settings({"mode": "fast", **bounds}), "tiny", SWITCHES, RESULT)


def test_unmeasured_switches_are_refused_unless_they_are_allowed(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InvalidSettings, match=r"golden accelerate --switches channels_last\+compile=full"):
        require_distance(Settings(mode="fast"), "tiny", SWITCHES, None)
    assert require_distance(Settings(mode="fast", fast_unmeasured="allow"), "tiny", SWITCHES, None) is None
    assert "was not measured" in caplog.text


def test_switches_that_are_slower_than_the_reference_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    slow = RESULT.model_copy(update={"speed": 0.03})
    assert require_distance(Settings(mode="fast"), "tiny", ("dtype=bf16",), slow) == slow.distance
    assert "0.03x the speed of reference mode" in caplog.text


def test_text_of_an_acceleration_has_the_switches_and_their_distance() -> None:
    assert str(Acceleration()) == "reference"
    assert str(Acceleration(Mode.FAST, SWITCHES)) == 'fast; switches="channels_last+compile=full"; unmeasured'
    distance = Distance(ssim=0.96, psnr_db=31.0)
    text = 'fast; switches="channels_last+compile=full"; ssim=0.9600; psnr_db=31.0000'
    assert str(Acceleration(Mode.FAST, SWITCHES, distance)) == text


def test_distance_without_switches_is_known_only_without_batches() -> None:
    assert require_distance(Settings(mode="fast"), "tiny", (), None) == Distance(ssim=1.0, psnr_db=None)
    assert require_distance(Settings(mode="fast"), "tiny", ("batch_size=8",), None) is None


def test_batches_of_an_unmeasured_size_have_the_largest_distance_of_the_measured_sizes(tmp_path: Path) -> None:
    store_acceleration(tmp_path, "space", entry())
    batches = RESULT.model_copy(update={"switches": (*SWITCHES, "batch_size=4"), "ssim": 0.955})
    store_acceleration(tmp_path, "space", entry(batches))
    assert find_acceleration(tmp_path, "space", KEY, SWITCHES) == RESULT
    assert find_acceleration(tmp_path, "space", KEY, (*SWITCHES, "batch_size=4")) == batches
    assert find_acceleration(tmp_path, "space", KEY, (*SWITCHES, "batch_size=8")) == batches


def test_distance_of_a_model_does_not_apply_to_the_same_model_with_loras() -> None:
    plain = AccelerationKey.of("sha256:00", MODEL, "cpu")
    with_lora = AccelerationKey.of("sha256:00", replace(MODEL, loras=(Lora("style", 0.5),)), "cpu")
    assert with_lora.loras == ("style@0.5",)
    stored = Accelerations(entries=(entry(key=plain),))
    assert stored.find(plain, SWITCHES) == RESULT
    assert stored.find(with_lora, SWITCHES) is None
