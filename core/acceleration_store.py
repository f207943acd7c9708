"""Storage of the measured distances of fast mode from reference mode, in a file next to the latent-space map.

The command `codec-diffusers golden accelerate` writes the distances, and a server in fast mode reads the distances.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from codec_pixels.known_models import EMBEDDED_MODELS_DIR
from codec_wire.atomic_file import write_atomically
from codec_wire.errors import InvalidMap, InvalidSettings
from codec_wire.first_line import first_line
from core.acceleration import Distance
from core.map_store import bundle_folder
from core.model import ModelInfo
from core.pins import installed_versions
from core.settings import Settings

log = logging.getLogger(__name__)

ACCELERATIONS_FILE = "accelerations.json"
"""Name of the file with the measured distances, in the folder of a map.

The file ACCELERATIONS_FILE is not part of the latent-space map.
"""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AccelerationKey(_Part):
    """Everything that a measured distance depends on, except the switches.

    The key contains neither the build tags of versions ("+cpu") nor the number of threads, because both change the
    images less than any switch.
    """

    latent_map: str
    model: str
    device: str
    versions: dict[str, str]
    loras: tuple[str, ...] = ()

    @classmethod
    def of(cls, latent_map: str, model: ModelInfo, device: str) -> Self:
        """Return the key of `model` on the hardware `device`, with the libraries of this process."""
        versions = {name: version.partition("+")[0] for name, version in installed_versions().items()}
        loras = tuple(f"{lora.name}@{lora.scale:g}" for lora in model.loras)
        return cls(latent_map=latent_map, model=model.name, device=device, versions=versions, loras=loras)


class AccelerationResult(_Part):
    """The measured speed and distance of fast mode with one set of switches.

    The value of each metric is the worst value of all measured images. For one request at a time, `speed` is the time
    in reference mode divided by the time with these switches. An infinite PSNR is stored as None. The images for
    `reference_images_per_s` were generated in reference mode, alternately with the images in fast mode.
    """

    switches: tuple[str, ...]
    speed: float
    speed_concurrent: float | None = None
    """For concurrent requests, the time in reference mode divided by the time with the measured switches."""
    images_per_s: float
    images_per_s_concurrent: float | None
    reference_images_per_s: float | None = None
    reference_images_per_s_concurrent: float | None = None
    concurrent: int | None = None
    """Number of concurrent requests with which `images_per_s_concurrent` was measured."""
    peak_bytes: int | None
    ssim: float
    ssim_mean: float
    psnr_db: float | None
    lpips: float | None
    moves_reference: bool
    images: int

    @property
    def ratio(self) -> float | None:
        """The speed in images per second as a fraction of the speed in reference mode, for one request at a time."""
        return None if self.reference_images_per_s is None else self.images_per_s / self.reference_images_per_s

    @property
    def ratio_concurrent(self) -> float | None:
        """The speed in images per second as a fraction of the speed in reference mode, for concurrent requests."""
        if self.images_per_s_concurrent is None or self.reference_images_per_s_concurrent is None:
            return None
        return self.images_per_s_concurrent / self.reference_images_per_s_concurrent

    @property
    def distance(self) -> Distance:
        """The measured distance of the images from the images in reference mode."""
        return Distance(self.ssim, self.psnr_db, self.lpips)


class Accelerations(_Part):
    """The content of the file ACCELERATIONS_FILE, with one entry of results for each AccelerationKey."""

    class Entry(_Part):
        """The results of one model with one combination of map, device and library versions.

        `fixtures` are the names of the fixtures in the last measurement.
        """

        key: AccelerationKey
        fixtures: tuple[str, ...]
        reference_images_per_s: float
        reference_images_per_s_concurrent: float | None = None
        reference_peak_bytes: int | None
        results: tuple[AccelerationResult, ...]

    entries: tuple[Entry, ...] = ()

    def find(self, key: AccelerationKey, switches: Sequence[str]) -> AccelerationResult | None:
        """Return the result of `switches`, or None if the switches were not measured with the key `key`.

        If `switches` were measured only with other batch sizes, return the measured result with the largest distance. A
        result for another batch size can be used because batches change the pixels only by rounding.
        """
        results = [result for entry in self.entries if entry.key == key for result in entry.results]
        exact = (result for result in results if set(result.switches) == set(switches))
        similar = (result for result in results if _without_batches(result.switches) == _without_batches(switches))
        return next(exact, min(similar, key=lambda result: result.ssim, default=None))

    def with_entry(self, entry: Entry) -> "Accelerations":
        """Return a copy of this object that also contains `entry`.

        The results of `entry` replace the results in this object that have the same key and switches.
        """
        measured = {result.switches: result for old in self.entries if old.key == entry.key for result in old.results}
        measured |= {result.switches: result for result in entry.results}
        merged = entry.model_copy(update={"results": tuple(measured.values())})
        return Accelerations(entries=(*(old for old in self.entries if old.key != entry.key), merged))


def read_accelerations(models_dir: Path, latent_space: str) -> Accelerations:
    """Return the results that are stored in `models_dir` for the latent space `latent_space`.

    If the file ACCELERATIONS_FILE is missing, an object without results is returned. A damaged file is logged and
    ignored.
    """
    path = bundle_folder(models_dir, latent_space) / ACCELERATIONS_FILE
    try:
        return Accelerations.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Accelerations()
    except (OSError, ValidationError) as error:
        log.warning("%s is ignored: %s", path, first_line(error))
        return Accelerations()


def store_acceleration(models_dir: Path, latent_space: str, entry: Accelerations.Entry) -> Path:
    """Add `entry` to the file of results in `models_dir`, and return the path of the file.

    Raises InvalidMap if the file cannot be written.
    """
    path = bundle_folder(models_dir, latent_space) / ACCELERATIONS_FILE
    text = read_accelerations(models_dir, latent_space).with_entry(entry).model_dump_json(indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, f"{text}\n".encode())
    except OSError as error:
        raise InvalidMap(f"cannot write {path}: {error.strerror}") from None
    return path


def find_acceleration(
    models_dir: Path, latent_space: str, key: AccelerationKey, switches: Sequence[str]
) -> AccelerationResult | None:
    """Return the stored result of `switches`, or None if the switches were not measured.

    A result in `models_dir` takes precedence over a result in the data of the embedded model.
    """
    stores = (read_accelerations(folder, latent_space) for folder in (models_dir, EMBEDDED_MODELS_DIR))
    return next((found for store in stores if (found := store.find(key, switches)) is not None), None)


def require_distance(
    settings: Settings, model: str, switches: Sequence[str], result: AccelerationResult | None
) -> Distance | None:
    """Return the distance in `result`, or None if the distance is missing and `settings` allow a missing distance.

    If `switches` is empty, the distance of identical images is returned. The distance may always be missing if the
    batch size is the only switch.

    Raises InvalidSettings if the distance is missing and `settings` do not allow a missing distance. Also raises
    InvalidSettings if the distance is outside the bounds in `settings`.
    """
    names = ", ".join(switches) or "none"
    if not switches:
        return Distance(ssim=1.0, psnr_db=None)
    if result is None and not _without_batches(switches):
        return None
    if result is None:
        text = f"the distance of {model} with the switches {names} from reference mode was not measured"
        remedy = f"measure it with `codec-diffusers golden accelerate --switches {'+'.join(switches)}`"
        if settings.fast_unmeasured == "allow":
            log.warning("%s; %s", text, remedy)
            return None
        raise InvalidSettings(f"{text}: {remedy}, or set CODEC_FAST_UNMEASURED=allow (--fast-unmeasured allow)")
    missed = list(_missed(settings, result))
    if missed:
        raise InvalidSettings(
            f"fast mode of {model} with the switches {names} is outside the bounds: {'; '.join(missed)}"
        )
    if result.speed < 1:
        log.warning(
            "%s with the switches %s was measured at %.2fx the speed of reference mode", model, names, result.speed
        )
    return result.distance


def _without_batches(switches: Iterable[str]) -> frozenset[str]:
    return frozenset(name for name in switches if not name.startswith("batch_size="))


def _missed(settings: Settings, result: AccelerationResult) -> Iterable[str]:
    if result.ssim < settings.fast_min_ssim:
        yield f"SSIM must be at least {settings.fast_min_ssim:g} (CODEC_FAST_MIN_SSIM), measured {result.ssim:.4f}"
    psnr, lpips = settings.fast_min_psnr_db, settings.fast_max_lpips
    if psnr is not None and result.psnr_db is not None and result.psnr_db < psnr:
        yield f"PSNR must be at least {psnr:g} dB (CODEC_FAST_MIN_PSNR_DB), measured {result.psnr_db:.2f}"
    if lpips is not None and (result.lpips is None or result.lpips > lpips):
        measured = "not measured" if result.lpips is None else f"measured {result.lpips:.4f}"
        yield f"LPIPS must be at most {lpips:g} (CODEC_FAST_MAX_LPIPS), {measured}"
