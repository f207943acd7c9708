"""Runtime settings shared by all stages: compute device, thread count, floating-point type and random generators."""

import os
from contextlib import AbstractContextManager

import numpy as np
import torch


def select_device() -> torch.device:
    """Return the default CUDA device if CUDA is available, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def limit_threads() -> None:
    """Set torch's thread count to the variable OMP_NUM_THREADS, if it is set, so that a shared machine stays usable."""
    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a bfloat16 autocast context, disabled on devices that have no bfloat16 instructions."""
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=native)


def step_rng(seed: int, step: int) -> np.random.Generator:
    """Return the random generator of one step. It depends only on the arguments, so a resumed run is reproducible."""
    return np.random.default_rng((seed, step))


def torch_rng(rng: np.random.Generator, device: torch.device) -> torch.Generator:
    """Return a torch generator on `device`, seeded with a number drawn from `rng`."""
    return torch.Generator(device).manual_seed(int(rng.integers(2**62)))
