"""Where the pipeline runs and with which arithmetic."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from codec_wire.errors import InvalidSettings

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True, slots=True)
class Device:
    """A torch device, the dtype the model computes in, and the CPU threads it uses.

    The three are part of what "the same request gives the same bytes" means, so they are fixed at start.
    """

    torch_device: torch.device
    dtype_name: str
    threads: int

    @classmethod
    def from_settings(cls, device: str, dtype: str, threads: int | None) -> "Device":
        """Return the device for the settings: "auto" takes CUDA where there is one, fp16 there and fp32 on a CPU.

        Raises InvalidSettings for a device that is not there.
        """
        name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            torch_device = torch.device(name)
            torch.empty(1, device=torch_device)
        except (RuntimeError, AssertionError) as error:
            raise InvalidSettings(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
        dtype_name = ("fp32" if torch_device.type == "cpu" else "fp16") if dtype == "auto" else dtype
        return cls(torch_device, dtype_name, threads or torch.get_num_threads())

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype the model computes in."""
        return _DTYPES[self.dtype_name]

    def __str__(self) -> str:
        name = str(self.torch_device)
        if self.torch_device.type == "cuda":
            name = f"{name} ({torch.cuda.get_device_name(self.torch_device)})"
        return f"{name} {self.dtype_name}, {self.threads} threads"

    def new_executor(self) -> ThreadPoolExecutor:
        """Return the executor whose one thread owns the pipeline: work runs there in the order it is handed in."""
        # The number of threads is a setting of the thread that computes, not of the process.
        return ThreadPoolExecutor(1, "device", initializer=torch.set_num_threads, initargs=(self.threads,))


def describe_hardware() -> str:
    """Return what there is for torch to compute on, in words."""
    if not torch.cuda.is_available():
        return f"no GPU that torch {torch.__version__} can use: the CPU computes"
    free, total = torch.cuda.mem_get_info()
    return f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
