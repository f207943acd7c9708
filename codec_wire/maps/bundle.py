"""A latent-space map with the files it names, each verified against the hash that the map gives."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codec_wire.errors import InvalidMap, MalformedMessage, truncated_repr
from codec_wire.latents import parse_scales
from codec_wire.maps.document import LatentMap, parse_map

MAP_FILE = "map.json"
HASH_FILE = "map.json.sha256"
"""The hash of map.json, as sha256sum writes it: the other files' hashes stand in the map, its own needs a place."""
ASSET_FOLDER = "assets"
_HEX = re.compile(r"[0-9a-f]{64}")


def sha256(data: bytes) -> str:
    """Return "sha256:<64 hex>" of `data`, the way hashes are written on the wire."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _listing(document: bytes) -> str:
    return f"{sha256(document).removeprefix('sha256:')}  {MAP_FILE}\n"


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
        for what, _, expected, size in map_files(latent_map):
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
        """Return the bundle in `folder`: map.json, its hash, and assets/<hex> for each file it names.

        Raises InvalidMap naming the file at fault, what it should be and what it is.
        """
        try:
            document = (folder / MAP_FILE).read_bytes()
            listed = (folder / HASH_FILE).read_text(errors="replace")
            files = [path for path in (folder / ASSET_FOLDER).glob("*") if path.is_file()]
            assets = {f"sha256:{path.name}": path.read_bytes() for path in files}
        except OSError as error:
            place = Path(error.filename or "")
            hint = f"; `sha256sum {MAP_FILE} > {HASH_FILE}` makes it" if place.name == HASH_FILE else ""
            raise InvalidMap(
                f"cannot read the latent-space map in {folder}: {place.name}: {error.strerror}{hint}"
            ) from None
        if listed != _listing(document):
            raise InvalidMap(
                f"{folder}: {MAP_FILE} has the hash {sha256(document)}, but {HASH_FILE} contains "
                f"{truncated_repr(listed)}; one of the two files was changed"
            )
        try:
            return cls.from_parts(document, assets)
        except InvalidMap as error:
            raise InvalidMap(f"{folder}: {error.message}") from None

    def write(self, folder: Path) -> None:
        """Write map.json, its hash and assets/<hex> to `folder`, made where it is not there.

        Files of an older map of that folder go. Raises OSError.
        """
        assets = folder / ASSET_FOLDER
        assets.mkdir(parents=True, exist_ok=True)
        ours = {name.removeprefix("sha256:"): data for name, data in self.assets.items()}
        for name, data in ours.items():
            (assets / name).write_bytes(data)
        (folder / MAP_FILE).write_bytes(self.document)
        (folder / HASH_FILE).write_text(_listing(self.document))
        for path in assets.iterdir():
            if path.name not in ours and _HEX.fullmatch(path.name):
                path.unlink()

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


def map_files(latent_map: LatentMap) -> list[tuple[str, str, str, int | None]]:
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
