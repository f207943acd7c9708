"""Processes that a process has started, directly or not."""

import time
from pathlib import Path


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
