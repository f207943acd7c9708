"""The directory with the LoRA files that requests may name (CODEC_LORA_DIR)."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from codec_wire.request_lora import MAX_NAME_CHARACTERS

SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class LoraFile:
    """One version of a LoRA file.

    If the file is replaced, the LoraFile of the new version is not equal to the LoraFile of the old version.
    """

    name: str
    path: Path
    size: int
    modified_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class LoraDirectory:
    """The .safetensors files in a directory, without the files in subdirectories.

    Each method call reads the directory again, so that files can be added, replaced and removed while the server runs.
    LoRA weights have the name of the LoRA file without the extension. A LoRA file in the directory can be a symbolic
    link.
    """

    path: Path
    max_bytes: int
    """Maximum size of the LoRA weights that stay loaded, in bytes."""

    def names(self) -> tuple[str, ...]:
        """Return the names of all LoRA files in alphabetical order.

        If the directory cannot be read, the result is empty.
        """
        try:
            with os.scandir(self.path) as entries:
                files = [entry.name for entry in entries if _is_lora(entry.name) and entry.is_file()]
        except OSError:
            return ()
        return tuple(sorted(name.removesuffix(SUFFIX) for name in files))

    def find(self, name: str) -> LoraFile | None:
        """Return the LoRA file with the name `name`, or None if the directory has no such file.

        A name that is a path, such as "../x" or "a/b", is not the name of a file in the directory.
        """
        if not _is_lora(file_name := f"{name}{SUFFIX}"):
            return None
        path = self.path / file_name
        try:
            status = path.stat()
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return LoraFile(name, path, status.st_size, status.st_mtime_ns, status.st_ino)


def _is_lora(file_name: str) -> bool:
    """Return whether `file_name` has the extension of LoRA files, is not hidden, and has a name that requests may use.

    Requests may not use names with slashes or backslashes.
    """
    is_plain = file_name.isprintable() and "/" not in file_name and "\\" not in file_name
    is_short = len(file_name) <= MAX_NAME_CHARACTERS + len(SUFFIX)
    return is_plain and is_short and file_name.endswith(SUFFIX) and not file_name.startswith(".")
