"""Processes that a process has started, directly or not."""

import ipaddress
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp."""


def descendants(root: int) -> set[int]:
    """Return the ids of the processes below `root`."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name of a program, in parentheses, may contain spaces.
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found: set[int] = set()
    waiting = [root]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            found.add(child)
            waiting.append(child)
    return found


def wait_until_ended(processes: set[int], seconds: float = 15) -> set[int]:
    """Wait until none of `processes` runs, at most `seconds`; return those that still do."""
    end = time.monotonic() + seconds
    while (running := {one for one in processes if _is_running(one)}) and time.monotonic() < end:
        time.sleep(0.05)
    return running


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def niceness_of(processes: set[int]) -> set[int]:
    """Return the niceness values of those of `processes` that run."""
    found = set()
    for process in processes:
        with suppress(ProcessLookupError):
            found.add(os.getpriority(os.PRIO_PROCESS, process))
    return found


def addresses_of(processes: set[int]) -> list[str]:
    """Return the addresses, IP:PORT, at which `processes` listen over TCP. An IPv4 address in IPv6 is that of IPv4."""
    inodes = set()
    for process in processes:
        for path in Path(f"/proc/{process}/fd").glob("*"):
            try:
                inodes.add(str(path.readlink()))
            except OSError:  # the process has ended or closed it
                continue
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == LISTEN and f"socket:[{columns[9]}]" in inodes:
                host, _, port = columns[1].partition(":")
                found.add(f"{_ip(host)}:{int(port, 16)}")
    return sorted(found)


def _ip(text: str) -> str:
    """Return the IP address of a line of /proc/net/tcp, which has 32-bit words in the byte order of the machine."""
    words = [int(text[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
