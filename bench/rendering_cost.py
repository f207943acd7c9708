"""Measures RENDERING_STEPS: the cost of decoding to pixels, in sampling steps, for Stable Diffusion 1.

Operations are counted on torch's meta device, without weights or arithmetic. Run with `python -m bench.rendering_cost`.
"""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.sd15 import sd15_parts
from core.plan import RENDERING_STEPS


def operations(run: Callable[[], object]) -> int:
    """Return the number of floating-point operations in `run`."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    total: int = counter.get_total_flops()
    return total


def main() -> None:
    """Print the cost of one step with guidance, and of decoding, for 512x512 pixels."""
    with torch.device("meta"):
        unet, vae = sd15_parts()
        step = operations(lambda: unet(torch.empty(2, 4, 64, 64), torch.empty(2), torch.empty(2, 77, 768)))
        decoding = operations(lambda: vae.decode(torch.empty(1, 4, 64, 64)))
    print(f"one step, with guidance: {step / 1e12:.2f} TFLOP")
    print(f"decoding: {decoding / 1e12:.2f} TFLOP, {decoding / step:.2f} steps; counted as {RENDERING_STEPS}")


if __name__ == "__main__":
    main()
