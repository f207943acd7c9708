"""The tables of docs/fast-mode.md, which `codec-diffusers golden accelerate` writes.

    python -m bench.acceleration embedded       the embedded model, about 15 minutes on two cores
    python -m bench.acceleration step-caches    a tiny Flux with random weights under each step cache, about a minute
    python -m bench.acceleration embedded --write

With `--write`, the tables are written to docs/fast-mode.md. The results of the embedded model are then also stored with
its latent-space map, and the plot in docs/fast-mode.png.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.serving.machine import describe_machine
from bench.tiny_transformer import write_tiny_flux
from codec_pixels.known_models import EMBEDDED_MODELS_DIR
from core.diffusers_engine.step_cache import STEP_CACHES
from core.switches import FAST_DEFAULTS

DOCS = Path(__file__).parent.parent / "docs"
DOCUMENT, PLOT = DOCS / "fast-mode.md", DOCS / "fast-mode.png"
INTERVAL = f"guidance_interval={FAST_DEFAULTS['guidance_interval']}"
EMBEDDED_SETS = (
    f"channels_last+compile=full+{INTERVAL}+batch_size=8",
    f"channels_last+{INTERVAL}+batch_size=8",
    f"channels_last+compile=full+{INTERVAL}",
    f"channels_last+{INTERVAL}",
    "channels_last+compile=full",
    "channels_last",
    "guidance_interval=0-0.8",
    "batch_size=8",
    "fused_qkv",
    "vae_tiling",
)
BF16_SETS = (
    f"channels_last+{INTERVAL}+dtype=bf16+batch_size=8",
    f"channels_last+{INTERVAL}+dtype=bf16",
    "dtype=bf16",
)
TINY_FLUX = "tiny-flux"
BUSY = (
    " The machine was busy with other processes: the speeds, which are ratios of CPU times, are comparable, and the "
    "images/s are not."
)


@dataclass(frozen=True, slots=True)
class Run:
    """One call of the command with `arguments`, in addition to the directories."""

    arguments: Sequence[str]

    @property
    def command(self) -> str:
        """The command as it is printed in the document."""
        return shlex.join(["codec-diffusers", "golden", "accelerate", "./fast", *self.arguments])

    def measure(self, output: Path, models_dir: Path) -> str:
        """Run the command and return the table. Raises CalledProcessError if the command fails."""
        command = [sys.executable, "-m", "codec_server", "golden", "accelerate", str(output), *self.arguments]
        subprocess.run([*command, "--models-dir", str(models_dir)], check=True, stdout=subprocess.DEVNULL)
        return (output / "acceleration.md").read_text()


def describe_conditions() -> str:
    """Return a sentence about the machine, and whether other processes have made its wall-clock times useless."""
    busy = os.getloadavg()[0] > (os.cpu_count() or 1) + 1
    return describe_machine() + (BUSY if busy else "")


def embedded_runs() -> list[Run]:
    """Return the measurements of the embedded model.

    bf16 is measured separately, because it takes up to an hour on a CPU without instructions for it.
    """
    threads = ("--threads", "1")
    return [
        Run((*threads, "--images", "2", "--switches", ",".join(EMBEDDED_SETS))),
        Run((*threads, "--images", "2", "--switches", ",".join(BF16_SETS))),
    ]


def step_cache_runs(images: int = 3, concurrent: int = 8) -> list[Run]:
    """Return the measurement of every step cache with the model of `write_tiny_flux`."""
    sets = ",".join(f"step_cache={name}" for name in STEP_CACHES)
    model = ("--model", TINY_FLUX, "--latent-space", TINY_FLUX, "--threads", "1")
    return [Run((*model, "--images", str(images), "--concurrent", str(concurrent), "--switches", sets))]


def section_of(name: str, runs: Sequence[Run], tables: Sequence[str], machine: str) -> str:
    """Return the section `name` of the document with the commands and their tables."""
    parts = [f"    {run.command}\n\n{table}" for run, table in zip(runs, tables, strict=True)]
    begin, end = _marks(name)
    return "\n".join([begin, "", *parts, machine, "", end])


def replace_section(document: str, name: str, section: str) -> str:
    """Return `document` with the section `name` replaced.

    Raises ValueError unless the section is in the document exactly once.
    """
    begin, end = map(re.escape, _marks(name))
    replaced, count = re.subn(f"{begin}.*?{end}", lambda _match: section, document, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the document must contain the section {name} exactly once, found {count}")
    return replaced


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- begin bench.acceleration {name} -->", f"<!-- end bench.acceleration {name} -->"


def main() -> int:
    """Run the command line. Return the exit status."""
    parser = argparse.ArgumentParser(description="Tables of fast mode in docs/fast-mode.md.")
    parser.add_argument("part", choices=("embedded", "step-caches"))
    parser.add_argument("--write", action="store_true", help="write the tables, and store the results with the map")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models_dir = folder
        if options.part == "embedded":
            runs = embedded_runs()
            models_dir = EMBEDDED_MODELS_DIR if options.write else folder
        else:
            runs = step_cache_runs()
            write_tiny_flux(folder, TINY_FLUX)
        tables = [run.measure(folder / f"out{number}", models_dir) for number, run in enumerate(runs)]
        section = section_of(options.part, runs, tables, describe_conditions())
        print(section)
        if options.write:
            DOCUMENT.write_text(replace_section(DOCUMENT.read_text(), options.part, section))
            if options.part == "embedded":
                shutil.copy(folder / "out0" / "acceleration.png", PLOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
