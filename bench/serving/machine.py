"""Description of the machine and the libraries of a measurement."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("aiohttp", "grpcio", "numpy", "numba", "codecai")


def processor_name() -> str:
    """Return the name of the processor, or the architecture if the kernel does not know it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def describe_machine() -> str:
    """Return a sentence about the processor, the load of the machine in the last minute, and the versions."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"Measured on {os.cpu_count()} cores: {processor_name()}; load average at the end {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, {libraries}."
    )
