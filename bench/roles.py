"""Memory of a server in each role: `python -m bench.roles`.

Starts `codec-diffusers serve` in a subprocess with each role, for the embedded model and for Stable Diffusion 1.5 (full
size, random weights, see bench.sd15). Requests an image, or the encoding of an image, and prints the resident memory.
Nothing is downloaded.
"""

import argparse
import asyncio
import sys
import tempfile
import urllib.request
from pathlib import Path

import torch

from bench.sd15 import Server, build, request_image
from codec_wire.http import ENCODE_PATH
from core.probe import sample_image
from core.role import Role

HEADING = ("model", "role", "memory when ready", "after a request", "at most")
SIDE, STEPS = 256, 2


def encode_image(address: str) -> None:
    """Encode an image of the size that the other roles generate."""
    with urllib.request.urlopen(f"{address}{ENCODE_PATH}", sample_image(0, SIDE), timeout=600) as response:
        response.read()


def measure(label: str, options: list[str]) -> None:
    """Print a table row for each role of the model that `options` of `serve` select."""
    for role in Role:
        server = Server([*options, "--role", role])
        try:
            ready = server.memory_gb("VmRSS")
            if role is Role.DECODER:
                encode_image(server.address)
            else:
                asyncio.run(request_image(server.address, STEPS))
            memory = (ready, server.memory_gb("VmRSS"), server.memory_gb("VmHWM"))
            cells = (label, role, *(f"{value:.2f} GB" for value in memory))
            print("| " + " | ".join(cells) + " |", flush=True)
        finally:
            server.stop()


def main() -> int:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedded-only", action="store_true", help="do not measure Stable Diffusion 1.5")
    arguments = parser.parse_args()
    for cells in (HEADING, ("---",) * len(HEADING)):
        print("| " + " | ".join(cells) + " |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        common = ["--threads", "1", "--models-dir", folder]
        measure("embedded", common)
        if not arguments.embedded_only:
            build(Path(folder, "sd15"), torch.float32)
            measure("SD 1.5, fp32", [*common, "--model", "sd15"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
