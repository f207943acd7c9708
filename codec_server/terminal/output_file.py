"""Where a command's result goes: a picture, a video, or the stream itself, in a file or in a pipe."""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codec_pixels.images import encode_animation, encode_image
from codec_pixels.parameters import Parameters
from codec_pixels.videos import encode_video
from codec_wire.errors import InvalidSettings
from codec_wire.request import DEFAULT_FPS

STILL_FORMATS = ("png", "jpg", "jpeg")
MOVING_FORMATS = ("mp4", "gif", "webp")
STREAM_FORMAT = "bin"
FORMATS = (*STILL_FORMATS, *MOVING_FORMATS, STREAM_FORMAT)
PIPE = "-"


class Output:
    """A file or the standard output, and the format of what is written there. Nothing is half written."""

    def __init__(self, place: str, file_format: str | None = None) -> None:
        """Check the place before anything runs. A pipe takes the stream unless `file_format` says otherwise.

        Raises InvalidSettings for a format that is not known and a place that cannot be written to.
        """
        self._path = None if place == PIPE else Path(place)
        suffix = STREAM_FORMAT if self._path is None else self._path.suffix.lstrip(".").lower()
        self.format = (file_format or suffix).lower()
        if self.format not in FORMATS:
            what = f"{place!r} ends in none of them" if not file_format else f"got {file_format!r}"
            raise InvalidSettings(f"the output must be one of {', '.join(FORMATS)}: {what}")
        if self._path is None:
            if sys.stdout.isatty():
                raise InvalidSettings("standard output is a terminal: name a file, or send it into a pipe")
            return
        folder = self._path.parent
        if not folder.is_dir():
            raise InvalidSettings(f"cannot write {place}: there is no folder {folder}")
        if self._path.is_dir() or not os.access(self._path if self._path.exists() else folder, os.W_OK):
            raise InvalidSettings(f"cannot write {place}: it is not writable")

    @property
    def is_video(self) -> bool:
        """Whether the format alone says that a video is wanted."""
        return self.format in ("mp4", "gif")

    @property
    def is_stream(self) -> bool:
        """Whether the stream itself is wanted, and no pixels."""
        return self.format == STREAM_FORMAT

    @property
    def is_pipe(self) -> bool:
        """Whether it goes to standard output."""
        return self._path is None

    def require_room_for(self, frames: int) -> None:
        """Raise InvalidSettings where the format holds one picture and `frames` is more."""
        if frames > 1 and self.format in STILL_FORMATS:
            raise InvalidSettings(f"a {self.format} holds one picture, and a video has more: use .mp4, .gif or .webp")

    def write_frames(self, frames: NDArray[np.uint8], fps: int | None, parameters: Parameters) -> int:
        """Write uint8 frames [n, H, W, 3], `fps` a second, with what made them inside; return the number of bytes.

        These are the files that a server's rendered answer holds, of the same pixels and parameters.
        """
        self.require_room_for(len(frames))
        return self.write(_file_of(frames, self.format, fps or DEFAULT_FPS, parameters))

    def write(self, data: bytes) -> int:
        """Write `data` and return its size. Raises InvalidSettings where that fails."""
        try:
            if self._path is None:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            elif self._path.exists() and not self._path.is_file():  # a device or a named pipe
                self._path.write_bytes(data)
            else:
                self._replace(self._path, data)
        except BrokenPipeError:
            # The interpreter would complain again when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise InvalidSettings("whoever read the output has left") from None
        except OSError as error:
            raise InvalidSettings(f"cannot write {self._path or 'the output'}: {error.strerror}") from None
        return len(data)

    @staticmethod
    def _replace(path: Path, data: bytes) -> None:
        mode = path.stat().st_mode if path.exists() else 0o666 & ~_umask()
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            part = Path(file.name)
            try:
                file.write(data)
                file.flush()
                part.chmod(mode & 0o777)
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _file_of(frames: NDArray[np.uint8], file_format: str, fps: int, parameters: Parameters) -> bytes:
    match file_format:
        case "mp4":
            try:
                return encode_video(frames, fps, parameters)
            except ModuleNotFoundError:
                raise InvalidSettings(
                    "writing mp4 needs imageio-ffmpeg: install the extra `server`, or use .gif or .webp"
                ) from None
        case "gif":
            return encode_animation(frames, "gif", fps, parameters)
        case "webp" if len(frames) > 1:
            return encode_animation(frames, "webp", fps, parameters)
        case "webp" | "png" as known:
            return encode_image(frames[0], known, parameters)
        case _:
            return encode_image(frames[0], "jpeg", parameters)
