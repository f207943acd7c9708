"""Build the images for `make image-test` with this machine's pip configuration, on a new Debian base image.

Uses only the standard library, because it runs on the system's Python of a clean machine. All files that it creates are
in build/image.
"""

import contextlib
import os
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "image"
SUITE = "bookworm"
BASE = f"localhost/codec-base:{SUITE}"
IMAGES = {"server": "localhost/codec-diffusers:test", "golden": "localhost/codec-diffusers-golden:test"}
"""The tag of each target of the Dockerfile."""

TOOLS = ("buildah", "debootstrap")
# The pip options that select package sources. Other options are not passed on to the build.
PIP_SOURCES = (
    *("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "prefer-binary"),
    *("cert", "client-cert", "proxy", "timeout", "default-timeout", "retries"),
)
PIP_INDEXES = ("index-url", "extra-index-url")


class Failed(Exception):
    """Raised when an image could not be built, or when a check of the image failed."""


def require(holds: bool, otherwise: str) -> None:
    """Raise Failed with the message `otherwise` unless `holds`."""
    if not holds:
        raise Failed(otherwise)


def call(*command: str | Path, log: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command; return its stdout, or an empty string if its output goes to the file `log`.

    If the command fails, raises Failed with the end of the output.
    """
    with contextlib.ExitStack() as stack:
        output = subprocess.PIPE if log is None else stack.enter_context(log.open("w"))
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True, env=env
        )
    written = done.stdout + done.stderr if log is None else log.read_text(errors="replace")
    if done.returncode != 0:
        end = "\n".join(written.strip().splitlines()[-25:])
        raise Failed(f"{Path(command[0]).name} ended with status {done.returncode}:\n{end}")
    return (done.stdout or "").strip()


class Buildah:
    """buildah with a separate storage, so that it does not affect other images and containers."""

    def __init__(self) -> None:
        temporary = WORK / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        self.env = os.environ | {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(temporary)}

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command line of `buildah arguments`."""
        # vfs and chroot work in containers and on small machines. With --root, buildah does not read the storage driver
        # from the environment.
        storage = ["--root", WORK / "storage", "--runroot", WORK / "storage-run", "--storage-driver", "vfs"]
        return ["buildah", *map(str, (*storage, *arguments))]

    def __call__(self, *arguments: str | Path, log: Path | None = None) -> str:
        """Run `buildah arguments` as `call` does."""
        return call(*self.command(*arguments), log=log, env=self.env)


def install_tools() -> list[str]:
    """Install the tools that are missing; return their names."""
    # The tools are in sbin, which is not in PATH after `su` without a login shell.
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        noninteractive = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        log = WORK / "apt.log"
        call("apt-get", "update", log=log, env=noninteractive)
        call("apt-get", "install", "--yes", "--no-install-recommends", *missing, log=log, env=noninteractive)
    return missing


def make_base(buildah: Buildah) -> bool:
    """Create the Debian base image in the storage; return False if it exists already."""
    if buildah("images", "--quiet", "--filter", f"reference={BASE}"):
        return False
    archive, rootfs = WORK / f"{SUITE}.tar", WORK / SUITE
    if not archive.exists():
        # shutil.rmtree would also delete below a /proc that an interrupted debootstrap has left mounted.
        call("rm", "-rf", "--one-file-system", rootfs)
        call("debootstrap", "--variant=minbase", SUITE, rootfs, log=WORK / "debootstrap.log")
        excluded = [f"--exclude=./{part}" for part in ("dev/*", "proc/*", "var/cache/apt/*.bin", "var/lib/apt/lists/*")]
        excluded.append("--exclude=*.deb")
        partial = archive.with_suffix(".partial")
        call("tar", "--create", "--file", partial, "--directory", rootfs, *excluded, ".")
        partial.rename(archive)
        call("rm", "-rf", "--one-file-system", rootfs)
    container = buildah("from", "scratch")
    try:
        buildah("add", container, archive, "/")
        buildah("commit", "--quiet", container, BASE)
    finally:
        buildah("rm", container)
    return True


def pip_settings() -> dict[str, str]:
    """Return the package sources of this machine's pip, from its configuration files and PIP_* variables."""
    home, override = Path.home(), os.environ.get("PIP_CONFIG_FILE", "")
    user = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip/pip.conf", user / "pip/pip.conf"]
    parser = ConfigParser(interpolation=None)
    if override != os.devnull:  # in pip, this disables all configuration files
        parser.read([*files, override] if override else files)
    found: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            found |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    variables = {name: value for name, value in os.environ.items() if name.startswith("PIP_") and value}
    found |= {name.removeprefix("PIP_").lower().replace("_", "-"): value for name, value in variables.items()}
    for variable in ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):  # read by pip's HTTP library
        if os.environ.get(variable):
            found.setdefault("cert", os.environ[variable])
    return {name: value for name, value in found.items() if name in PIP_SOURCES}


def carry_into_build(settings: Mapping[str, str]) -> tuple[dict[str, str], set[str]]:
    """Return `settings` with paths that are valid inside the build, and the mounts (host:container:ro) for them."""
    carried, mounts = {}, set()
    for name, value in settings.items():
        words = []
        for word in value.split():
            path = _local_path(word)
            if path is not None and path.is_dir():
                # The pages of an index link to package files, which are usually next to the index.
                shared = path.parent if name in PIP_INDEXES and path.parent != Path("/") else path
                mounts.add(f"{shared}:{shared}:ro")
            elif path is not None and path.is_file():
                # A different path: the build installs CA certificates and could not replace a mounted file.
                mounts.add(f"{path.resolve()}:/mnt/{name}.pem:ro")
                word = f"/mnt/{name}.pem"  # noqa: PLW2901
            words.append(word)
        carried[name] = " ".join(words)
    return carried, mounts


def _local_path(word: str) -> Path | None:
    if word.startswith("file:"):
        return Path(url2pathname(urlsplit(word).path))
    return Path(word) if word.startswith("/") else None


def npm_configuration(certificates: str | None) -> Path:
    """Write the user's npm configuration for the build, with the file of CA certificates that pip uses; return it."""
    user, target = Path.home() / ".npmrc", WORK / "npmrc"
    target.touch(mode=0o600)
    lines = [user.read_text() if user.exists() else "", *([f"cafile={certificates}"] if certificates else [])]
    target.write_text("\n".join([*lines, ""]))
    return target


def build_image(buildah: Buildah, target: str) -> list[str]:
    """Build a target of the Dockerfile on the base image; return the names of the pip options passed to it."""
    settings, mounts = carry_into_build(pip_settings())
    configuration = WORK / "pip.conf"
    configuration.touch(mode=0o600)
    configuration.write_text("\n".join(["[global]", *(f"{name} = {value}" for name, value in settings.items()), ""]))
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    buildah(
        # The OCI format has no HEALTHCHECK. Layers are not cached: vfs stores a full copy for each of them, about 30 GB
        # in total.
        *("build", "--format", "docker", "--pull=never", "--target", target, "--tag", IMAGES[target]),
        *("--build-arg", f"BASE_IMAGE={BASE}", "--build-arg", f"VERSION={version}"),
        *("--secret", f"id=pip.conf,src={configuration}"),
        *("--secret", f"id=npmrc,src={npm_configuration(settings.get('cert'))}"),
        *(word for mount in sorted(mounts) for word in ("--volume", mount)),
        ROOT,
        log=WORK / f"build-{target}.log",
    )
    buildah("rmi", "--prune")  # the image that an earlier run built with this tag
    return sorted(settings)
