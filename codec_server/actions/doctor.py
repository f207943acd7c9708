"""Implementation of the `doctor` command, which checks whether this machine can serve a model."""

import asyncio
import json
import os
import platform
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import typer
from rich.console import Console

from codec_client import PixelDecoder, default_cache_dir
from codec_pixels.usable_cpus import usable_cpus
from codec_server.in_process import InProcessClient
from codec_server.terminal.startup import configure_log
from codec_wire.errors import CodecError
from codec_wire.version import CODEC_VERSION, SERVER_VERSION
from core.pins import installed_versions, pin_differences
from core.probe import probe_request
from core.settings import Settings
from core.unknown_variables import unknown_variables

STEPS = 4
LATENT_SIZE = 8
"""Height and width of the generated latents.

UNets halve the height and the width several times, so the height and the width must be at least 8.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: the name of the check, the state (ok, note or bad) and a description."""

    what: str
    state: str
    seen: str


def run_doctor(settings: Settings, *, as_json: bool) -> bool:
    """Check this machine and print the findings. Return False if at least one finding has the state `bad`."""
    configure_log("error")
    console = Console(highlight=False, emoji=False)
    findings = []
    for finding in _findings(settings):
        findings.append(finding)
        if not as_json:
            console.print(f"{finding.state:<5} {finding.what:<12} {finding.seen}", markup=False, soft_wrap=True)
    failed = any(finding.state == "bad" for finding in findings)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        console.print("This machine cannot serve this model." if failed else "This machine can serve this model.")
    return not failed


def _findings(settings: Settings) -> Iterator[Finding]:
    yield Finding(
        "version", "ok", f"codec-diffusers {SERVER_VERSION}, Codec {CODEC_VERSION}, Python {platform.python_version()}"
    )
    yield _check_pins()
    yield from (Finding("variable", "note", warning) for warning in unknown_variables())
    yield _check_device()
    yield _check_memory()
    yield Finding("cache", "ok", str(default_cache_dir()))
    yield _check_port("HTTP port", "--port", settings.host, settings.port)
    yield _check_port("gRPC port", "--grpc-port", settings.host, settings.grpc_port)
    yield from _check_generation(settings)


def _check_pins() -> Finding:
    differences = pin_differences()
    if not installed_versions():
        return Finding("pins", "note", "torch and diffusers are not installed; only a client or gateway can run here")
    if differences:
        return Finding("pins", "note", f"installed versions differ from the pinned versions: {'; '.join(differences)}")
    return Finding("pins", "ok", ", ".join(f"{name} {version}" for name, version in installed_versions().items()))


def _check_device() -> Finding:
    try:
        from codec_pixels.device import describe_hardware  # noqa: PLC0415 - imports torch, which may be missing
    except ModuleNotFoundError:
        return Finding("device", "note", "torch is not installed; models cannot run here")
    return Finding("device", "ok", describe_hardware())


def _check_memory() -> Finding:
    pages, page = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page
    free = f"{pages * page / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    return Finding("memory", "ok", f"{free}, {usable_cpus()} of {os.cpu_count()} CPUs usable")


def _check_port(what: str, flag: str, host: str, port: int) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((host, port))
        except OSError as error:
            return Finding(what, "note", f"{host}:{port}: {error.strerror}; choose another port with {flag}")
    return Finding(what, "ok", f"{host}:{port} is free")


def _check_generation(settings: Settings) -> Iterator[Finding]:
    try:
        client = InProcessClient(settings)
        yield from asyncio.run(_generate(client))
    except CodecError as error:
        yield Finding("model", "bad", " ".join(str(error).split()))


async def _generate(client: InProcessClient) -> list[Finding]:
    async with client:
        started = time.perf_counter()
        await client.load()
        served = client.service.models.require_default()
        model, latent_map = served.model, served.bundle.latent_map
        loaded = Finding("model", "ok", f"{model.name} on {served.device}, loaded in {_seconds_since(started)}")
        pipelines = ", ".join(entry.name for entry in latent_map.pipelines)
        side = model.size_multiple * LATENT_SIZE
        started = time.perf_counter()
        request = probe_request(model, model.modalities[0], "a test image", 0, size=(side, side), steps=STEPS)
        generation = await client.generate(**request.model_dump(exclude_unset=True, by_alias=True))
        sampled = f"{side}x{side}, {STEPS} steps in {_seconds_since(started)}"
        findings = [loaded, Finding("latents", "ok", f"{latent_map.id}: {pipelines}")]
        findings += [
            Finding("pixels", "ok" if check.reason is None else "note", str(check)) for check in served.pixel_checks
        ]
        if float(np.std(generation.latents.astype(np.float32))) == 0:
            return [
                *findings,
                Finding("generation", "bad", f"{sampled}; all latent values are equal, so the model does not work"),
            ]
        started = time.perf_counter()
        try:
            engine: Any = served.engine
            decoder = PixelDecoder(latent_map, vae=engine.vae, pipeline_class=engine.pipeline_class)
            pixels = await asyncio.to_thread(decoder.frames, generation.latents)
        except CodecError as error:
            return [
                *findings,
                Finding("generation", "note", f"{sampled}; the latents cannot be decoded to pixels: {error}"),
            ]
        frames = "1 frame" if len(pixels) == 1 else f"{len(pixels)} frames"
        decoded = f"{frames} decoded in {_seconds_since(started)}"
        return [*findings, Finding("generation", "ok", f"{sampled}; {decoded}")]


def _seconds_since(started: float) -> str:
    return f"{time.perf_counter() - started:.1f} s"
