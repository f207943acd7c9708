"""Run the fast tests with the lowest versions that pyproject.toml allows. Run by `make test-lowest`.

Only direct dependencies get their lowest version. The newest compatible versions of their dependencies are used.
"""

import subprocess
import sys
from pathlib import Path

from scripts.setup_env import ROOT, create_environment

ENVIRONMENT = ROOT / "build" / "lowest"
CONSTRAINTS = ROOT / "build" / "lowest.txt"
GROUPS = ("test", "dev", "docs", "bench", "training")
"""The dependency groups that the tests need."""


def resolve() -> None:
    """Write the lowest versions to build/lowest.txt. Raises CalledProcessError if they cannot be resolved."""
    CONSTRAINTS.parent.mkdir(exist_ok=True)
    uv = Path(sys.executable).parent / "uv"
    command: list[str | Path] = [uv, "pip", "compile", ROOT / "pyproject.toml", "--output-file", CONSTRAINTS]
    command += ["--quiet", "--upgrade", "--resolution", "lowest-direct", "--extra", "server", "--extra", "golden"]
    subprocess.run([*command, *(argument for group in GROUPS for argument in ("--group", group))], check=True)


def main() -> int:
    """Run the tests; return pytest's exit status."""
    resolve()
    create_environment(ENVIRONMENT, CONSTRAINTS, GROUPS)
    tests: list[str | Path] = [ENVIRONMENT / "bin" / "python", "-m", "pytest", "-m", "not slow", *sys.argv[1:]]
    return subprocess.run(tests, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
