"""Lookup of latent-space map bundles on disk, first in the models directory, then in the data of the embedded model."""

import logging
from pathlib import Path
from tempfile import TemporaryFile

from codec_pixels.known_models import EMBEDDED_MODELS_DIR
from codec_wire.atomic_file import write_atomically
from codec_wire.errors import InvalidMap
from codec_wire.maps.bundle import HASH_FILE, MAP_FILE, LatentMapBundle
from codec_wire.maps.latent_rgb import LatentRgb
from core.model import ModelInfo

log = logging.getLogger(__name__)

FOLDER = "latent-spaces"
"""Name of the folder in a models directory that contains the latent-space map bundles."""
RGB_FILE = "latent_rgb.json"
"""Name of the file with the latent-to-RGB matrix, in the folder of a latent-space map.

The file RGB_FILE is not part of the latent-space map.
"""
CALIBRATED_FILE = "calibrated.sha256"
"""Name of the file that a server writes next to a latent-space map that the server has calibrated.

The file CALIBRATED_FILE contains the hash of the latent-space map.
"""


def bundle_folder(models_dir: Path, latent_space: str) -> Path:
    """Return the folder for the bundle of `latent_space` in `models_dir`.

    The returned folder does not have to exist.
    """
    return models_dir / FOLDER / latent_space


def require_writable(folder: Path) -> None:
    """Create `folder`, and check that the files of a bundle can be written to it. Raises InvalidMap if they cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InvalidMap(f"cannot write the latent-space map to {folder}: {error.strerror}") from None


def find_bundle_folder(models_dir: Path, latent_space: str) -> Path | None:
    """Return the folder of the bundle of `latent_space`, or None if the bundle does not exist.

    The files in `models_dir` take precedence over the files of the embedded model. An id that contains ".." or begins
    with "/" has no bundle.
    """
    if ".." in latent_space or latent_space.startswith("/"):
        return None
    folders = [bundle_folder(directory, latent_space) for directory in (models_dir, EMBEDDED_MODELS_DIR)]
    return next((folder for folder in folders if (folder / MAP_FILE).is_file()), None)


def list_bundle_folders(models_dir: Path) -> list[Path]:
    """Return the folders of all bundles in `models_dir`, followed by the folders of the embedded bundles."""
    directories = (models_dir, EMBEDDED_MODELS_DIR)
    return [path.parent for directory in directories for path in sorted((directory / FOLDER).glob(f"**/{MAP_FILE}"))]


def find_bundle(models_dir: Path, model: ModelInfo, vae_scale_factor: float) -> LatentMapBundle | None:
    """Return the bundle for the latent space of `model`, or None if the bundle does not exist.

    For a damaged bundle that a server has calibrated, the damage is logged and None is returned. The server calibrates
    a new map if None is returned. Raises InvalidMap if the bundle does not match the model. Also raises InvalidMap for
    a damaged bundle that was not calibrated by a server.
    """
    folder = find_bundle_folder(models_dir, model.latent_space)
    if folder is None:
        return None
    try:
        bundle = LatentMapBundle.from_folder(folder)
    except InvalidMap as error:
        if not _is_calibrated(folder):
            raise
        log.warning("%s; this map was calibrated by the server and will be calibrated again", error)
        return None
    require_map_of(model, vae_scale_factor, bundle, str(folder))
    return bundle


def store_calibrated(folder: Path, bundle: LatentMapBundle) -> None:
    """Write to `folder` a latent-space map that the server has calibrated. Raises InvalidMap if writing fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / CALIBRATED_FILE, f"{bundle.hash}\n".encode())
    except OSError as error:
        raise InvalidMap(f"cannot write the latent-space map to {folder}: {error.strerror}") from None
    bundle.write(folder)


def store_latent_rgb(folder: Path, matrix: LatentRgb) -> None:
    """Write the latent-to-RGB matrix to the existing folder of a map.

    Raises InvalidMap if the file cannot be written.
    """
    try:
        write_atomically(folder / RGB_FILE, matrix.serialize())
    except OSError as error:
        raise InvalidMap(f"cannot write {RGB_FILE} to {folder}: {error.strerror}") from None


def find_latent_rgb(models_dir: Path, latent_space: str, channels: int) -> LatentRgb | None:
    """Return the latent-to-RGB matrix of a latent space with `channels` channels, or None if no matrix is stored.

    The files in `models_dir` take precedence over the files of the embedded model. A damaged file is logged and
    ignored.
    """
    if ".." in latent_space or latent_space.startswith("/"):
        return None
    for path in (bundle_folder(one, latent_space) / RGB_FILE for one in (models_dir, EMBEDDED_MODELS_DIR)):
        try:
            matrix = LatentRgb.parse(path.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, InvalidMap) as error:
            log.warning("%s is ignored: %s", path, error)
            return None
        if (matrix.latent_space, len(matrix.matrix)) == (latent_space, channels):
            return matrix
        log.warning("%s is ignored: it is not a matrix for the %d channels of %s", path, channels, latent_space)
        return None
    return None


def _is_calibrated(folder: Path) -> bool:
    """Return whether the map in `folder` was calibrated by a server and was not replaced after the calibration."""
    try:
        digest = (folder / CALIBRATED_FILE).read_text(errors="replace").strip()
    except OSError:
        return False
    try:
        listed = (folder / HASH_FILE).read_text(errors="replace")
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return digest.removeprefix("sha256:") in listed.split()


def require_map_of(model: ModelInfo, vae_scale_factor: float, bundle: LatentMapBundle, origin: str) -> None:
    """Raise InvalidMap if the map in `bundle` does not match `model`.

    `origin` is the place from which the bundle was read, for the error message.
    """
    found = bundle.latent_map
    for name, expected, actual in (
        ("id", model.latent_space, found.id),
        ("number of channels", model.latent_channels, found.shape[0]),
        ("vae_scale_factor", vae_scale_factor, found.vae_scale_factor or vae_scale_factor),
    ):
        if actual != expected:
            raise InvalidMap(
                f"{origin}: the {name} of the latent-space map is {actual}, but {model.name} has {expected}"
            )
