"""The tables of bench.throughput, computed from given measurements."""

import pytest

from bench.throughput import FAST, LOOP, PEER, REFERENCE, Measurement, Workload, section_of
from codec_server.cli import COMMANDS


def measured(images_per_s: float) -> Measurement:
    found = Measurement()
    for _ in range(2):
        found.add(4, 4 / images_per_s, 2.0, [1 / images_per_s] * 4)
    return found


def test_speeds_are_compared_with_the_loop_and_with_reference_mode() -> None:
    fast = "fast: --batch-size 8"
    results = {(LOOP, 1): measured(2)}
    for concurrent, speed in ((1, 3.0), (8, 4.0)):
        results |= {(PEER, concurrent): measured(1.0), (REFERENCE, concurrent): measured(speed)}
        results[fast, concurrent] = measured(2 * speed)
    section = section_of(results, "text")
    (table,) = section.tables
    assert [row[:2] for row in table.rows][:4] == [(LOOP, "1"), (PEER, "1"), (REFERENCE, "1"), (fast, "1")]
    assert table.rows[-1] == (fast, "8", "8.00", "4.00 x", "2.00 x", "0.50", "0.12", "0.12")
    assert [(goal.measured, goal.met) for goal in section.goals] == [(1.5, True), (2.0, True)]


def test_every_request_has_another_prompt_and_seed() -> None:
    workload = Workload("64x64", 2, requests=4)
    bodies = [workload.body(number) for number in range(workload.count(16))]
    assert len({body["prompt"] for body in bodies}) == len({body["seed"] for body in bodies}) == 16
    assert workload.count(1) == 4


@pytest.mark.parametrize("flags", FAST)
def test_default_flags_of_fast_mode_are_options_of_serve(flags: str) -> None:
    COMMANDS["serve"].load("serve").make_context("serve", ["--mode", "fast", *flags.split()])
