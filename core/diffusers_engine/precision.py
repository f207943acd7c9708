"""Selection of the dtype in which a model computes: the configured dtype, or the dtype of the stored weights."""

import json
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from codec_pixels.device import AUTO, Device
from core.diffusers_engine.weight_variants import variants_of_files

DENOISERS = ("transformer", "unet", "transformer_2")
_NAMES = {"F16": "fp16", "BF16": "bf16", "F32": "fp32"}
_HEADER_LENGTH = struct.Struct("<Q")


def stored_dtype(path: Path, variant: str | None = None) -> str | None:
    """Return the dtype that most stored weights have (fp16, bf16 or fp32). Return None if the dtype cannot be read.

    `path` is the directory of a pipeline or of a VAE, or a single safetensors file. For a pipeline, the dtype of the
    denoiser (transformer or UNet) is read. If the denoiser has no weights, the dtype of the VAE is read. `variant` is
    the variant of the weights in a directory, such as fp16. Without `variant`, the default weights are selected. Only
    the headers of the files are read.
    """
    counts: Counter[str] = Counter()
    for file in _weight_files(path, variant):
        try:
            header = _read_header(file)
            for name, tensor in header.items():
                if name != "__metadata__":
                    counts[tensor["dtype"]] += prod(tensor["shape"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
            return None  # from_pretrained reports what is wrong with the file
    known = [_NAMES[name] for name, _ in counts.most_common() if name in _NAMES]
    return known[0] if known else None


def with_stored_dtype(device: Device, path: Path, variant: str | None = None) -> Device:
    """Return `device` with a dtype that fits the weights in `path` if the dtype of `device` is AUTO.

    If the dtype of `device` is not AUTO, return `device` unchanged. See automatic_dtype.
    """
    if device.dtype_name != AUTO:
        return device
    return replace(device, dtype_name=automatic_dtype(stored_dtype(path, variant)))


def automatic_dtype(stored: str | None) -> str:
    """Return the default dtype for a GPU: bf16 if the weights are stored as bf16, otherwise fp16.

    The values of a model that was trained in bf16 can exceed the range of fp16.
    """
    return "bf16" if stored == "bf16" else "fp16"


def dtype_name_of(pipeline: Any) -> str:
    """Return the name of the dtype in which the denoiser of a pipeline computes, such as "fp16"."""
    denoiser = next((part for name in DENOISERS if (part := getattr(pipeline, name, None)) is not None), None)
    name = str(getattr(denoiser, "dtype", "unknown dtype")).removeprefix("torch.")
    return {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}.get(name, name)


def _weight_files(path: Path, variant: str | None) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for folder in (*(path / name for name in (*DENOISERS, "vae")), path):
        files = {file: variants_of_files([file.name], allow_pickle=False) for file in folder.glob("*")}
        chosen = [file for file, found in files.items() if variant in found]
        # A component without the variant is loaded from its default weights.
        chosen = chosen or [file for file, found in files.items() if None in found]
        if chosen:
            yield from chosen
            return


def _read_header(file: Path) -> dict[str, Any]:
    """Return the header of a safetensors file.

    A safetensors file begins with the length of the header in 8 bytes, followed by the header as JSON.
    """
    with file.open("rb") as opened:
        (length,) = _HEADER_LENGTH.unpack(opened.read(_HEADER_LENGTH.size))
        header: dict[str, Any] = json.loads(opened.read(min(length, file.stat().st_size)))
        return header
