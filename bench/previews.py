"""Previews of the embedded model: their SSIM to the final image, and their cost in CPU time (bench.preview_cost).

python -m bench.previews --steps 20
"""

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.preview_cost import estimate_s, partial_image_s, sending_s
from codec_golden.metrics import ssim_of_frames
from codec_pixels.device import Device
from codec_pixels.known_models import EMBEDDED, EMBEDDED_MODELS_DIR
from codec_pixels.vae import decode_latents
from codec_wire.decoder import LatentDecoder
from codec_wire.events import Preview, preview_header
from codec_wire.maps import LatentMapBundle
from codec_wire.request import GenerationRequest
from core.diffusers_engine.loader import LoadedModel, ModelSource, load
from core.diffusers_engine.previews import preview_events
from core.diffusers_engine.sampler import sample
from core.engine import Job
from core.map_store import bundle_folder
from core.plan import StreamPlan, plan

PROMPTS = ("a snowy mountain at dusk", "a calm sea at dawn", "a desert under a blue sky", "a forest in the fog")


def run(model: LoadedModel, planned: StreamPlan) -> tuple[Any, list[Preview], list[float], float]:
    """Return the latents, the previews, the CPU seconds to encode each preview, and those of the whole generation."""
    previews: list[Preview] = []
    encoding_s: list[float] = []

    def listen(done: int, total: int, estimate: Any) -> None:
        before = time.process_time()
        previews.extend(preview_events(planned, (done, total), estimate))
        encoding_s.append(time.process_time() - before)

    before = time.process_time()
    latents = sample(model, planned, Job(), lambda _done, _total: None, on_preview=listen)
    return latents, previews, encoding_s, time.process_time() - before


def main() -> None:
    """Print a table of SSIM by step, and the cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="number of steps (default: %(default)s)")
    steps = parser.parse_args().steps
    device = Device.from_settings("cpu", "fp32", 1)
    torch.set_num_threads(1)
    model = load(ModelSource(EMBEDDED.name, None, EMBEDDED_MODELS_DIR), device)
    bundle = LatentMapBundle.from_folder(bundle_folder(EMBEDDED_MODELS_DIR, model.info.latent_space))

    def planned(prompt: str, every: int | None) -> StreamPlan:
        request = GenerationRequest(prompt=prompt, steps=steps, size=(256, 256), seed=7, preview_every=every)
        return plan(request, bundle, model.info)

    def pixels(latents: Any) -> NDArray[np.uint8]:
        return decode_latents(model.pipeline.vae, latents, model.family.pipeline_class)

    similarity: dict[int, list[float]] = {}
    for prompt in PROMPTS:
        latents, previews, _, _ = run(model, planned(prompt, 1))
        final = pixels(latents)
        header = preview_header(planned(prompt, 1).header)
        for preview in previews:
            image = pixels(LatentDecoder(header).decode(preview.frame)[np.newaxis])
            similarity.setdefault(preview.index, []).append(ssim_of_frames(final, image)[0])
    for step, found in similarity.items():
        print(f"step {step:2d} of {steps}: SSIM {min(found):.3f} to {max(found):.3f}")
    costs: list[float] = []
    encoding: list[float] = []
    for _ in range(5):
        costs.append(run(model, planned(PROMPTS[0], None))[3])
        encoding += run(model, planned(PROMPTS[0], 1))[2]
    step_s = statistics.median(costs) / steps
    estimate = estimate_s(model, planned(PROMPTS[0], 1))
    parts = {"clean estimate": estimate, "encoding": statistics.median(encoding)}
    for protocol, sending in sending_s(model, device.new_executor()).items():
        parts[f"encoding and sending over {protocol}"] = sending
        parts[f"in total over {protocol}"] = estimate + sending
    parts["partial image: VAE and PNG"] = partial_image_s(model, planned(PROMPTS[0], None))
    print(f"one step: {step_s * 1000:.1f} ms of CPU time")
    for name, seconds in parts.items():
        print(f"{name}: {seconds * 1000:.3f} ms, {seconds / step_s:.2%} of a step")


if __name__ == "__main__":
    main()
