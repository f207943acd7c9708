"""Valid images and request bodies, and random changes to them, for bench.fuzz_requests."""

import base64
import io
import json
import random
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from bench.fuzz import mutated
from codec_wire import WireFormat, encode
from codec_wire.codings import CODINGS
from codec_wire.encoder import LatentEncoder
from codec_wire.http import EDITS_PATH, GENERATION_PATHS
from codec_wire.latents import LatentDtype, LatentStreamHeader, Modality
from codec_wire.pipelines import PIPELINES, Scales

PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
JPEG_MODES = ("L", "RGB", "CMYK")
WEBP_MODES = ("RGB", "RGBA")
SIZE = (24, 17)
"""Width and height of the valid images in pixels."""


def images() -> list[bytes]:
    """Return PNG, JPEG and WebP files in all modes that Pillow writes, with and without metadata."""
    picture = Image.radial_gradient("L").resize(SIZE)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    exif[0x010F] = "a camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    text = PngInfo()
    text.add_text("prompt", "a sea")
    text.add_itxt("description", "üñí", zip=True)
    metadata: list[dict[str, Any]] = [{}, {"exif": exif.tobytes(), "icc_profile": profile}]
    found = []
    for extra in metadata:
        found += [_file(picture.convert(mode), "PNG", pnginfo=text if extra else None, **extra) for mode in PNG_MODES]
        found += [_file(picture.convert(mode), "JPEG", progressive=bool(extra), **extra) for mode in JPEG_MODES]
        found += [_file(picture.convert(mode), "WEBP", lossless=bool(extra), **extra) for mode in WEBP_MODES]
    transparent = picture.convert("P")
    frames = [picture.convert("RGB"), picture.convert("RGB").rotate(90)]
    found.append(_file(transparent, "PNG", transparency=bytes(range(256))))
    found.append(_file(picture, "PNG", transparency=7))
    found.append(_file(frames[0], "PNG", save_all=True, append_images=frames[1:]))
    found.append(_file(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    return found


def latent_streams(latent_space: str) -> list[bytes]:
    """Return the bodies of streams of 64x64 pixels in all pipelines, wire formats and content codings."""
    latents = np.random.default_rng(0).standard_normal((4, 8, 8)).astype(np.float16)
    found = []
    for name, spec in PIPELINES.items():
        scales = bytes.fromhex("0044") * 4 if spec.scales is Scales.STATIC else None
        fps = 8 if spec.delta else None
        header = LatentStreamHeader(latent_space, (4, 8, 8), LatentDtype.FP16, name, scales, fps, total_frames=1)
        frame = LatentEncoder(header).encode(latents, keyframe=True, last=True)
        for wire_format in WireFormat:
            for coding in CODINGS.values():
                compressor = coding.compressor()
                body = encode(header, wire_format) + encode(frame, wire_format)
                found.append(compressor.compress(body) + compressor.finish())
    return found


def _file(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **{name: value for name, value in options.items() if value is not None})
    return file.getvalue()


def mutated_image(rng: random.Random, corpus: list[bytes]) -> bytes:
    """Return a file from `corpus` with random changes.

    Half of the files keep their length, because most decoders stop at a missing or shifted part. Half of the PNG files
    get valid checksums, so that decoders read the changed chunks.
    """
    if rng.random() < 0.5:
        data = mutated(rng, corpus)
    else:
        changed = bytearray(rng.choice(corpus))
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(len(changed))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        data = bytes(changed)
    return _with_valid_checksums(data) if data.startswith(b"\x89PNG") and rng.random() < 0.5 else data


def _with_valid_checksums(data: bytes) -> bytes:
    """Return a PNG file with the checksum of every chunk corrected, so that decoders read the changed chunks."""
    fixed = bytearray(data)
    at = 8
    while at + 12 <= len(fixed):
        end = at + 8 + struct.unpack_from(">I", fixed, at)[0]
        if end + 4 > len(fixed):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(fixed[at + 4 : end]))
        at = end + 4
    return bytes(fixed)


_COMMON: dict[str, Any] = {
    "prompt": "a sea",
    "negative_prompt": "fog",
    "model": "tiny",
    "size": "64x64",
    "steps": 2,
    "seed": 7,
    "guidance_scale": 7.5,
    "user": "u",
    "n": 1,
}
_VIDEO: dict[str, Any] = {"fps": 8, "frames": 3, "keyframe_interval": 2, "duration_seconds": 0.5}
_NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**32, 2**64, -(2**64), 10**400, 0.5, -0.0, 1e308, 5e-324, "", "0", "-1",
    "1e9", "auto", "9" * 5000, "a" * 10_000, "\0", "\ud800", "\u202e", "ü" * 100, "64x64", "0x0", "999999x999999",
    [], {}, [[]], ["a"] * 100, {"a": {"b": {}}}, "data:image/png;base64,", "====", "%s{}", "../../etc/passwd",
    [{"name": "../a", "scale": 1e308}], [{"name": "a"}] * 9, [{}],
)  # fmt: skip
_NAMES = (
    *_COMMON, *_VIDEO, "image", "control_image", "mask", "latents", "strength", "scheduler", "extra", "resolution",
    "prompt_syntax", "loras",
    "stream_format", "modality", "latent_space", "pipeline", "stream", "response_format", "output_format",
    "output_compression", "background", "quality", "style", "moderation", "partial_images", "safety_identifier",
    "complexity", "svg", "", "\0",
    "prompt ", "a" * 5000,
)  # fmt: skip
_CHOICES = (
    "msgpack", "protobuf", "raw", "int8", "image-latents", "video-latents", "png", "jpeg", "webp", "b64_json", "compel",
)  # fmt: skip
_ACCEPT = ("*/*", "application/json", "application/x-codec-msgpack", "application/x-protobuf;q=0.5, */*;q=0", ";,;q=x")
_CODINGS = ("identity", "gzip", "br", "zstd", "*;q=0", "gzip;q=nan, br;q=2", "")


def bodies(image: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Return valid requests as (path, body): latents and pixels of images and videos, with and without `image`."""
    with_image = {"image": base64.b64encode(image).decode(), "strength": 0.5}
    with_mask = {"image": with_image["image"], "mask": with_image["image"], "scheduler": "euler"}
    image_path, video_path = GENERATION_PATHS[Modality.IMAGE], GENERATION_PATHS[Modality.VIDEO]
    pixels = {"output_format": "webp", "output_compression": 50, "response_format": "b64_json"}
    found = [
        (image_path, _COMMON | {"stream_format": "msgpack"}),
        (image_path, _COMMON | {"stream_format": "protobuf", "pipeline": "int8"} | with_image),
        (image_path, _COMMON | {"modality": "image-latents"}),
        (image_path, {"prompt": "x"} | pixels),
        (image_path, {"prompt": "x", "n": 2} | with_image),
        (image_path, {"prompt": "x", "stream_format": "msgpack"} | with_mask),
        (EDITS_PATH, {"prompt": "x", "image": with_image["image"], "mask": with_image["image"], "size": "64x64"}),
        (EDITS_PATH, {"prompt": "x", "images": [{"image_url": f"data:image/png;base64,{with_image['image']}"}]}),
        (image_path, {"prompt": "x", "stream": True} | pixels),
        (video_path, _COMMON | {"stream_format": "msgpack", "pipeline": "delta+int8", "frames": 3}),
        (video_path, _COMMON | {"modality": "video-latents", "duration_seconds": 0.5, "fps": 8}),
    ]
    return [(path, {name: value for name, value in body.items() if name != "model"}) for path, body in found]


def mutated_request(rng: random.Random, corpus: list[tuple[str, dict[str, Any]]]) -> tuple[str, bytes, dict[str, str]]:
    """Return (path, body, headers) of a request from `corpus` with random changes of its fields and of its bytes."""
    path, body = rng.choice(corpus)
    body = dict(body)
    for _ in range(rng.randint(0, 4)):
        name = rng.choice(_NAMES)
        kind = rng.randrange(4)
        if kind == 0:
            body.pop(name, None)
        elif kind == 1:
            body[name] = rng.choice(_CHOICES)
        else:
            body[name] = rng.choice(_NASTY)
    data = json.dumps(body, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    if rng.random() < 0.4:
        data = mutated(rng, [data])
    headers = {
        "Accept": rng.choice(_ACCEPT),
        "Accept-Encoding": rng.choice(_CODINGS),
        "Content-Type": "application/json" if rng.random() < 0.9 else rng.choice(("text/plain", "a/b; charset=x", "")),
    }
    if rng.random() < 0.05:
        headers["Content-Encoding"] = rng.choice(("gzip", "br", "identity", "zstd", "x"))
    if rng.random() < 0.05:
        headers["X-Codec-Map"] = rng.choice(("sha256:" + "0" * 64, "sha256:", "http://a/b;sha256=" + "f" * 64, "ü"))
    return path, data, headers
