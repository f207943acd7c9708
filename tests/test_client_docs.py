"""The snippets of docs/client.md, run as they stand but for the addresses."""

import asyncio
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loading import LoadedModel
from tests.support.serving import servers_over
from tests.support.standin import build, build_bundle

ROOT = Path(__file__).resolve().parent.parent


async def test_the_snippets_run(engine: DiffusersEngine, standin: LoadedModel, tmp_path: Path) -> None:
    build(tmp_path / "models", "standin-vae")
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)
    assert len(snippets) == 3
    info = replace(standin.info, name="standin", latent_space="standin-vae")
    async with servers_over(engine, info, bundle=build_bundle("standin-vae")) as servers:
        address = str(servers.http._base_url).rstrip("/")
        async with servers.http.post(
            "/v1/images/generations", json={"prompt": "x", "stream_format": "msgpack", "size": "64x64", "steps": 2}
        ) as response:
            (tmp_path / "latents.bin").write_bytes(await response.read())
        for snippet in snippets:
            code = snippet.replace("http://127.0.0.1:8080", address).replace("127.0.0.1:50051", servers.grpc_address)
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-W", "error::ResourceWarning", "-c", code],
                cwd=tmp_path,
                env={"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").stat().st_size > 1000
