"""A file that `generate` or a server has written, with the parameters for generating the file again."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec_client import LatentStreamDecoder
from codec_pixels.parameters import KEYWORD
from codec_server.terminal.output_file import parameters_path
from codec_wire.errors import InvalidSettings
from codec_wire.format_detection import detect_wire_format
from codec_wire.latents import Modality
from codec_wire.maps.bundle import sha256
from codec_wire.wire_format import WireFormat

_PNG_MAGIC = b"\x89PNG"
_COPIED_FIELDS = (
    "prompt",
    "negative_prompt",
    "prompt_syntax",
    "seed",
    "steps",
    "scheduler",
    "loras",
    "guidance_scale",
    "strength",
    "pipeline",
    "extra",
)
_VIDEO_FIELDS = ("fps", "frames", "keyframe_interval")


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """The contents of a PNG image or of a latent stream, with generation parameters.

    For a PNG image, `pixels` is a uint8 array of the shape [H, W, 3]. For a latent stream, `body` is the uncompressed
    stream.
    """

    parameters: dict[str, Any]
    body: bytes | None = None
    pixels: NDArray[np.uint8] | None = None

    @property
    def wire_format(self) -> WireFormat:
        """The wire format of the stream, or the default wire format if the recorded file is an image."""
        return WireFormat.MSGPACK if self.body is None else detect_wire_format(self.body)

    def latents(self) -> NDArray[Any]:
        """Return the latents of the stream, [latent frames, C, h, w]. Raises StreamError if the stream is invalid."""
        decoder = LatentStreamDecoder(self.wire_format)
        latents = list(decoder.feed(self.body or b""))
        decoder.close()
        return np.stack(latents)

    def request(self, image: bytes | None, mask: bytes | None = None) -> dict[str, Any]:
        """Return the fields of the request without the model.

        `image` is the input image, or None if the request has no input image. `mask` is the inpainting mask, or None if
        the request has no mask.

        Raises InvalidSettings if the recorded parameters are not those of a request. Also raises InvalidSettings if the
        hash of `image` or `mask` differs from the recorded hash.
        """
        if "prompt" not in self.parameters or "size" not in self.parameters:
            raise InvalidSettings("the file does not contain the request from which it was generated")
        if self.parameters.keys() & {"control_image", "latents"}:
            raise InvalidSettings(
                "a file that was generated from a control image or from input latents cannot be reproduced"
            )
        for name, text, data in (("image", "input image", image), ("mask", "mask", mask)):
            recorded, given = self.parameters.get(name), None if data is None else sha256(data)
            if recorded != given:
                raise InvalidSettings(
                    f"the hash of the recorded {text} is {recorded or 'missing'}, but the hash of --{name} is "
                    f"{given or 'missing'}"
                )
        width, _, height = str(self.parameters["size"]).partition("x")
        is_video = "fps" in self.parameters
        names = (*_COPIED_FIELDS, *(_VIDEO_FIELDS if is_video else ()))
        fields = {name: self.parameters[name] for name in names if name in self.parameters}
        if not (width.isdecimal() and height.isdecimal()):
            raise InvalidSettings(f"the recorded size must be WIDTHxHEIGHT, got {self.parameters['size']!r}")
        fields |= {"size": (int(width), int(height)), "image": image, "mask": mask}
        return fields | {"modality": Modality.VIDEO if is_video else Modality.IMAGE}


def read_recorded_file(path: Path) -> RecordedFile:
    """Read a PNG image, or a latent stream and the JSON file next to the stream.

    Raises InvalidSettings if a file cannot be read or does not contain the parameters of a request.
    """
    data = _read(path)
    if not data.startswith(_PNG_MAGIC):
        beside = parameters_path(path)
        if not beside.is_file():
            raise InvalidSettings(
                f"{path} is not a PNG image. A latent stream can only be reproduced with the parameters in {beside}, "
                "but this file does not exist"
            )
        return RecordedFile(_parse(_read(beside), beside), body=data)
    from PIL import Image  # noqa: PLC0415 - a client without the extra `server` has no Pillow

    try:
        with Image.open(path, formats=["PNG"]) as image:
            pixels, text = np.asarray(image.convert("RGB")), image.info.get(KEYWORD)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidSettings(f"cannot read {path}: {error}") from None
    if text is None:
        raise InvalidSettings(f"{path} has no generation parameters, so it was not written by codec-diffusers")
    return RecordedFile(_parse(str(text).encode(), path), pixels=pixels)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"cannot read {path}: {error.strerror}") from None


def _parse(text: bytes, path: Path) -> dict[str, Any]:
    try:
        parameters = json.loads(text)
    except (ValueError, RecursionError):
        parameters = None
    if not isinstance(parameters, dict):
        raise InvalidSettings(f"the parameters in {path} are not a JSON object")
    return parameters
