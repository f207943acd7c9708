"""Run the fast tests with the lowest versions that pyproject.toml allows. Run by `make test-lowest`.

Only direct dependencies get their lowest version; what they require in turn is as new as possible.
"""

import subprocess
import sys
from pathlib import Path

from scripts.setup_env import ROOT, create_environment

ENVIRONMENT = ROOT / "build" / "lowest"
CONSTRAINTS = ROOT / "build" / "lowest.txt"


def resolve() -> None:
    """Write the lowest versions to build/lowest.txt. Raises CalledProcessError if there is no solution."""
    CONSTRAINTS.parent.mkdir(exist_ok=True)
    wanted = ["--extra", "server", "--extra", "golden", "--group", "test", "--group", "training"]
    output = ["--no-header", "--no-annotate", "--quiet", "--output-file", CONSTRAINTS]
    command = [Path(sys.executable).parent / "uv", "pip", "compile", ROOT / "pyproject.toml", *wanted, *output]
    subprocess.run([*command, "--upgrade", "--resolution", "lowest-direct"], check=True)


def main() -> int:
    """Run the tests; return pytest's exit status."""
    resolve()
    create_environment(ENVIRONMENT, CONSTRAINTS, ("test", "training"))
    tests = [ENVIRONMENT / "bin" / "python", "-m", "pytest", "-m", "not slow", *sys.argv[1:]]
    return subprocess.run(tests, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
