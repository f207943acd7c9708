"""`generate --preview`: the output file while the model samples, and what it is at the end."""

import asyncio
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from codec_client import PreviewLatents, Progress
from codec_pixels.parameters import KEYWORD
from codec_server.actions.preview_writer import PreviewWriter
from codec_server.terminal.output_file import OutputFile
from codec_server.terminal.progress_bar import ProgressBar
from codec_wire.latents import LatentDtype, LatentStreamHeader
from core.diffusers_engine.loader import LoadedModel
from tests.support.commands import invoke
from tests.support.serving import Servers, http_address
from tests.support.tiny_sd import build_pipeline

REQUEST = ("generate", "a snowy mountain", "--steps", "6", "--size", "64x48", "--seed", "7")
VIDEO_HEADER = LatentStreamHeader("x/y", (4, 2, 2), LatentDtype.FP16, "raw", fps=8, total_frames=3)
HELD_STEP = 5
WAIT_S = 60


class HeldSampler:
    """A hook of the UNet that waits, before HELD_STEP of a generation, until `output` has been written."""

    output: Path | None = None
    preview = b""
    """What it contained then."""

    def __init__(self) -> None:
        self._steps = 0

    def __call__(self, *_arguments: object) -> None:
        """Run on the device thread."""
        self._steps += 1
        output = HeldSampler.output
        if output is None or self._steps != HELD_STEP:
            return
        end = time.monotonic() + WAIT_S
        while not output.exists():
            assert time.monotonic() < end, "no preview has been written"
            time.sleep(0.01)
        HeldSampler.preview = output.read_bytes()


def build_held_pipeline() -> Any:
    """Return the small pipeline with a HeldSampler. It is the factory of the model in the process of the command."""
    pipeline = build_pipeline()
    pipeline.unet.register_forward_pre_hook(HeldSampler())
    return pipeline


def build_offloaded_pipeline() -> Any:
    """Return the small pipeline with a VAE that looks offloaded."""
    pipeline = build_pipeline()
    pipeline.vae.decoder._hf_hook = None
    return pipeline


@pytest.fixture(autouse=True)
def environment(command_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeldSampler, "output", None)
    monkeypatch.setattr(HeldSampler, "preview", b"")


def check_previews(tmp_path: Path, hold: Callable[[], Any], *target: object) -> None:
    """Check that a preview is written before the generation has ended, and that the final file is that without."""
    output, expected = tmp_path / "a.png", tmp_path / "b.png"
    status, text = invoke(*REQUEST, "-o", expected, *target)
    assert status == 0, text
    hook = hold()
    try:
        HeldSampler.output = output
        status, text = invoke(*REQUEST, "-o", output, "--preview", *target)
    finally:
        if hook is not None:
            hook.remove()
    assert status == 0, text
    assert output.read_bytes() == expected.read_bytes()
    with Image.open(io.BytesIO(HeldSampler.preview)) as preview, Image.open(output) as final:
        assert (preview.size, preview.info[KEYWORD]) == (final.size, "{}")
        assert np.abs(np.asarray(preview, float) - np.asarray(final, float)).mean() > 0
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.png", "b.png"]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_file_has_previews_of_a_server_and_then_the_image(
    servers: Servers, tiny_model: LoadedModel, tmp_path: Path, protocol: str
) -> None:
    target = ("--server", http_address(servers)) if protocol == "http" else ("--grpc", servers.grpc_address)
    unet = tiny_model.pipeline.unet
    check_previews(tmp_path, lambda: unet.register_forward_pre_hook(HeldSampler()), *target)


@pytest.mark.slow
def test_file_has_previews_of_a_model_in_this_process_and_then_the_image(tmp_path: Path) -> None:
    factory = f"{__name__}:build_held_pipeline"
    check_previews(tmp_path, lambda: None, "--factory", factory, "--latent-space", "x/y", "--threads", "1")


@pytest.mark.slow
def test_failed_generation_keeps_the_last_preview_and_removes_temporary_files(
    servers: Servers, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    class Failing(HeldSampler):
        def __call__(self, *arguments: object) -> None:
            super().__call__(*arguments)
            if HeldSampler.preview:
                raise RuntimeError("the device failed")

    HeldSampler.output = tmp_path / "a.png"
    hook = tiny_model.pipeline.unet.register_forward_pre_hook(Failing())
    try:
        status, text = invoke(*REQUEST, "-o", HeldSampler.output, "--preview", "--grpc", servers.grpc_address)
    finally:
        hook.remove()
    assert status != 0
    assert text.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.png"]
    with Image.open(HeldSampler.output) as preview:
        assert preview.info[KEYWORD] == "{}"


@pytest.mark.slow
def test_offloaded_vae_does_not_decode_while_its_model_samples(tmp_path: Path) -> None:
    factory = ("--factory", f"{__name__}:build_offloaded_pipeline", "--latent-space", "x/y", "--threads", "1")
    status, text = invoke(*REQUEST, "-o", tmp_path / "a.png", "--preview", *factory)
    assert (status, text.startswith("error: --preview needs --decoder for this model")) == (2, True), text
    assert list(tmp_path.glob("*.png")) == []


async def test_only_complete_estimates_of_a_video_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Averages:
        """Decodes each latent frame to pixels of its average."""

        def require_previews(self, _client: object) -> None:
            """Do nothing."""

        async def frames(self, latents: Any, _map_hash: str | None, _client: object) -> Any:
            """See Decoding.frames."""
            averages = latents.mean(axis=(1, 2, 3)).round().astype(np.uint8)
            return np.broadcast_to(averages[:, None, None, None], (len(latents), 16, 16, 3))

    written: list[int] = []
    output = OutputFile(str(tmp_path / "a.gif"))
    with ProgressBar(Console(file=io.StringIO())) as bar:
        monkeypatch.setattr(bar, "show_preview", written.append)
        writer = PreviewWriter(output, Averages(), None, bar)  # type: ignore[arg-type]
        async with writer.writing(None), asyncio.timeout(WAIT_S):
            for step, frames in ((1, (0, 2)), (2, (0, 1, 2)), (3, (1, 2))):
                for seq in frames:
                    latents = np.full(VIDEO_HEADER.shape, 80.0 * seq, np.float32)
                    writer.add(PreviewLatents(VIDEO_HEADER, step, 4, seq, latents))
            while not written:
                await asyncio.sleep(0.01)
    assert written == [2]
    with Image.open(tmp_path / "a.gif") as image:
        assert getattr(image, "n_frames", 1) == 3


@pytest.mark.parametrize("output", ["a.bin", "-"])
def test_preview_of_an_output_that_cannot_be_replaced_is_refused(output: str, tmp_path: Path) -> None:
    path = output if output == "-" else tmp_path / output
    status, text = invoke(*REQUEST, "-o", path, "--preview", "--grpc", "127.0.0.1:1")
    assert status != 0
    assert text == "error: --preview needs an image or video file as --output, not a pipe or a latent stream\n"


def test_progress_shows_the_step_and_the_preview() -> None:
    screen = io.StringIO()
    with ProgressBar(Console(file=screen, force_terminal=True, width=120)) as bar:
        bar.update(Progress(step=5, total_steps=25))
        bar.show_preview(5)
        bar.update(Progress(step=6, total_steps=25))
    assert "6/25 steps, preview of step 5 written" in screen.getvalue()
