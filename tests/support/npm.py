"""npm packages of the TypeScript folders in web/."""

import fcntl
import subprocess
from pathlib import Path

_INSTALL = ("install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "--prefer-offline")


def install(folder: Path) -> None:
    """Install the packages of a folder. Processes that run tests in parallel do this in turn."""
    with (folder / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        npm(folder, *_INSTALL)


def npm(folder: Path, *arguments: str) -> None:
    """Run npm in a folder."""
    done = subprocess.run(["npm", *arguments], cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"npm {' '.join(arguments)} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
