"""`codec-diffusers doctor`: what is here, what is missing, and one real generation."""

import asyncio
import json
import os
import platform
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from codec_client import default_cache_dir
from codec_server.errors import ExitStatus, said_in_a_line
from codec_server.flags import with_settings
from codec_server.in_process import InProcessClient
from codec_server.output import configure_log
from core import CODEC_VERSION, SERVER_VERSION
from core.errors import CodecError
from core.pins import installed_versions, pin_differences
from core.settings import Settings, read_settings, unknown_variables

SETTINGS = (
    "model",
    "pipeline",
    "latent_space",
    "models_dir",
    "allow_pickle",
    "device",
    "dtype",
    "threads",
    "host",
    "port",
    "grpc_port",
)
STEPS = 4
CELLS = 8
"""Side of the latent that is generated: small, and large enough for every level of a UNet."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is (ok, note, bad), and what was seen."""

    what: str
    state: str
    seen: str


@with_settings(SETTINGS)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False, **flags: Any
) -> None:
    """Say whether this machine can serve: versions, device, memory, ports, the model, one real generation.

    Status 1 where something is bad. Example: codec-diffusers doctor --model standin --models-dir ./models
    """
    with said_in_a_line():
        settings = read_settings(flags | {"calibration_images": 0})
        configure_log("error")
        console = Console(highlight=False)
        findings = []
        for finding in _findings(settings):
            findings.append(finding)
            if not as_json:
                console.print(f"{finding.state:<5} {finding.what:<12} {finding.seen}", markup=False, soft_wrap=True)
        if as_json:
            typer.echo(json.dumps([asdict(finding) for finding in findings]))
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(ExitStatus.FAILED)


def _findings(settings: Settings) -> Iterator[Finding]:
    yield Finding(
        "version", "ok", f"codec-diffusers {SERVER_VERSION}, Codec {CODEC_VERSION}, Python {platform.python_version()}"
    )
    yield _pins()
    yield from (Finding("variable", "note", warning) for warning in unknown_variables())
    yield _memory()
    yield Finding("cache", "ok", str(default_cache_dir()))
    yield _port("HTTP port", settings.host, settings.port)
    yield _port("gRPC port", settings.host, settings.grpc_port)
    yield from _generation(settings)


def _pins() -> Finding:
    differences = pin_differences()
    if not installed_versions():
        return Finding("pins", "note", "torch and diffusers are not installed: a client and a gateway need neither")
    if differences:
        return Finding("pins", "note", f"not the reference: {'; '.join(differences)}")
    return Finding("pins", "ok", ", ".join(f"{name} {version}" for name, version in installed_versions().items()))


def _memory() -> Finding:
    pages, page = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page
    return Finding("memory", "ok", f"{pages * page / 2**30:.1f} of {total / 2**30:.1f} GiB free, {os.cpu_count()} CPUs")


def _port(what: str, host: str, port: int) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((host, port))
        except OSError as error:
            return Finding(what, "note", f"{host}:{port} cannot be had: {error.strerror}")
    return Finding(what, "ok", f"{host}:{port} is free")


def _generation(settings: Settings) -> Iterator[Finding]:
    try:
        client = InProcessClient(settings)
        yield from asyncio.run(_generated(client))
    except CodecError as error:
        yield Finding("model", "bad", " ".join(str(error).split()))


async def _generated(client: InProcessClient) -> list[Finding]:
    async with client:
        started = time.perf_counter()
        await client.load()
        served = client.service.require_served()
        side = served.model.size_multiple * CELLS
        loaded = Finding(
            "model", "ok", f"{served.model.name} on {served.device}, warm after {time.perf_counter() - started:.1f} s"
        )
        latent_map = served.bundle.latent_map
        names = ", ".join(entry.name for entry in latent_map.pipelines)
        started = time.perf_counter()
        answer = await client.generate(
            "a test picture", size=(side, side), steps=STEPS, modality=served.model.modalities[0]
        )
        spread = float(np.std(answer.latents.astype(np.float32)))
        return [
            loaded,
            Finding("latents", "ok", f"{latent_map.id}: {names}"),
            Finding(
                "generation",
                "ok" if spread > 0 else "bad",
                f"{side}x{side}, {STEPS} steps in {time.perf_counter() - started:.1f} s, deviation {spread:.2f}",
            ),
        ]
