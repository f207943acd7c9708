"""The files of video jobs, all in one folder."""

import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.video_jobs.job import ID_PREFIX

_FILE_NAME = re.compile(rf"({ID_PREFIX}[0-9a-f]{{32}})\..+")
_INPUT = "input-"
_TEMPORARY = ".tmp"


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The files of the job `id` in `folder`. A result file is either complete or absent, even if the process is killed.

    Calls block. The methods raise OSError if a file cannot be written or deleted.
    """

    folder: Path
    id: str

    @property
    def latents(self) -> Path:
        """Path of the file that contains the latent stream in the msgpack format."""
        return self.folder / f"{self.id}.latents"

    @property
    def video(self) -> Path:
        """Path of the MP4 file."""
        return self.folder / f"{self.id}.mp4"

    def size(self) -> int:
        """Return the total size in bytes of all files of the job."""
        return sum(path.stat().st_size for path in self._all())

    def write_inputs(self, inputs: Mapping[str, bytes]) -> None:
        """Store the files of a request. The keys of `inputs` are the names of the request fields."""
        for name, data in inputs.items():
            path = self.folder / f"{self.id}.{_INPUT}{name}"
            with path.open("wb") as file:
                file.write(data)
                _flush(file.fileno())

    def read_inputs(self) -> dict[str, bytes]:
        """Return the files of the request. The keys of the result are the names of the request fields."""
        start = f"{self.id}.{_INPUT}"
        return {path.name.removeprefix(start): path.read_bytes() for path in self.folder.glob(f"{start}*")}

    def delete_inputs(self) -> None:
        """Delete the files of the request."""
        for path in self.folder.glob(f"{self.id}.{_INPUT}*"):
            path.unlink(missing_ok=True)

    def delete(self) -> None:
        """Delete all files of the job."""
        for path in self._all():
            path.unlink(missing_ok=True)

    def store_video(self, source: Path) -> None:
        """Copy the file `source` to the path `video` of this job."""
        temporary = temporary_path(self.video)
        try:
            shutil.copyfile(source, temporary)
            replace_flushed(temporary, self.video)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _all(self) -> list[Path]:
        return list(self.folder.glob(f"{self.id}.*"))


def temporary_path(path: Path) -> Path:
    """Return the path under which the file `path` is written until the file is complete."""
    return path.with_name(path.name + _TEMPORARY)


def replace_flushed(temporary: Path, path: Path) -> None:
    """Flush the file `temporary` to the disk, and rename the file to `path`."""
    with temporary.open("rb") as file:
        _flush(file.fileno())
    temporary.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        _flush(descriptor)
    finally:
        os.close(descriptor)


def delete_leftovers(folder: Path, known: Collection[str]) -> None:
    """Delete files that a killed process left in `folder`.

    The deleted files are incomplete, or belong to jobs whose ids are not in `known`.
    """
    for path in folder.iterdir():
        match = _FILE_NAME.fullmatch(path.name)
        if match is not None and (match[1] not in known or path.name.endswith(_TEMPORARY)):
            path.unlink(missing_ok=True)


def _flush(descriptor: int) -> None:
    os.fsync(descriptor)
