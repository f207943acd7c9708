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

from codec_client import PixelDecoder, default_cache_dir
from codec_server.errors import ExitStatus, report_cli_errors
from codec_server.flags import with_settings
from codec_server.in_process import InProcessClient
from codec_server.terminal.startup import configure_log
from codec_wire.errors import CodecError
from codec_wire.version import CODEC_VERSION, SERVER_VERSION
from core.pins import installed_versions, pin_differences
from core.probe import probe_request
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

    Each line says ok, note (it works, and here is what to know) or bad. Status 1 where something is bad.

    Examples:
      codec-diffusers doctor

      codec-diffusers doctor --model stabilityai/stable-diffusion-2-1 --models-dir ./models --json

    """
    with report_cli_errors():
        settings = read_settings(flags | {"calibration_images": 0})
        configure_log("error")
        console = Console(highlight=False, emoji=False)
        findings = []
        for finding in _findings(settings):
            findings.append(finding)
            if not as_json:
                console.print(f"{finding.state:<5} {finding.what:<12} {finding.seen}", markup=False, soft_wrap=True)
        sick = any(finding.state == "bad" for finding in findings)
        if as_json:
            typer.echo(json.dumps([asdict(finding) for finding in findings]))
        else:
            console.print("This machine cannot serve this model." if sick else "This machine can serve this model.")
    if sick:
        raise typer.Exit(ExitStatus.FAILED)


def _findings(settings: Settings) -> Iterator[Finding]:
    yield Finding(
        "version", "ok", f"codec-diffusers {SERVER_VERSION}, Codec {CODEC_VERSION}, Python {platform.python_version()}"
    )
    yield _pins()
    yield from (Finding("variable", "note", warning) for warning in unknown_variables())
    yield _device()
    yield _memory()
    yield Finding("cache", "ok", str(default_cache_dir()))
    yield _port("HTTP port", "--port", settings.host, settings.port)
    yield _port("gRPC port", "--grpc-port", settings.host, settings.grpc_port)
    yield from _generation(settings)


def _pins() -> Finding:
    differences = pin_differences()
    if not installed_versions():
        return Finding("pins", "note", "torch and diffusers are not installed: a client and a gateway need neither")
    if differences:
        return Finding("pins", "note", f"not the reference: {'; '.join(differences)}")
    return Finding("pins", "ok", ", ".join(f"{name} {version}" for name, version in installed_versions().items()))


def _device() -> Finding:
    try:
        from codec_pixels.device import describe_hardware  # noqa: PLC0415 - takes seconds, and a client has no torch
    except ModuleNotFoundError:
        return Finding("device", "note", "without torch nothing is generated here")
    return Finding("device", "ok", describe_hardware())


def _memory() -> Finding:
    pages, page = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page
    return Finding("memory", "ok", f"{pages * page / 2**30:.1f} of {total / 2**30:.1f} GiB free, {os.cpu_count()} CPUs")


def _port(what: str, flag: str, host: str, port: int) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((host, port))
        except OSError as error:
            return Finding(what, "note", f"{host}:{port}: {error.strerror}; {flag} names another")
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
        served = client.service.models.require_default()
        model, latent_map = served.model, served.bundle.latent_map
        loaded = Finding("model", "ok", f"{model.name} on {served.device}, warm after {_seconds_since(started)}")
        pipelines = ", ".join(entry.name for entry in latent_map.pipelines)
        side = model.size_multiple * CELLS
        started = time.perf_counter()
        request = probe_request(model, model.modalities[0], "a test picture", 0, size=(side, side), steps=STEPS)
        answer = await client.generate(**request.model_dump(exclude_unset=True, by_alias=True))
        sampled = f"{side}x{side}, {STEPS} steps in {_seconds_since(started)}"
        findings = [loaded, Finding("latents", "ok", f"{latent_map.id}: {pipelines}")]
        if float(np.std(answer.latents.astype(np.float32))) == 0:
            return [*findings, Finding("generation", "bad", f"{sampled}: every latent is the same, nothing is drawn")]
        started = time.perf_counter()
        try:
            decoder = PixelDecoder(latent_map, vae=served.engine.vae)  # type: ignore[attr-defined]
            pixels = await asyncio.to_thread(decoder.frames, answer.latents)
        except CodecError as error:
            return [*findings, Finding("generation", "note", f"{sampled}; it cannot be made into pixels: {error}")]
        drawn = f"{len(pixels)} picture{'s' if len(pixels) > 1 else ''} decoded in {_seconds_since(started)}"
        return [*findings, Finding("generation", "ok", f"{sampled}; {drawn}")]


def _seconds_since(started: float) -> str:
    return f"{time.perf_counter() - started:.1f} s"
