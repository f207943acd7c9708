"""Command line of the benchmark.

python -m bench.serving                  run all parts and print their tables
python -m bench.serving requests video   run only these two parts
python -m bench.serving --write          also write the tables and the plot to docs/benchmarks.md
python -m bench.serving --quick          print the cost of an image request, in less than 40 seconds
"""

import argparse
import platform
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.serving import floor, gateway, memory, profile, requests, start, video
from bench.serving.machine import describe_machine
from bench.serving.processes import stop_processes_at_sigterm
from bench.serving.report import Section, replace_section

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
PLOT = DOCUMENT.with_suffix(".png")
PARTS: dict[str, Callable[[], Section]] = {
    "requests": requests.measure,
    "floor": floor.measure,
    "video": video.measure,
    "gateway": gateway.measure,
    "memory": memory.measure,
    "start": start.measure,
    "profile": profile.measure,
}


def main() -> int:
    """Run the command line. Return exit status 1 if a goal is not met."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description="Cost of serving.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)} (default: all)")
    parser.add_argument(
        "--quick", action="store_true", help="run only the part `requests`, with 1 and 32 clients and few rounds"
    )
    parser.add_argument("--write", action="store_true", help=f"write the tables and the plot to docs/{DOCUMENT.name}")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}")
    if options.quick and (options.parts or options.write):
        parser.error("--quick cannot be combined with parts or --write")
    if platform.system() != "Linux":
        parser.error("this benchmark requires Linux, because it reads the CPU time and memory of other processes")
    stop_processes_at_sigterm()
    if options.quick:
        sections: Iterator[Section] = iter([requests.measure_quickly()])
    else:
        parts = PARTS | {"requests": partial(requests.measure, plot=PLOT)} if options.write else PARTS
        sections = (parts[name]() for name in options.parts or parts)
    missed = 0
    for section in sections:
        section.print()
        missed += sum(not goal.met for goal in section.goals)
        if options.write:
            DOCUMENT.write_text(replace_section(DOCUMENT.read_text(), section, describe_machine()))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
