"""A discrete-event simulation of many replicas behind fronts that select one for every request.

Assumptions: requests arrive as a Poisson process, each at a random front. A replica runs one generation at a time, in
the order of arrival, and refuses a request if it has `max_jobs` active ones. The front then sends it to another replica
at once, at most RETRIES times. The network takes no time, and no replica fails.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

RETRIES = 3
WARM_UP = 0.2
"""Share of the requests at the start that is not counted, while the queues grow."""

Policy = Literal["round robin", "fewest of two", "fewest of all"]
"""How a front selects a replica: in turn, or the one to which it has sent the fewest requests that are still active."""
Durations = Callable[[random.Random], float]
"""Returns the seconds that the device takes for a random request."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is simulated. `utilization` is the share of the time that the devices work."""

    replicas: int
    utilization: float
    policy: Policy
    fronts: int = 1
    max_jobs: int = 32


@dataclass(slots=True)
class Result:
    """Seconds that every counted request waited for its device, sorted; numbers of refusals and of lost requests."""

    waits_s: list[float] = field(default_factory=list)
    refusals: int = 0
    lost: int = 0
    active: float = 0.0
    """Mean number of active requests."""

    def percentile(self, percent: float) -> float:
        """Return a percentile of the waits."""
        return self.waits_s[min(len(self.waits_s) - 1, int(len(self.waits_s) * percent / 100))]


class _Replicas:
    """The active requests of every replica, and which of them each front knows: those that it sent itself."""

    def __init__(self, fleet: Fleet, chance: random.Random) -> None:
        self._fleet = fleet
        self._chance = chance
        self._noise = np.random.default_rng(chance.randrange(2**32))
        self._next = [chance.randrange(fleet.replicas) for _ in range(fleet.fronts)]
        self._known = np.zeros((fleet.fronts, fleet.replicas))
        self._free_at = [0.0] * fleet.replicas
        self._ends: list[tuple[float, int, int]] = []
        self.active = [0] * fleet.replicas

    def advance(self, now: float) -> None:
        """End the requests that are complete at the time `now`."""
        while self._ends and self._ends[0][0] <= now:
            _, replica, front = heapq.heappop(self._ends)
            self.active[replica] -= 1
            self._known[front, replica] -= 1

    def select(self, front: int) -> int:
        """Return the replica to which `front` sends its next request."""
        if self._fleet.policy == "round robin":
            self._next[front] = (self._next[front] + 1) % self._fleet.replicas
            return self._next[front]
        known = self._known[front]
        if self._fleet.policy == "fewest of all":
            return int((known + self._noise.random(known.size)).argmin())  # one of the fewest at random
        one, other = (self._chance.randrange(self._fleet.replicas) for _ in range(2))
        return one if known[one] <= known[other] else other

    def add(self, replica: int, front: int, now: float, duration: float) -> float:
        """Add a request and return how long it waits."""
        start = max(now, self._free_at[replica])
        self._free_at[replica] = start + duration
        heapq.heappush(self._ends, (start + duration, replica, front))
        self.active[replica] += 1
        self._known[front, replica] += 1
        return start - now


def simulate(fleet: Fleet, durations: Durations, mean_s: float, *, requests: int = 100_000, seed: int = 0) -> Result:
    """Return what `requests` requests experience. `mean_s` is the mean of `durations`."""
    chance = random.Random(seed)
    replicas, result = _Replicas(fleet, chance), Result()
    rate, now = fleet.replicas * fleet.utilization / mean_s, 0.0
    for number in range(requests):
        now += chance.expovariate(rate)
        replicas.advance(now)
        front, counted = chance.randrange(fleet.fronts), number >= WARM_UP * requests
        duration = durations(chance)
        for _ in range(RETRIES + 1):
            replica = replicas.select(front)
            if replicas.active[replica] < fleet.max_jobs:
                wait = replicas.add(replica, front, now, duration)
                if counted:
                    result.waits_s.append(wait)
                break
            result.refusals += counted
        else:
            result.lost += counted
    result.waits_s.sort()
    result.active = rate * (sum(result.waits_s) / len(result.waits_s) + mean_s)  # Little's law
    return result
