"""VMAF with the packaged ffmpeg, and the reasons if it is not measured."""

import numpy as np
import pytest

from codec_golden import vmaf as module
from codec_golden.errors import NotMeasured
from codec_golden.vmaf import vmaf


@pytest.fixture
def video() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (1, 16, 16, 3)).astype(np.uint8)
    image = coarse.repeat(8, axis=1).repeat(8, axis=2)
    return np.concatenate([np.roll(image, shift, axis=2) for shift in range(6)])


def test_vmaf_is_high_for_the_same_video_and_lower_with_noise(
    video: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> None:
    noise = np.random.default_rng(1).integers(-40, 41, video.shape)
    noisy = np.clip(video + noise, 0, 255).astype(np.uint8)
    same, worse = vmaf(video, video, 24), vmaf(video, noisy, 24)
    assert same > 90
    assert worse < same - 10


def test_not_measured_has_a_reason(
    video: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotMeasured, match="at least 16 pixels per side"):
        vmaf(video[:, :8], video[:, :8], 24)
    monkeypatch.setattr(module, "_ffmpeg", lambda: "/bin/false")
    with pytest.raises(NotMeasured, match="ffmpeg could not measure VMAF"):
        vmaf(video, video, 24)


def test_an_ffmpeg_without_libvmaf_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: "/bin/true")
    module._ffmpeg.cache_clear()
    try:
        with pytest.raises(NotMeasured, match="without libvmaf"):
            module._ffmpeg()
    finally:
        module._ffmpeg.cache_clear()
