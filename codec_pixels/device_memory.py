"""Memory of this process on the devices that torch uses, and the memory that is free."""

import re
import resource
from pathlib import Path

import torch


def memory_by_device() -> dict[tuple[str, str], int]:
    """Return the number of bytes that this process uses on each device.

    Each key of the returned dictionary is a pair of a device and a kind of memory.

    A GPU has the kinds "allocated" (used by tensors) and "reserved" (held by torch). The CPU has only the kind
    "resident", the resident set size of the process.
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


def free_memory(device: torch.device) -> int | None:
    """Return the number of bytes that this process can still allocate on `device`; None if the number is unknown.

    For the CPU, return the available memory of the machine, or the memory that the control group (cgroup version 2) of
    the process still allows, if the control group allows less.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    available = _number_in(Path("/proc/meminfo"), r"MemAvailable: +(\d+) kB")
    group = Path("/sys/fs/cgroup")
    limit, used = _number_in(group / "memory.max", r"(\d+)"), _number_in(group / "memory.current", r"(\d+)")
    if device.type != "cpu" or available is None:
        return None
    available *= 1024
    if limit is None or used is None:
        return available
    reclaimable = _number_in(group / "memory.stat", r"(?m)^inactive_file (\d+)") or 0
    return min(available, max(0, limit - used + reclaimable))


def _number_in(path: Path, pattern: str) -> int | None:
    """Return the number that the first capturing group of `pattern` matches in the file at `path`.

    Return None if `pattern` does not match, or if the file cannot be read.
    """
    try:
        found = re.search(pattern, path.read_text())
    except OSError:
        return None
    return None if found is None else int(found[1])
