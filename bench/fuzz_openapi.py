"""Fuzz test of the HTTP server: schemathesis sends requests that /openapi.json allows, and requests that it forbids.

    python -m bench.fuzz_openapi --minutes 10

The server runs in this process, see bench.fuzz_service. Every response must have a status below 500, and its status,
Content-Type, headers and schema must match the document. Nothing may be logged as an error. Otherwise schemathesis
prints a curl command for each failure, and the exit status is 1.
"""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.fuzz_service import ErrorRecorder, fuzz_service
from codec_http.server import start_http_server

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "negative_data_rejection",
)
ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(sys.executable).with_name("schemathesis")


async def run(options: Sequence[str]) -> int:
    """Run schemathesis with additional `options` and return the exit status."""
    recorder = ErrorRecorder()
    logging.getLogger().addHandler(recorder)
    server = await start_http_server(fuzz_service(), "127.0.0.1", 0, 60)
    url = f"http://127.0.0.1:{server.port}/openapi.json"
    arguments = (
        "run",
        url,
        "--checks",
        ",".join(CHECKS),
        "--continue-on-failure",
        "--no-shrink",
        "--suppress-health-check",
        "all",
        *options,
    )
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "bench.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:  # schemathesis stores its examples in the working directory
        process = await asyncio.create_subprocess_exec(PROGRAM, *arguments, cwd=folder, env=environment)
        status = await process.wait()
    await server.stop()
    if recorder.error is not None:
        print("the server logged an error:", recorder.error, sep="\n")
        return 1
    return status


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="duration in minutes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the requests (default: %(default)s)")
    options = parser.parse_args()
    return asyncio.run(run(("--max-time", str(round(options.minutes * 60)), "--seed", str(options.seed))))


if __name__ == "__main__":
    sys.exit(main())
