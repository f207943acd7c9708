"""CPU time until the first sampling step, for a new prompt and for a repeated one: `python -m bench.prompt_cache`.

The models are the embedded model, and Stable Diffusion 1.5 at full size with random weights. Only the text encoders
run, because the generation is cancelled when the UNet is called. New and repeated prompts alternate.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.sd15 import build
from codec_pixels.device import Device
from codec_pixels.known_models import EMBEDDED
from core.diffusers_engine.loader import LoadedModel, ModelSource, load

ROUNDS = 20


class FirstStep(Exception):
    """Ends a generation when its first step begins."""


def cpu_s(model: LoadedModel, prompt: str) -> float:
    """Return the CPU seconds from the call of the pipeline until its denoiser is called."""

    def stop(*_arguments: Any) -> None:
        raise FirstStep

    hook = model.pipeline.unet.register_forward_pre_hook(stop)
    started_at = time.process_time()
    try:
        model.pipeline(prompt=prompt, num_inference_steps=20, output_type="latent")
    except FirstStep:
        return time.process_time() - started_at
    finally:
        hook.remove()
    raise RuntimeError("the pipeline did not call its UNet")


def measure(model: LoadedModel) -> tuple[float, float]:
    """Return the median CPU seconds for new prompts and for repeated ones."""
    new, repeated = [], []
    prompts: Callable[[], str] = map("a snowy mountain at dusk, number {}".format, itertools.count()).__next__
    cpu_s(model, prompts())
    for _ in range(ROUNDS):
        prompt = prompts()
        new.append(cpu_s(model, prompt))
        repeated.append(cpu_s(model, prompt))
    return statistics.median(new), statistics.median(repeated)


def main() -> int:
    """Measure both models and print a table."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    device = Device.from_settings("cpu", "fp32", 1)
    torch.set_num_threads(1)
    table = Table("model", "new prompt, ms", "repeated prompt, ms")
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), torch.float32)
        for label, name in (("embedded", EMBEDDED.name), ("Stable Diffusion 1.5", folder)):
            new, repeated = measure(load(ModelSource(name, None, Path(folder)), device))
            table.add_row(label, f"{new * 1000:.1f}", f"{repeated * 1000:.1f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
