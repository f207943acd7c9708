"""Bundle of a latent-space map and the files that the map refers to. The hash of every file is verified."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from codec_wire.atomic_file import delete_leftovers, write_atomically
from codec_wire.errors import InvalidMap, MalformedMessage, truncated_repr
from codec_wire.latents import parse_scales
from codec_wire.maps.document import LatentMap, parse_map

MAP_FILE = "map.json"
HASH_FILE = "map.json.sha256"
"""Name of the file that contains the hash of map.json, in the format of the program sha256sum.

The map itself contains the hashes of the files that the map refers to.
"""
ASSETS_DIR = "assets"
_HEX = re.compile(r"[0-9a-f]{64}")


def sha256(data: bytes) -> str:
    """Return the hash of `data` as "sha256:<64 hex>", the form used on the wire."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _hash_line(document: bytes) -> str:
    return f"{sha256(document).removeprefix('sha256:')}  {MAP_FILE}"


@dataclass(frozen=True, slots=True)
class LatentMapBundle:
    """A latent-space map and the files that the map refers to.

    `latent_map` is the parsed map, `document` contains the exact bytes of the map, and `hash` is the hash of
    `document`. The keys of the dictionary `assets` are the hashes of the files, and the values are the contents of the
    files.
    """

    latent_map: LatentMap
    document: bytes
    hash: str
    assets: Mapping[str, bytes]

    @classmethod
    def from_parts(cls, document: bytes, assets: Mapping[str, bytes]) -> "LatentMapBundle":
        """Return the bundle of a map and its files.

        The keys of the dictionary `assets` are the hashes of the files, and the values are the contents of the files.
        Raises InvalidMap if the document or the static scales are not valid. Raises InvalidMap also if a file is
        missing, or if the hash or the size of a file differs from what the map states.
        """
        latent_map = parse_map(document)
        verified = {}
        for name, _, expected, size in map_files(latent_map):
            if expected not in assets:
                raise InvalidMap(f"{name} in the map of {latent_map.id}: the file {expected} is missing")
            data = assets[expected]
            if sha256(data) != expected:
                raise InvalidMap(
                    f"{name} in the map of {latent_map.id}: the hash is {sha256(data)}, expected {expected}"
                )
            if size is not None and len(data) != size:
                raise InvalidMap(
                    f"{name} in the map of {latent_map.id}: the file has {len(data)} bytes, expected {size} bytes"
                )
            verified[expected] = data
        bundle = cls(latent_map, document, sha256(document), verified)
        bundle._check_scales()
        return bundle

    @classmethod
    def from_folder(cls, folder: Path) -> "LatentMapBundle":
        """Return the bundle that is stored in `folder`.

        The folder contains map.json, map.json.sha256, and a file assets/<hex> for each file that the map refers to.

        Raises InvalidMap if a file is missing or not valid. The error message names the file.
        """
        try:
            document = (folder / MAP_FILE).read_bytes()
            listed = (folder / HASH_FILE).read_text(errors="replace")
            files = [path for path in (folder / ASSETS_DIR).glob("*") if path.is_file()]
            assets = {f"sha256:{path.name}": path.read_bytes() for path in files}
        except OSError as error:
            name = Path(error.filename or "").name
            hint = f"; create it with `sha256sum {MAP_FILE} > {HASH_FILE}`" if name == HASH_FILE else ""
            raise InvalidMap(f"cannot read the latent-space map in {folder}: {name}: {error.strerror}{hint}") from None
        if _hash_line(document) not in _lines(listed):
            raise InvalidMap(
                f"{folder}: {MAP_FILE} has the hash {sha256(document)}, but {HASH_FILE} contains "
                f"{truncated_repr(listed)}; one of the two files was modified"
            )
        try:
            return cls.from_parts(document, assets)
        except InvalidMap as error:
            raise InvalidMap(f"{folder}: {error.message}") from None

    def write(self, folder: Path) -> None:
        """Write map.json, map.json.sha256 and the files assets/<hex> to `folder`.

        A missing folder is created. If the process is killed during the call, the folder contains either the previous
        map or the new map. If the process is killed and `folder` did not contain a previous map, map.json may be
        missing. At the end of the call, the files that only the previous map refers to are deleted. Raises InvalidMap
        if the files cannot be written. The error message states the reason.
        """
        assets = folder / ASSETS_DIR
        files = {name.removeprefix("sha256:"): data for name, data in self.assets.items()}
        line = _hash_line(self.document)
        try:
            assets.mkdir(parents=True, exist_ok=True)
            for name, data in files.items():
                write_atomically(assets / name, data)
            # Two files cannot be replaced at the same time, so the list contains both hashes in between.
            write_atomically(folder / HASH_FILE, "".join(f"{one}\n" for one in [line, *_valid_line(folder)]).encode())
            write_atomically(folder / MAP_FILE, self.document)
            write_atomically(folder / HASH_FILE, f"{line}\n".encode())
            for path in assets.iterdir():
                if path.name not in files and _HEX.fullmatch(path.name):
                    path.unlink(missing_ok=True)  # another process may delete it too
            for directory in (folder, assets):
                delete_leftovers(directory)
        except OSError as error:
            raise InvalidMap(f"cannot write the latent-space map to {folder}: {error.strerror}") from None

    def static_scales(self, pipeline: str) -> bytes | None:
        """Return the static scales of an encoding pipeline, or None if the encoding pipeline has no static scales.

        The static scales are little-endian fp16 numbers, one number per channel.
        """
        entry = self.latent_map.pipeline(pipeline)
        if entry is None or entry.static_scales is None:
            return None
        return self.assets[entry.static_scales.hash]

    def dictionary(self, wire_format: str, pipeline: str) -> tuple[str, bytes] | None:
        """Return the hash and bytes of the zstd dictionary for the wire format and encoding pipeline.

        Return None if the map has no zstd dictionary for the wire format and encoding pipeline.
        """
        for entry in self.latent_map.zstd_dictionaries:
            if (entry.format, entry.pipeline) == (wire_format, pipeline):
                return entry.hash, self.assets[entry.hash]
        return None

    def zstd_dictionaries(self) -> dict[str, bytes]:
        """Return all zstd dictionaries of the map, keyed by the hashes of the dictionaries."""
        return {entry.hash: self.assets[entry.hash] for entry in self.latent_map.zstd_dictionaries}

    def _check_scales(self) -> None:
        for entry in self.latent_map.pipelines:
            if entry.static_scales is None:
                continue
            try:
                parse_scales(self.assets[entry.static_scales.hash], self.latent_map.shape[0])
            except MalformedMessage as error:
                raise InvalidMap(
                    f"static scales of {entry.name} in the map of {self.latent_map.id}: {error.message}"
                ) from None


def _lines(text: str) -> list[str]:
    """Return the lines of `text` that end with a newline character."""
    return text.split("\n")[:-1]


def _valid_line(folder: Path) -> list[str]:
    """Return a list with one line of HASH_FILE, which contains the hash of the map in `folder`.

    The list is empty if the map is missing, or if the hash of the map is not in HASH_FILE.
    """
    try:
        line, listed = _hash_line((folder / MAP_FILE).read_bytes()), (folder / HASH_FILE).read_text(errors="replace")
    except FileNotFoundError:
        return []
    return [line] if line in _lines(listed) else []


class MapFile(NamedTuple):
    """A file that a map refers to. `size_bytes` is only set if the map states the size."""

    name: str
    url: str
    hash: str
    size_bytes: int | None


def map_files(latent_map: LatentMap) -> list[MapFile]:
    """Return the files with static scales and zstd dictionaries that a latent-space map refers to."""
    files = []
    for entry in latent_map.pipelines:
        scales = entry.static_scales
        if scales is not None:
            files.append(MapFile(f"static scales of {entry.name}", scales.url, scales.hash, scales.size_bytes))
    for dictionary in latent_map.zstd_dictionaries:
        name = f"zstd dictionary for {dictionary.format} {dictionary.pipeline}"
        files.append(MapFile(name, dictionary.url, dictionary.hash, dictionary.size_bytes))
    return files
