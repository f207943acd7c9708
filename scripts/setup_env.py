"""Makes .venv and installs the project into it. Runs on the system's Python, with the standard library alone.

Without a GPU a CPU build of torch is taken where the configured package indexes have one; it is gigabytes smaller.
"""

import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts" if sys.platform == "win32" else "bin") / "python"
QUIET = ("--quiet", "--disable-pip-version-check")


def torch_pin() -> str:
    """Return torch's line of core/pins.txt, e.g. torch==2.13.0."""
    lines = (ROOT / "core" / "pins.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def pip_install(*arguments: str, check: bool = True) -> bool:
    """Install into .venv; return whether it worked. Raises CalledProcessError where it must and does not."""
    command = [str(PYTHON), "-m", "pip", "install", *QUIET, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=check, stderr=None if check else subprocess.DEVNULL)
    return done.returncode == 0


def main() -> int:
    """Make the environment; return the process's exit status."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this runs before anything was checked
        print(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; try `make PYTHON=python3.12`")
        return 1
    started = time.perf_counter()
    print("Making .venv ...", flush=True)
    venv.create(VENV, with_pip=True, clear=True)
    if shutil.which("nvidia-smi") is None and sys.platform == "linux":
        print("No GPU found: looking for a CPU build of torch ...", flush=True)
        if not pip_install(f"{torch_pin()}+cpu", check=False):
            print(
                "No package index that pip knows has one, so the default build comes, with its CUDA libraries (several "
                "GB).\nFor the CPU build, name PyTorch's own CPU index to pip: "
                "`make setup PIP_EXTRA_INDEX_URL=...` (it stands on PyTorch's installation page).",
                flush=True,
            )
    print("Installing codec-diffusers and what it needs (a few minutes the first time) ...", flush=True)
    pip_install("-c", "constraints.txt", "-e", ".[server,golden,test,dev,training]")
    pip_install("--no-deps", "-r", "requirements/lpips.txt")
    print(f"Ready after {time.perf_counter() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
