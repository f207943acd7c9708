"""Write the versions of the packages in this environment to constraints.txt, which makes installations reproducible.

torch, diffusers and transformers are left out: the extra `server` in pyproject.toml pins them.
"""

import subprocess
import sys
from pathlib import Path

from core.pins import pinned_versions

TARGET = Path(__file__).resolve().parent.parent / "constraints.txt"
HEAD = "# Versions of everything that a full setup installs. Written by `make constraints`; do not edit.\n"


def main() -> int:
    """Write the file; return the process's exit status."""
    frozen = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--all", "--exclude-editable"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    excluded = {*pinned_versions(), "codec-diffusers", "pip", "wheel"}
    kept = [line for line in frozen if "==" in line and line.split("==")[0] not in excluded]
    TARGET.write_text(HEAD + "\n".join(kept) + "\n")
    print(f"wrote {TARGET.name}: {len(kept)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
