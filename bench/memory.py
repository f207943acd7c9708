"""Compare the memory that is predicted for a generation of the embedded model with the growth of resident memory.

    python -m bench.memory --side 128 --frames 64      latents of a video; 1 frame is an image
    python -m bench.memory --side 512 --rendered       with decoding to pixels

The model runs with 1 CPU thread and 1 step. Requires Linux, which can reset the peak of the resident memory.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from codec_maps.model_map import map_from_model
from codec_pixels.device import Device
from codec_server.warm_up import warm_ups
from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest
from core.diffusers_engine import loader, sources
from core.diffusers_engine.rendering import render
from core.diffusers_engine.sampler import sample
from core.engine import Job
from core.plan import plan
from core.role import Role
from core.settings import Settings

PROCESS = Path("/proc/self")
RESET_PEAK = "5"
"""Value that resets the peak when it is written to /proc/self/clear_refs, see proc_pid_clear_refs(5)."""


def resident_mb(name: str) -> float:
    """Return a value of /proc/self/status in MB: VmRSS is the current resident memory, VmHWM its peak."""
    line = next(line for line in (PROCESS / "status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / 1e6


def compare(side: int, frames: int, *, rendered: bool) -> None:
    """Print the predicted and the measured memory of one generation."""
    settings = Settings(device="cpu", threads=1)
    device = Device.from_settings("cpu", "fp32", 1)
    model = loader.load(sources.model_sources(settings, Role.ALL)[0], device)
    bundle = map_from_model(model.info, model.vae_scale_factor, model.vae_class)
    modality = Modality.IMAGE if frames == 1 else Modality.VIDEO
    (warm_up,) = warm_ups(model, bundle, Role.ALL, modality)
    predictor = warm_up.run()
    if predictor is None:
        raise RuntimeError("the memory was not measured")
    request = GenerationRequest(
        prompt="x", modality=modality, size=(side, side), steps=1, frames=None if frames == 1 else frames
    )
    planned = replace(plan(request, bundle, model.info), rendered=rendered)
    before = resident_mb("VmRSS")
    (PROCESS / "clear_refs").write_text(RESET_PEAK)
    latents = sample(model, planned, Job(), lambda _done, _total: None)
    if rendered:
        render(model, planned, latents, Job())
    measured = resident_mb("VmHWM") - before
    print(f"predicted {predictor.generation(planned).peak / 1e6:.0f} MB, measured {measured:.0f} MB")


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=128, help="width and height in pixels (default: 128)")
    parser.add_argument("--frames", type=int, default=1, help="number of video frames (default: 1, an image)")
    parser.add_argument("--rendered", action="store_true", help="decode the latents to pixels")
    options = parser.parse_args()
    thread = Device.from_settings("cpu", "fp32", 1).new_executor()
    thread.submit(compare, options.side, options.frames, rendered=options.rendered).result()
    return 0


if __name__ == "__main__":
    sys.exit(main())
