"""The torch device of a diffusers pipeline, with the dtype and the number of CPU threads."""

import os
from dataclasses import dataclass

import torch

from codec_pixels.device_thread import DeviceThread
from codec_pixels.usable_cpus import usable_cpus
from codec_wire.errors import InvalidSettings
from codec_wire.first_line import first_line

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that set the number of threads of torch."""
AUTO = "auto"
"""Value of `dtype` that selects the dtype in which the weights of the model are stored."""


@dataclass(frozen=True, slots=True)
class Device:
    """A torch device, the dtype in which the model computes, and the number of CPU threads.

    The device, the dtype and the number of threads affect the generated values, and therefore do not change while the
    process runs.
    """

    torch_device: torch.device
    dtype_name: str
    """Name of the dtype: fp16, bf16 or fp32. On a GPU, `dtype_name` can be AUTO until the weights of the model are
    known."""
    threads: int

    @classmethod
    def from_settings(cls, device: str, dtype: str, threads: int | None) -> "Device":
        """Return the device that the settings `device`, `dtype` and `threads` describe.

        The `device` "auto" selects CUDA if CUDA is available, else the CPU. On the CPU, the `dtype` "auto" means fp32.
        On a GPU, the `dtype` "auto" means the dtype of the model's weights. The dtype of the weights is known only
        after the model is loaded. Without `threads`, the number of threads is that of default_threads. Raises
        InvalidSettings if the device is not available.
        """
        name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            torch_device = torch.device(name)
            torch.empty(1, device=torch_device)
        except (RuntimeError, AssertionError) as error:
            raise InvalidSettings(f"device {name!r} is not available: {first_line(error)}") from None
        dtype_name = "fp32" if dtype == AUTO and torch_device.type == "cpu" else dtype
        return cls(torch_device, dtype_name, threads or default_threads())

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype in which the model computes."""
        return _DTYPES[self.dtype_name]

    @property
    def hardware(self) -> str:
        """The torch device; for a GPU, also the name of the GPU."""
        name = str(self.torch_device)
        if self.torch_device.type == "cuda":
            name = f"{name} ({torch.cuda.get_device_name(self.torch_device)})"
        return name

    @property
    def hardware_kind(self) -> str:
        """The type of the torch device; for a GPU, also the name of the GPU.

        Two GPUs with the same name have the same hardware kind.
        """
        kind = self.torch_device.type
        return f"{kind} ({torch.cuda.get_device_name(self.torch_device)})" if kind == "cuda" else kind

    def __str__(self) -> str:
        return f"{self.hardware} {self.dtype_name}, {self.threads} threads"

    def new_executor(self) -> DeviceThread:
        """Return a new executor for the diffusers pipelines on this device."""
        # torch.set_num_threads applies to the calling thread, not to the process.
        return DeviceThread(torch.set_num_threads, (self.threads,))


def default_threads() -> int:
    """Return the number of CPU threads that run a model unless the setting `threads` is set.

    This is the number of threads that torch uses by default, one for each core, but at most one for each CPU that the
    process may use. If an environment variable sets the number of threads of torch, it is not changed.
    """
    threads = torch.get_num_threads()
    return threads if any(map(os.environ.get, _THREAD_VARIABLES)) else min(threads, usable_cpus())


def describe_hardware() -> str:
    """Return a one-line description of the hardware that torch can use."""
    if not torch.cuda.is_available():
        return f"CPU only: torch {torch.__version__} finds no GPU"
    free, total = torch.cuda.mem_get_info()
    return f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
