"""Upload bytes and SSIM of every pipeline on the decode endpoint, compared with Hugging Face's raw tensor.

Generates images. The delta pipelines need a video, whose frames pan over one of the images. The reference is the pixels
that the unmodified `diffusers.utils.remote_utils.remote_decode` receives for the latents as an fp32 tensor. The same
latents are also sent as an fp16 tensor, and to /v1/latents/decode as a Codec stream with each pipeline.

    python -m bench.remote_vae              the embedded model
    python -m bench.remote_vae --count 2    fewer images
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.wire import PROMPTS, SEED
from codec_client import HttpClient
from codec_golden.metrics import ssim_of_frames
from codec_http.server import start_http_server
from codec_maps.bodies import Body, measure_sizes
from codec_maps.corpus import generate_latents
from codec_server.local_model import LocalModel
from codec_wire import WireFormat, encode
from codec_wire.encoder import LatentEncoder
from codec_wire.errors import CodecError
from codec_wire.http import HF_DECODE_PATH
from codec_wire.latents import LatentStreamHeader
from codec_wire.pipelines import PIPELINES
from codec_wire.request import GenerationRequest
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.probe import probe_request
from core.served import ModelInstance
from core.service import LatentService
from core.settings import Settings, read_settings

FRAMES = 12
STEPS = 10
SHIFT = 4
"""Number of pixels by which the pan moves from one frame to the next."""
HEADING = ("latents", "upload", "bytes", "bytes in the smallest coding", "SSIM")
Latents = NDArray[Any]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Upload:
    """Mean size of one kind of upload, in bytes, and mean SSIM of its pixels to the reference.

    `smallest` is the size in the smallest content coding; None for a tensor, which the protocol does not compress.
    """

    label: str
    name: str
    size: float
    smallest: float | None
    ssim: float

    def cells(self) -> tuple[str, ...]:
        """Return the cells of a table row."""
        smallest = "-" if self.smallest is None else f"{self.smallest:.0f}"
        return self.label, self.name, f"{self.size:.0f}", smallest, f"{self.ssim:.4f}"


class Server:
    """Client of the HTTP server of one model."""

    def __init__(self, url: str, served: ModelInstance, scaling_factor: float) -> None:
        self.url = url
        self._scaling_factor = scaling_factor
        self.served = served

    async def decode_tensor(self, latents: Latents, dtype: str) -> Pixels:
        """Return the pixels [frames, H, W, 3] that remote_decode receives for each frame of `latents`."""
        import torch  # noqa: PLC0415 - takes seconds
        from diffusers.utils.remote_utils import remote_decode  # noqa: PLC0415

        def decode() -> Pixels:
            frames = [
                remote_decode(
                    self.url + HF_DECODE_PATH,
                    tensor=torch.from_numpy(frame[np.newaxis].astype(dtype)),
                    scaling_factor=self._scaling_factor,
                    output_type="pt",
                    partial_postprocess=True,
                    return_type="pt",
                )
                for frame in latents
            ]
            return np.concatenate([frame.numpy() for frame in frames])

        return await asyncio.to_thread(decode)

    async def decode_body(self, body: Body) -> Pixels:
        """Return the pixels that the client receives for a stream."""
        async with HttpClient(self.url) as client:
            return (await client.decode(body.identity)).frames


def stream_of(latents: Latents, pipeline: str, served: ModelInstance) -> Body:
    """Return the stream of `latents` [latent frames, C, h, w] in msgpack. It is a video if there are several frames."""
    last = len(latents) - 1
    header = LatentStreamHeader(
        served.model.latent_space,
        latents.shape[1:],
        served.bundle.latent_map.dtype,
        pipeline,
        scales=served.bundle.static_scales(pipeline),
        fps=12 if last else None,
        total_frames=last + 1,
    )
    encoder = LatentEncoder(header)
    frames = [
        encoder.encode(latent, keyframe=seq == 0 or not header.pipeline_spec.delta, last=seq == last)
        for seq, latent in enumerate(latents)
    ]
    return Body(
        header,
        frames,
        [encode(header, WireFormat.MSGPACK), *(encode(frame, WireFormat.MSGPACK) for frame in frames)],
    )


async def measure(label: str, samples: Sequence[Latents], pipelines: Sequence[str], server: Server) -> list[Upload]:
    """Return the uploads of `samples`, each [latent frames, C, h, w]."""
    references = [await server.decode_tensor(latents, "float32") for latents in samples]
    half = [await server.decode_tensor(latents, "float16") for latents in samples]
    values = fmean(latents.size for latents in samples)
    uploads = [
        Upload(label, "tensor, fp32", values * 4, None, 1.0),
        Upload(label, "tensor, fp16", values * 2, None, _mean_ssim(references, half)),
    ]
    for pipeline in pipelines:
        found = server.served.bundle.dictionary(WireFormat.MSGPACK, pipeline)
        dictionary = None if found is None else found[1]
        bodies = [stream_of(latents, pipeline, server.served) for latents in samples]
        sizes = [measure_sizes(body, dictionary) for body in bodies]
        smallest = fmean(
            min(size for size in (one.identity, one.gzip, one.br, one.zstd, one.zstd_dictionary) if size is not None)
            for one in sizes
        )
        decoded = [await server.decode_body(body) for body in bodies]
        size = fmean(one.identity for one in sizes)
        uploads.append(Upload(label, pipeline, size, smallest, _mean_ssim(references, decoded)))
    return uploads


def _mean_ssim(references: Sequence[Pixels], decoded: Sequence[Pixels]) -> float:
    return fmean(fmean(ssim_of_frames(one, other)) for one, other in zip(references, decoded, strict=True))


async def run_measurement(
    settings: Settings, count: int, request_for: Callable[[ModelInstance, int], GenerationRequest]
) -> list[Upload]:
    """Serve the model over HTTP, send `count` images and a video, and return the uploads. Raises CodecError."""
    model, service = LocalModel(settings), LatentService(Lifecycle(), Admission(4, settings.max_cost))
    http = await start_http_server(service, "127.0.0.1", 0, settings.request_timeout_s)
    try:
        await model.start_serving(service)
        served = service.models.require_default()
        factor = served.bundle.latent_map.vae_scale_factor or 1.0
        server = Server(f"http://127.0.0.1:{http.port}", served, factor)
        images = [np.stack(await generate_latents(served, request_for(served, number))) for number in range(count)]
        pipelines = [name for name in PIPELINES if not PIPELINES[name].video_only]
        uploads = await measure("image", images, pipelines, server)
        pan = await _pan(images[0], server)
        return uploads + await measure(f"video, {len(pan)} frames", [pan], list(PIPELINES), server)
    finally:
        await http.stop()
        await asyncio.to_thread(model.free)


async def _pan(image: Latents, server: Server) -> Latents:
    """Return the latents of a video of FRAMES frames that pans over the pixels of `image`."""
    from PIL import Image  # noqa: PLC0415 - like the other imports of the model's libraries

    pixels = (await server.decode_tensor(image, "float32"))[0]
    async with HttpClient(server.url) as client:
        frames = [Image.fromarray(np.roll(pixels, SHIFT * number, axis=1)) for number in range(FRAMES)]
        return np.concatenate([(await client.encode(frame)).latents for frame in frames]).astype(np.float32)


def image_request(served: ModelInstance, number: int) -> GenerationRequest:
    """Return the request for an image of the model's default size."""
    modality = served.model.modalities[0]
    return probe_request(served.model, modality, PROMPTS[number % len(PROMPTS)], SEED + number, steps=STEPS)


def main() -> int:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description="Compare the upload bytes and the SSIM of every pipeline with those of a raw tensor."
    )
    parser.add_argument("--model", help="model to measure (default: CODEC_MODEL)")
    parser.add_argument("--models-dir", type=Path, help="directory of local models and latent-space maps")
    parser.add_argument("--threads", type=int, help="number of CPU threads")
    parser.add_argument("--count", type=int, default=4, help="number of images (default: %(default)s)")
    options = vars(parser.parse_args())
    count = options.pop("count")
    try:
        uploads = asyncio.run(run_measurement(read_settings(options), count, image_request))
    except CodecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for cells in (HEADING, ("---",) * len(HEADING), *(upload.cells() for upload in uploads)):
        print("| " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
