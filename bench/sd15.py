"""Time and memory of serving Stable Diffusion 1.5 at full size: `python -m bench.sd15`.

Builds the original architecture with random weights from diffusers' configurations in a temporary folder, starts
`codec-diffusers serve` with it in a subprocess, requests one image, and prints durations and peak memory. Nothing is
downloaded.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import torch

from codec_pixels.library_logging import silence_libraries
from codec_wire import StreamReader, WireFormat

READY_S = 900


def sd15_parts() -> tuple[Any, Any]:
    """Return the UNet and the VAE with random weights."""
    silence_libraries()
    from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: PLC0415 - takes seconds, and --help should not

    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=512,
    )
    # The defaults of the UNet are those of SD 1 except for the width of the text embeddings.
    return UNet2DConditionModel(sample_size=64, cross_attention_dim=768), vae


def clip_l() -> Any:
    """Return the text encoder of CLIP ViT-L/14 with random weights."""
    from transformers import CLIPTextConfig, CLIPTextModel  # noqa: PLC0415 - takes seconds, and --help should not

    return CLIPTextModel(
        CLIPTextConfig(
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            projection_dim=768,
            hidden_act="quick_gelu",
        )
    )


def build(folder: Path, dtype: torch.dtype) -> int:
    """Write the pipeline to `folder` and return the number of parameters."""
    silence_libraries()
    from diffusers import PNDMScheduler, StableDiffusionPipeline  # noqa: PLC0415 - takes seconds, and --help should not

    from tests.support.tiny_sd import build_pipeline  # noqa: PLC0415

    torch.manual_seed(0)
    unet, vae = sd15_parts()
    text = clip_l()
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=build_pipeline().tokenizer,
        unet=unet,
        scheduler=PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype).save_pretrained(folder)
    return sum(weight.numel() for part in (unet, text, vae) for weight in part.parameters())


class Server:
    """`codec-diffusers serve` in a subprocess, with `options` that select and load the model."""

    def __init__(self, options: Sequence[str]) -> None:
        command = [sys.executable, "-c", "from codec_server.cli import main; main()"]
        command += ["serve", *options, "--port", "0", "--grpc-port", "0"]
        command += ["--calibration-images", "0", "--request-timeout-s", "3600"]
        self.started = time.perf_counter()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = ""
        self.ready_s = 0.0
        assert self.process.stdout is not None
        timer = threading.Timer(READY_S, self.process.kill)
        timer.start()
        for line in self.process.stdout:
            if found := re.search(r"(http://[\d.:]+)/v1", line):
                self.address = self.address or found[1]
            if line.startswith("Ready"):
                self.ready_s = time.perf_counter() - self.started
                break
        timer.cancel()
        if not self.ready_s:
            raise SystemExit(f"the server did not become ready within {READY_S} s")

    def memory_gb(self, field: str) -> float:
        """Return VmRSS (current) or VmHWM (peak memory) of the process, in GB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{field}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024 / 1e9

    def stop(self) -> None:
        """Terminate the process and wait for it."""
        self.process.terminate()
        self.process.wait(60)


async def request_image(address: str, steps: int) -> tuple[float, list[int]]:
    """Request one 256x256 image; return the duration in seconds and the shape of the latent frame."""
    body = {"prompt": "a snowy mountain at dusk", "stream_format": "msgpack", "pipeline": "int8-adaptive"}
    body |= {"size": "256x256", "steps": steps}  # type: ignore[dict-item]
    timeout = aiohttp.ClientTimeout(total=3600)
    async with aiohttp.ClientSession(timeout=timeout, headers={"Accept-Encoding": "identity"}) as session:
        started = time.perf_counter()
        async with session.post(f"{address}/v1/images/generations", json=body) as response:
            content = await response.read()
        seconds = time.perf_counter() - started
    reader = StreamReader(WireFormat.MSGPACK)
    header, *frames = reader.feed(content)
    reader.close()
    if not frames or getattr(frames[-1], "finish_reason", None) != "ok":
        raise SystemExit(f"the response must be one complete latent frame, got {frames}")
    return seconds, list(getattr(header, "shape", ()))


def measure(dtype: str, steps: int, threads: int) -> dict[str, Any]:
    """Build the model, serve it, request an image, and return the measurements."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "sd15")
        started = time.perf_counter()
        parameters = build(model, {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype])
        built_s = time.perf_counter() - started
        on_disk = sum(file.stat().st_size for file in model.rglob("*") if file.is_file())
        options = ["--model", str(model), "--models-dir", folder, "--dtype", dtype, "--threads", str(threads)]
        server = Server(options)
        try:
            loaded_gb = server.memory_gb("VmRSS")
            seconds, shape = asyncio.run(request_image(server.address, steps))
            return {
                "dtype": dtype,
                "parameters": parameters,
                "on_disk_gb": round(on_disk / 1e9, 2),
                "build_s": round(built_s, 1),
                "ready_s": round(server.ready_s, 1),
                "memory_ready_gb": round(loaded_gb, 2),
                "request_s": round(seconds, 1),
                "steps": steps,
                "latent": shape,
                "memory_after_gb": round(server.memory_gb("VmRSS"), 2),
                "memory_peak_gb": round(server.memory_gb("VmHWM"), 2),
                "threads": threads,
                "cores": len(os.sched_getaffinity(0)),
            }
        finally:
            server.stop()


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    print(json.dumps(measure(options.dtype, options.steps, options.threads), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
