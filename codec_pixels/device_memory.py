"""Memory of this process on the devices that torch uses."""

import resource
from pathlib import Path

import torch


def memory_by_device() -> dict[tuple[str, str], int]:
    """Return the memory of this process in bytes, by device and kind.

    The kinds of a GPU are "allocated" (used by tensors) and "reserved" (held by torch), that of the CPU is "resident".
    """
    memory = {}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for index in range(torch.cuda.device_count()):
            memory[f"cuda:{index}", "allocated"] = torch.cuda.memory_allocated(index)
            memory[f"cuda:{index}", "reserved"] = torch.cuda.memory_reserved(index)
    statm = Path("/proc/self/statm")
    if statm.exists():  # Linux
        memory["cpu", "resident"] = int(statm.read_text().split()[1]) * resource.getpagesize()
    return memory
