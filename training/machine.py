"""Where training runs: the device, its fast number type, and a generator for every step."""

import os
from contextlib import AbstractContextManager

import numpy as np
import torch


def device() -> torch.device:
    """Return the first CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def limit_threads() -> None:
    """Give torch no more threads than OMP_NUM_THREADS says, for a machine that is shared."""
    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def fast_math(where: torch.device) -> AbstractContextManager[object]:
    """Return a context that computes in bfloat16 on devices made for it; elsewhere it does nothing."""
    native = torch.cuda.is_bf16_supported() if where.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(where.type, dtype=torch.bfloat16, enabled=native)


def step_rng(seed: int, step: int) -> np.random.Generator:
    """Return the generator of one step; a resumed run draws what an unbroken one would."""
    return np.random.default_rng((seed, step))


def torch_rng(rng: np.random.Generator, where: torch.device) -> torch.Generator:
    """Return a torch generator seeded from a NumPy one."""
    return torch.Generator(where).manual_seed(int(rng.integers(2**62)))
