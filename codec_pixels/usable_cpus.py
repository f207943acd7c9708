"""The number of CPUs that this process may use: the CPU affinity and the CPU limit of the container.

torch starts one thread for each core in the CPU affinity and ignores the limit of a container, which is a quota of CPU
time (`limits.cpu` in Kubernetes, `--cpus` in Docker, `CPUQuota=` in systemd). os.process_cpu_count of Python 3.13
ignores it as well. loky.cpu_count reads the quota, but only that of the root of the mounted hierarchy, and a package
for parallel processes is a large dependency for one number.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

_MEMBERSHIP = "proc/self/cgroup"
_MOUNT = "sys/fs/cgroup"


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number of CPUs that this process may use, at least 1.

    A quota of CPU time that is not a whole number of CPUs is rounded down. One more thread would exhaust the quota
    before the end of each period, and then the kernel stops all threads of the process, also the event loop.

    `root` is the directory that contains `proc` and `sys`.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cpus, *(math.floor(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPU quotas of the cgroup of this process and of the cgroups that contain it, in CPUs.

    See https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/scheduler/sched-bwc.html.
    """
    for directory in _cgroups(root):
        # A file is missing if the directory belongs to the other version of cgroups, or if the container does not see
        # the directory. The value of cpu.max is "QUOTA PERIOD" or "max PERIOD". A quota of -1 means no limit.
        with suppress(OSError, ValueError):
            quota, period = (directory / "cpu.max").read_text().split()
            if quota != "max":
                yield int(quota) / int(period)
        with suppress(OSError, ValueError):
            quota_us = int((directory / "cpu.cfs_quota_us").read_text())
            if quota_us > 0:
                yield quota_us / int((directory / "cpu.cfs_period_us").read_text())


def _cgroups(root: Path) -> Iterator[Path]:
    """Yield the directories of the cgroups that may limit the CPU time of this process.

    In a container, the path of the cgroup may be the path on the host. The directory with this path does not exist in
    the container. The root of the mounted hierarchy is then the cgroup of the container.
    """
    try:
        lines = (root / _MEMBERSHIP).read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts = [root / _MOUNT, root / _MOUNT / "unified"]
        elif "cpu" in controllers.split(","):
            mounts = [root / _MOUNT / "cpu", root / _MOUNT / controllers]
        else:
            continue
        cgroup = PurePosixPath(path)
        for mount in mounts:
            for ancestor in (cgroup, *cgroup.parents):
                yield mount / ancestor.relative_to("/")
