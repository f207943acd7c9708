"""A latent-space map with the files it names, each verified against the hash that the map gives."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.errors import InvalidMap, MalformedMessage
from core.latents import parse_scales
from core.maps.document import LatentMap, parse_map

MAP_FILE = "map.json"
ASSET_FOLDER = "assets"


def sha256(data: bytes) -> str:
    """Return "sha256:<64 hex>" of `data`, the way hashes are written on the wire."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True, slots=True)
class LatentMapBundle:
    """A map, its exact bytes, their hash, and the files it names by their hashes."""

    latent_map: LatentMap
    document: bytes
    hash: str
    assets: Mapping[str, bytes]

    @classmethod
    def from_parts(cls, document: bytes, assets: Mapping[str, bytes]) -> "LatentMapBundle":
        """Return the bundle of a map's exact bytes and the files by the hash each must have.

        Raises InvalidMap: a bad document, a file that is missing, has another hash, or holds no scales.
        """
        latent_map = parse_map(document)
        verified = {}
        for what, _, expected, size in files_named_by(latent_map):
            if expected not in assets:
                raise InvalidMap(f"{what} of {latent_map.id}: the file {expected} is missing")
            data = assets[expected]
            if sha256(data) != expected:
                raise InvalidMap(f"{what} of {latent_map.id}: expected {expected}, the file has {sha256(data)}")
            if size is not None and len(data) != size:
                raise InvalidMap(f"{what} of {latent_map.id}: expected {size} bytes, the file has {len(data)}")
            verified[expected] = data
        bundle = cls(latent_map, document, sha256(document), verified)
        bundle._check_scales()
        return bundle

    @classmethod
    def from_folder(cls, folder: Path) -> "LatentMapBundle":
        """Return the bundle in `folder`: map.json, and assets/<hex> for each file it names. Raises InvalidMap."""
        try:
            document = (folder / MAP_FILE).read_bytes()
            assets = {f"sha256:{path.name}": path.read_bytes() for path in (folder / ASSET_FOLDER).glob("*")}
        except OSError as error:
            raise InvalidMap(f"cannot read the latent-space map in {folder}: {error.strerror}") from None
        try:
            return cls.from_parts(document, assets)
        except InvalidMap as error:
            raise InvalidMap(f"{folder}: {error.message}") from None

    def write(self, folder: Path) -> None:
        """Write map.json and assets/<hex> to `folder`, made where it is not there."""
        (folder / ASSET_FOLDER).mkdir(parents=True, exist_ok=True)
        (folder / MAP_FILE).write_bytes(self.document)
        for name, data in self.assets.items():
            (folder / ASSET_FOLDER / name.removeprefix("sha256:")).write_bytes(data)

    def static_scales(self, pipeline: str) -> bytes | None:
        """Return the pipeline's scales, one little-endian fp16 per channel; None where it takes none from the map."""
        entry = self.latent_map.pipeline(pipeline)
        if entry is None or entry.static_scales is None:
            return None
        return self.assets[entry.static_scales.hash]

    def dictionary(self, wire_format: str, pipeline: str) -> tuple[str, bytes] | None:
        """Return (hash, bytes) of the zstd dictionary for bodies of that format and pipeline; None where none is."""
        for entry in self.latent_map.zstd_dictionaries:
            if (entry.format, entry.pipeline) == (wire_format, pipeline):
                return entry.hash, self.assets[entry.hash]
        return None

    def _check_scales(self) -> None:
        for entry in self.latent_map.pipelines:
            if entry.static_scales is None:
                continue
            try:
                parse_scales(self.assets[entry.static_scales.hash], self.latent_map.shape[0])
            except MalformedMessage as error:
                raise InvalidMap(f"static scales of {entry.name} of {self.latent_map.id}: {error.message}") from None


def files_named_by(latent_map: LatentMap) -> list[tuple[str, str, str, int | None]]:
    """Return (what it is, url, hash, size in bytes where given) of every file that the map names."""
    files: list[tuple[str, str, str, int | None]] = []
    for entry in latent_map.pipelines:
        scales = entry.static_scales
        if scales is not None:
            files.append((f"static scales of {entry.name}", scales.url, scales.hash, scales.size_bytes))
    for dictionary in latent_map.zstd_dictionaries:
        what = f"zstd dictionary for {dictionary.format} {dictionary.pipeline}"
        files.append((what, dictionary.url, dictionary.hash, dictionary.size_bytes))
    return files
