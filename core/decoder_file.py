"""The exported decoder of a latent space.

The exported decoder is an ONNX file next to the latent-space map. Browsers can decode latents with the exported
decoder.
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from codec_pixels.known_models import EMBEDDED_MODELS_DIR
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.bundle import MAP_FILE, sha256
from core.map_store import bundle_folder

log = logging.getLogger(__name__)

DECODER_FILE = "decoder.onnx"
"""Name of the decoder file in the folder of a map. The command `codec-diffusers map export-decoder` writes this
file."""
ONNX = "onnx"
"""Value that means an ONNX decoder, in the field `decoder.family` of maps and in the field `family` of /codec/info."""


@dataclass(frozen=True, slots=True)
class DecoderFile:
    """An ONNX decoder on disk.

    `hash` is the hash of the file in the form "sha256:<hex>". `modified_ns` is the time of the last change of the file
    in nanoseconds.
    """

    path: Path
    hash: str
    size_bytes: int
    modified_ns: int

    def is_unchanged(self) -> bool:
        """Return whether the size and the modification time of the file are the same as when the file was hashed.

        The content of the file is not read. If the file does not exist, the result is False.
        """
        try:
            status = self.path.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size_bytes, self.modified_ns)


def find_decoder(models_dir: Path | None, bundle: LatentMapBundle) -> DecoderFile | None:
    """Return the exported decoder of the map `bundle`, or None if the decoder was not exported.

    The folder of the map is looked up first in `models_dir`, and then in the data of the embedded model. If the map in
    a folder does not have the hash of `bundle`, the folder is skipped. If the map contains the hash of an ONNX decoder,
    a decoder file with another hash is logged and ignored. A decoder file that cannot be read is logged and ignored.
    """
    for directory in (models_dir, EMBEDDED_MODELS_DIR):
        if directory is None:
            continue
        folder = bundle_folder(directory, bundle.latent_map.id)
        try:
            if sha256((folder / MAP_FILE).read_bytes()) == bundle.hash:
                return _read(folder / DECODER_FILE, _required_hash(bundle))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            log.warning("the decoder in %s is ignored: %s", folder, error.strerror)
    return None


def _read(path: Path, required: str | None) -> DecoderFile | None:
    """Return the decoder in the file `path`, or None if the file does not have the hash `required`.

    If `required` is None, a file with any hash is accepted. Raises OSError if the file cannot be read.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    if required not in (None, digest):
        log.warning("%s is ignored: its hash is %s, but the latent-space map names %s", path, digest, required)
        return None
    return DecoderFile(path, digest, status.st_size, status.st_mtime_ns)


def _required_hash(bundle: LatentMapBundle) -> str | None:
    """Return the hash of the ONNX decoder that the map contains, or None if the map contains no ONNX decoder hash."""
    decoder = bundle.latent_map.decoder
    return decoder.weights_hash if decoder is not None and decoder.family == ONNX else None
