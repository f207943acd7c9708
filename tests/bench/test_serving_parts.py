"""Every part of bench.serving runs with small counts and reports its goals."""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from bench.serving import floor, gateway, memory, profile, requests, start, video
from bench.serving.__main__ import DOCUMENT, PARTS
from bench.serving.machine import describe_machine
from bench.serving.plot import plot_costs
from bench.serving.report import Goal, Section, Table, replace_section
from bench.serving.request_cost import Cost

SECTION = Section("requests", "Title", "Text.", [Table(("a", "b"), [("1", "2")])], [Goal("cost", 0.5, 0.4)])


def test_goal_is_met_up_to_its_limit() -> None:
    assert Goal("cost", 0.4, 0.4).met
    assert not Goal("cost", 0.41, 0.4).met
    assert Goal("speed", 0.7, 0.7, at_least=True).met
    assert Goal("speed", 0.6, 0.7, at_least=True).cells() == ("speed", "0.6 x", "at least 0.7 x", "**not met**")


def test_section_replaces_its_previous_version_in_the_document() -> None:
    document = "before\n\n<!-- begin bench.serving requests -->\nold\n<!-- end bench.serving requests -->\n\nafter\n"
    replaced = replace_section(document, SECTION, "A machine.")
    assert "old" not in replaced
    assert replaced.startswith("before\n\n<!-- begin")
    assert replaced.endswith("-->\n\nafter\n")
    assert "| cost | 0.5 x | at most 0.4 x | **not met** |" in replaced
    assert "| 1 | 2 |" in replaced
    assert "A machine." in replaced
    assert replace_section(replaced, SECTION, "A machine.") == replaced


def test_machine_is_described_with_its_processor_and_versions() -> None:
    text = describe_machine()
    assert f"{os.cpu_count()} cores" in text
    assert f"aiohttp {version('aiohttp')}" in text


def test_document_without_the_section_is_refused() -> None:
    with pytest.raises(ValueError, match="must contain the section requests exactly once, found 0"):
        replace_section("nothing", SECTION, "")


@pytest.mark.parametrize("name", PARTS)
def test_document_contains_a_place_for_every_part(name: str) -> None:
    section = Section(name, "", "", [])
    assert section.markdown() in replace_section(DOCUMENT.read_text(), section, "")


@pytest.mark.slow
def test_costs_are_plotted(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is in the dependency group bench")
    costs = {(name, clients): Cost([0.001], [0.001], [0.001]) for name in "abcde" for clients in (1, 32, 64)}
    path = tmp_path / "plot.png"
    plot_costs("abcde", costs, (1, 32, 64), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_growth_of_the_cost_with_the_number_of_clients_is_a_goal() -> None:
    costs = {
        (name, clients): Cost([1e-3 if clients == 1 else 2e-3])
        for name in (*requests.OURS, requests.FASTAPI, requests.AIOHTTP, requests.GRPC)
        for clients in (1, 32, 64)
    }
    goals = requests.goals_of(costs, (1, 32, 64))
    growth = {goal.name: goal.measured for goal in goals if "64 clients" in goal.name}
    assert growth == {f"{name}: CPU with 64 clients to that with 1": 2 for name in requests.OURS}


STACKS = (
    ("compressing", "run (threading.py:1);compress (codec_wire/compression.py:5)"),
    ("encoding the latents", "generate (core/diffusers_engine/engine.py:1);quantize (codec_wire/pipelines/x.py:5)"),
    ("writing to the socket", "_stream (codec_http/generations.py:1);SelectorSocketTransport.write (asyncio/a.py:1)"),
    ("threads of the gRPC library", "Thread._bootstrap (threading.py:1);_poll_wrapper (grpc/aio.py:2)"),
    ("other Python code", "<module> (script.py:1)"),
)


@pytest.mark.parametrize(("layer", "stack"), STACKS)
def test_sample_belongs_to_the_layer_of_its_innermost_known_frame(layer: str, stack: str) -> None:
    assert profile.layer_of(stack.split(";")) == layer


def test_cpu_time_of_a_thread_is_divided_like_its_samples() -> None:
    samples = (
        "thread (7): MainThread;compress (codec_wire/compression.py:5) 3\n"
        "thread (7): MainThread;start (aiohttp/web.py:5) 1\n"
        "thread (7): MainThread;_run_once (asyncio/base_events.py:7);EpollSelector.select (selectors.py:468) 50\n"
        "thread (8): device;run (threading.py:3);_worker (concurrent/futures/thread.py:81) 90\n"
        "thread (8): device;quantize (codec_wire/pipelines/x.py:5) 9"
    )
    layers = profile.divide(samples, {7: 4.0, 8: 2.0, 9: 0.5})
    assert layers == {
        "compressing": 3.0,
        "aiohttp": 1.0,
        "encoding the latents": 2.0,
        "threads of the gRPC library": 0.5,
    }


@pytest.mark.slow
def test_image_requests_are_measured() -> None:
    section = requests.measure(rounds=1, requests=4, clients=(1, 32))
    assert [goal.limit for goal in section.goals] == [0.4, 2, 0.4, 2]
    assert len(section.tables[0].rows) == 10


@pytest.mark.slow
def test_smallest_servers_are_measured() -> None:
    section = floor.measure(rounds=1, requests=4, clients=(1,))
    assert [row[0] for row in section.tables[0].rows] == [
        requests.OURS[0],
        floor.HTTP_FLOOR,
        requests.FASTAPI,
        requests.OURS[1],
        floor.GRPC_FLOOR,
        requests.GRPC,
    ]


@pytest.mark.slow
def test_videos_are_measured() -> None:
    section = video.measure(frames=24, lengths=(2, 24), rounds=1)
    assert [len(table.rows) for table in section.tables] == [4, 4]
    assert all(goal.measured > 0 for goal in section.goals if goal.unit == "x")


@pytest.mark.slow
def test_gateways_are_measured() -> None:
    section = gateway.measure(rounds=1, requests=4)
    assert [row[0] for row in section.tables[0].rows] == [gateway.OURS, gateway.PEER] * 2


@pytest.mark.slow
def test_memory_is_measured_and_no_job_is_left() -> None:
    section = memory.measure(requests=1000, streams=20)
    assert [row[0] for row in section.tables[0].rows] == ["500", "1000"]
    assert [row[-1] for row in section.tables[1].rows] == ["0", "0"]


@pytest.mark.slow
def test_wall_and_cpu_time_of_a_command_are_measured() -> None:
    wall, cpu = start.run_command("--version")
    assert wall > 0.05
    assert cpu > 0.05
    with pytest.raises(subprocess.CalledProcessError):
        start.run_command("--unknown")
