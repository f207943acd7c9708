"""Create .venv and install the project with everything that development needs.

Runs on the system's Python and uses only the standard library. If the machine has no GPU and one of pip's package
indexes has a CPU build of torch, this build is installed, because it is several GB smaller.
"""

import os
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUIET = ("--quiet", "--disable-pip-version-check")


def pinned_requirements() -> list[str]:
    """Return the exact requirements of the extra `server`, torch first, e.g. "torch==2.13.0"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements: list[str] = project["optional-dependencies"]["server"]
    return [requirement for requirement in requirements if "==" in requirement]


def cpu_build_of_torch() -> str:
    """Return the requirement that only a CPU build of the pinned torch satisfies."""
    return f"{pinned_requirements()[0]}+cpu"


def wants_cpu_build() -> bool:
    """Return whether this machine should try to install a CPU build of torch."""
    return sys.platform == "linux" and shutil.which("nvidia-smi") is None


def create_environment(folder: Path, constraints: Path, groups: Iterable[str]) -> None:
    """Create a virtual environment with the project (editable), its extras and these dependency groups.

    Raises CalledProcessError if pip fails.
    """
    pip: list[str | Path] = [
        folder / ("Scripts" if sys.platform == "win32" else "bin") / "python",
        "-m",
        "pip",
        "install",
        *QUIET,
    ]
    print(f"Creating {folder.relative_to(ROOT)} ...", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)  # the first version that installs dependency groups
    if wants_cpu_build():
        print("No GPU found. Looking for a CPU build of torch ...", flush=True)
        if subprocess.run([*pip, cpu_build_of_torch()], check=False, stderr=subprocess.DEVNULL).returncode != 0:
            print(
                "No package index that pip is configured with has one. The default build is installed instead, with "
                "its CUDA libraries (several GB).\nTo get the CPU build, add PyTorch's CPU index, which PyTorch's "
                "installation page names: `make setup PIP_EXTRA_INDEX_URL=...`",
                flush=True,
            )
    print("Installing codec-diffusers and its dependencies (a few minutes the first time) ...", flush=True)
    arguments = [argument for group in groups for argument in ("--group", group)]
    # setuptools would print long warnings about directories that are named like packages, as in this project.
    environment = os.environ | {"PYTHONWARNINGS": "ignore::UserWarning"}
    project: list[str | Path] = ["-c", constraints, "-e", ".[server,golden,export,weighting]", *arguments]
    subprocess.run([*pip, *project], cwd=ROOT, check=True, env=environment)
    subprocess.run([*pip, "--no-deps", "--group", "lpips"], cwd=ROOT, check=True)


def main() -> int:
    """Create the environment; return the process's exit status."""
    if sys.version_info < (3, 11):  # noqa: UP036 - nothing else has checked the version yet
        print(f"Python 3.11 or newer is required, this is {sys.version.split()[0]}; try `make PYTHON=python3.12`")
        return 1
    started = time.perf_counter()
    create_environment(ROOT / ".venv", ROOT / "constraints.txt", ("test", "dev", "docs", "training", "bench"))
    print(f"Ready after {time.perf_counter() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
