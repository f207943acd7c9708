"""The default number of CPU threads: CPU affinity, and the quotas of cgroups of both versions."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from codec_pixels.device import Device
from codec_pixels.usable_cpus import usable_cpus

CORES = len(os.sched_getaffinity(0))
MANY = 4096
"""A number of CPUs that is larger than that of the machine, so that it is not a limit."""

Files = dict[str, str]


def write_files(root: Path, files: Files) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def quota_v1(directory: str, cpus: float, period_us: int = 100_000) -> Files:
    quota_us = round(cpus * period_us) if cpus > 0 else -1
    return {f"{directory}/cpu.cfs_quota_us": f"{quota_us}\n", f"{directory}/cpu.cfs_period_us": f"{period_us}\n"}


V2 = {"proc/self/cgroup": "0::/\n"}
POD = "kubepods.slice/pod1/container1"
V1 = {"proc/self/cgroup": f"12:memory:/{POD}\n3:cpuset:/{POD}\n2:cpu,cpuacct:/{POD}\n1:name=systemd:/\n0::/system\n"}


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({}, id="no cgroups"),
        pytest.param(V2, id="the root of the host, which has no limit"),
        pytest.param(V2 | {"sys/fs/cgroup/cpu.max": "max 100000\n"}, id="v2 without a limit"),
        pytest.param(V2 | {"sys/fs/cgroup/cpu.max": f"{MANY * 100_000} 100000\n"}, id="v2 with a larger limit"),
        pytest.param(V1 | quota_v1("sys/fs/cgroup/cpu", -1), id="v1 without a limit"),
        pytest.param(V2 | {"sys/fs/cgroup/cpu.max": "damaged"}, id="not a cgroup file"),
        pytest.param({"proc/self/cgroup": "0::/../other\n", "sys/fs/cpu.max": "damaged"}, id="outside the namespace"),
    ],
)
def test_cpus_of_the_affinity_are_usable_without_a_smaller_quota(tmp_path: Path, files: Files) -> None:
    write_files(tmp_path, files)
    assert usable_cpus(tmp_path) == CORES


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(V2 | {"sys/fs/cgroup/cpu.max": "100000 100000\n"}, id="v2 in a container"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/system.slice/codec.service\n",
                "sys/fs/cgroup/system.slice/codec.service/cpu.max": "50000 50000\n",
                "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
            },
            id="v2 in a service of systemd",
        ),
        pytest.param(
            {
                "proc/self/cgroup": f"0::/{POD}\n",
                f"sys/fs/cgroup/{POD}/cpu.max": "max 100000\n",
                "sys/fs/cgroup/kubepods.slice/cpu.max": "100000 100000\n",
            },
            id="v2 with a limit on a parent",
        ),
        pytest.param(V1 | quota_v1("sys/fs/cgroup/cpu", 1), id="v1 in a container"),
        pytest.param(V1 | quota_v1(f"sys/fs/cgroup/cpu,cpuacct/{POD}", 1, 50_000), id="v1 on the host"),
        pytest.param(V2 | {"sys/fs/cgroup/cpu.max": "190000 100000\n"}, id="less than two CPUs"),
        pytest.param(V2 | {"sys/fs/cgroup/cpu.max": "20000 100000\n"}, id="less than one CPU"),
        pytest.param(
            V1 | {"sys/fs/cgroup/unified/system/cpu.max": "100000 100000\n"}, id="v2 next to the hierarchies of v1"
        ),
    ],
)
def test_quota_limits_the_usable_cpus(tmp_path: Path, files: Files) -> None:
    write_files(tmp_path, files)
    assert usable_cpus(tmp_path) == 1


def in_thread(function: Callable[[], int]) -> int:
    """Return the result of `function` on a new thread, which has its own CPU affinity."""
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_affinity_limits_the_default_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)

    def threads_on_one_cpu() -> int:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        return Device.from_settings("cpu", "auto", None).threads

    assert in_thread(threads_on_one_cpu) == 1


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A real cgroup with a limit of 1.5 CPUs."""
    mount = Path("/sys/fs/cgroup")
    is_v1 = (mount / "cpu").is_dir()
    directory = (mount / "cpu" if is_v1 else mount) / f"codec-diffusers-test-{os.getpid()}"
    try:
        directory.mkdir()
    except OSError as error:
        pytest.skip(f"a cgroup can only be created by root, in a system that permits it: {error}")
    try:
        if is_v1:
            (directory / "cpu.cfs_period_us").write_text("100000")
            (directory / "cpu.cfs_quota_us").write_text("150000")
        elif (directory / "cpu.max").exists():
            (directory / "cpu.max").write_text("150000 100000")
        else:
            pytest.skip("the controller `cpu` is not available to new cgroups")
        yield directory
    finally:
        with suppress(OSError):
            directory.rmdir()


def threads_in(cgroup: Path, setting: int | None, variables: dict[str, str]) -> int:
    """Return the number of threads of a device in a new process in `cgroup`, with the setting `threads`."""
    program = (
        "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid()))\n"
        f"from codec_pixels.device import Device; print(Device.from_settings('cpu', 'auto', {setting}).threads)"
    )
    inherited = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", program, str(cgroup / "cgroup.procs")]
    environment = inherited | variables
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return int(result.stdout)


def test_quota_of_a_real_cgroup_limits_only_the_default_number_of_threads(cgroup: Path) -> None:
    assert threads_in(cgroup, None, {}) == 1
    assert threads_in(cgroup, 3, {}) == 3
    assert threads_in(cgroup, None, {"OMP_NUM_THREADS": "2"}) == min(2, CORES)
