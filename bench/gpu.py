"""Speed of the architectures of SD 1.5, SDXL and Flux.1 schnell at full size on a GPU, with random weights.

    python -m bench.gpu                         needs a GPU with 80 GB, and 40 GB of disk for temporary files
    python -m bench.gpu --models sd15 --rounds 1
    python -m bench.gpu --tiny                  tiny pipelines of the same classes, which also run on a CPU

Builds each model, and compares a plain loop of `pipe()` and PNG with the engine in reference mode, in fast mode, and in
fast mode with 8 concurrent requests in batches. The programs run in turn in every round. Then it compares the bytes of
every latent pipeline, encoded on the GPU, with those of the CPU. Nothing is downloaded. `--output FILE` writes the
tables in Markdown. The exit status is 1 if a goal is not met.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.full_models import FULL, Architecture, build_on, tiny_models
from bench.serving.report import Goal, Section, Table
from codec_golden.fast_model import FastModel
from codec_golden.fixtures import Fixture
from codec_golden.reference import ReferenceModel
from codec_wire.encoder import LatentEncoder
from codec_wire.latents import LatentDtype, LatentStreamHeader
from codec_wire.pipelines import PIPELINES, Scales
from core.settings import Settings
from core.switches import FAST_DEFAULTS, Switches

CONCURRENT = 8
LOOP, REFERENCE, FAST = "pipe() + PNG in a loop", "reference mode", "fast mode"
TOGETHER = f"fast mode, {CONCURRENT} concurrent"
GOALS = {REFERENCE: 1.05, FAST: 2.5, TOGETHER: 4.0}
"""Images/s of each program, relative to the loop."""
ENCODED_FRAMES = 8
MAGNITUDES = (0.01, 1.0, 30.0, 3000.0)
"""Standard deviations of the random latents whose encoded bytes are compared."""


def fixtures_of(architecture: Architecture, count: int, seed: int) -> list[Fixture]:
    """Return `count` requests with different prompts and seeds, so that no prompt is repeated."""
    return [
        Fixture(
            kind="image",
            resolution=architecture.side,
            seed=number,
            prompt=f"a snowy mountain at dusk, number {number}",
            steps=architecture.steps,
            fps=None,
            frames=1,
        )
        for number in range(seed, seed + count)
    ]


def run_loop(pipeline: Any, fixtures: Sequence[Fixture]) -> None:
    """Generate `fixtures` one after another with the pipeline of diffusers, and write PNG files to memory."""
    for fixture in fixtures:
        (image,) = pipeline(
            prompt=fixture.prompt,
            num_inference_steps=fixture.steps,
            width=fixture.resolution,
            height=fixture.resolution,
            generator=torch.Generator("cpu").manual_seed(fixture.seed),
        ).images
        image.save(io.BytesIO(), "PNG")


def run_engine(model: ReferenceModel, fixtures: Sequence[Fixture], concurrent: int) -> None:
    """Generate `fixtures` with the engine of the server, `concurrent` at a time."""
    for start in range(0, len(fixtures), concurrent):
        model.latents_of_concurrent(fixtures[start : start + concurrent], lambda _done, _total: None)


def images_per_s(
    programs: Mapping[str, Callable[[Sequence[Fixture]], None]], architecture: Architecture, rounds: int, images: int
) -> dict[str, float]:
    """Return the median of the images/s of each program over `rounds`, after a first image that fills caches."""
    found: dict[str, list[float]] = {name: [] for name in programs}
    seed = 0
    for number in range(rounds + 1):
        for name, run in programs.items():
            count = max(images, CONCURRENT) if name == TOGETHER else images
            fixtures, seed = fixtures_of(architecture, count, seed), seed + count
            started_at = time.perf_counter()
            run(fixtures)
            if number > 0:
                found[name].append(count / (time.perf_counter() - started_at))
    return {name: statistics.median(values) for name, values in found.items()}


def measure_model(name: str, architecture: Architecture, device: str, rounds: int, images: int) -> dict[str, float]:
    """Build the model and return the images/s of each program."""
    with tempfile.TemporaryDirectory() as folder:
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        pipeline = build_on(torch.device(device), dtype, architecture.build)
        pipeline.to(dtype).save_pretrained(Path(folder, name))
        del pipeline
        settings = Settings(model=name, models_dir=folder, device=device)  # type: ignore[arg-type]
        reference = ReferenceModel(settings)
        fast = None
        try:
            switches = Switches(**FAST_DEFAULTS, batch_size=CONCURRENT)
            fast = FastModel(settings.model_copy(update={"batch_window_ms": 1.0}), switches)
            print(f"{name}: fast mode with {'+'.join(fast.switches)}", flush=True)
            fast.compile(fixtures_of(architecture, 1, 0))
            # The components without the caches of the server, so that the loop encodes every prompt.
            plain = type(reference.pipeline)(**reference.pipeline.components)
            plain.set_progress_bar_config(disable=True)
            programs: dict[str, Callable[[Sequence[Fixture]], None]] = {
                LOOP: lambda fixtures: run_loop(plain, fixtures),
                REFERENCE: lambda fixtures: run_engine(reference, fixtures, 1),
                FAST: lambda fixtures: run_engine(fast, fixtures, 1),
                TOGETHER: lambda fixtures: run_engine(fast, fixtures, CONCURRENT),
            }
            return images_per_s(programs, architecture, rounds, images)
        finally:
            for model in (reference, fast):
                if model is not None:
                    model.close()


def different_pipelines(device: str, shape: tuple[int, int, int] = (16, 128, 128)) -> list[str]:
    """Return the latent pipelines whose bytes differ between `device` and the CPU, for random latents of `shape`."""
    return [
        f"{pipeline}, {dtype}"
        for pipeline in PIPELINES
        for dtype in LatentDtype
        if _encoded(pipeline, dtype, shape, device) != _encoded(pipeline, dtype, shape, "cpu")
    ]


def _encoded(pipeline: str, dtype: LatentDtype, shape: tuple[int, int, int], device: str) -> list[bytes]:
    spec, random = PIPELINES[pipeline], np.random.default_rng(0)
    scales = None
    if spec.scales is Scales.STATIC:
        scales = random.uniform(0.5, 4, shape[0]).astype("<f2").tobytes()
    data = []
    for magnitude in MAGNITUDES:
        encoder = LatentEncoder(LatentStreamHeader("random", shape, dtype, pipeline, scales))
        for seq in range(ENCODED_FRAMES):
            values = (random.standard_normal(shape) * magnitude).astype(dtype.numpy)
            latent = torch.from_numpy(values).to(device)
            keyframe = not spec.delta or seq % 3 == 0
            data.append(encoder.encode(latent, keyframe=keyframe, last=seq == ENCODED_FRAMES - 1).data)
    return data


def section_of(results: Mapping[str, Mapping[str, float]], different: Sequence[str], device_name: str) -> Section:
    """Return the tables. `results` are the images/s by model and program."""
    rows = [
        (model, program, f"{speed:.3g}", f"{speed / speeds[LOOP]:.2f} x")
        for model, speeds in results.items()
        for program, speed in speeds.items()
    ]
    goals = [
        Goal(f"{model}, {program}: images/s to {LOOP}", speeds[program] / speeds[LOOP], limit, at_least=True)
        for model, speeds in results.items()
        for program, limit in GOALS.items()
    ]
    goals.append(Goal("latent pipelines whose bytes differ from those of the CPU", len(different), 0, unit=""))
    text = f"Random weights, on {device_name}, torch {torch.__version__}."
    return Section(
        "gpu",
        "Full-size architectures",
        "\n\n".join([text, *(f"* different: {one}" for one in different)]),
        [Table(("model", "program", "images/s", "to the loop"), rows)],
        goals,
        "bench.gpu",
    )


def measure(models: Mapping[str, Architecture], device: str, rounds: int, images: int) -> Section:
    """Measure `models` on `device` and return the tables."""
    results = {}
    for name, architecture in models.items():
        results[name] = measure_model(name, architecture, device, rounds, images)
        if device != "cpu":
            torch.cuda.empty_cache()
    device_name = device if device == "cpu" else torch.cuda.get_device_name(device)
    return section_of(results, different_pipelines(device), device_name)


def main() -> int:
    """Run the command line. Return exit status 1 if a goal is not met."""
    parser = argparse.ArgumentParser(description="Speed of full-size architectures on a GPU.")
    parser.add_argument("--models", nargs="+", choices=tuple(FULL), default=tuple(FULL), help="(default: all)")
    parser.add_argument("--device", default="cuda", help="(default: %(default)s; with --tiny without a GPU: cpu)")
    parser.add_argument("--rounds", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--images", type=int, default=4, help="images per row and round (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="measure tiny pipelines of the same classes")
    parser.add_argument("--output", type=Path, help="Markdown file for the tables")
    options = parser.parse_args()
    device = options.device
    if not torch.cuda.is_available():
        if not options.tiny:
            parser.error("no GPU found; --tiny measures tiny pipelines, which also run on a CPU")
        device = "cpu"
    models = tiny_models() if options.tiny else FULL
    section = measure({name: models[name] for name in options.models}, device, options.rounds, options.images)
    section.print()
    if options.output is not None:
        options.output.write_text(section.markdown())
    return 1 if any(not goal.met for goal in section.goals) else 0


if __name__ == "__main__":
    sys.exit(main())
