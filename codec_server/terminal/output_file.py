"""Output file of `generate` and `decode`, which is an image, a video, or a latent stream."""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codec_pixels.images import encode_animation, encode_image
from codec_pixels.parameters import Parameters, to_json
from codec_pixels.videos import encode_video
from codec_wire.errors import InvalidSettings
from codec_wire.request import DEFAULT_FPS

SINGLE_IMAGE_FORMATS = ("png", "jpg", "jpeg")
VIDEO_FORMATS = ("mp4", "gif", "webp")
STREAM_FORMAT = "bin"
FORMATS = (*SINGLE_IMAGE_FORMATS, *VIDEO_FORMATS, STREAM_FORMAT)
PIPE = "-"


class OutputFile:
    """A file or standard output, with the format of the written data.

    If the output file already exists, the file is replaced atomically. If the path is a symbolic link, the file to
    which the link points is replaced, and the link is kept.
    """

    def __init__(self, path: str, file_format: str | None = None) -> None:
        """Check that `path` is writable, or that standard output is a pipe if `path` is "-".

        `file_format` is one of FORMATS. Without `file_format`, the format is the extension of `path`, or
        STREAM_FORMAT if `path` is "-". Raises InvalidSettings if the format is unknown or the file is not writable.
        """
        self._path = None if path == PIPE else Path(path)
        extension = STREAM_FORMAT if self._path is None else self._path.suffix.lstrip(".").lower()
        self.format = (file_format or extension).lower()
        if self.format not in FORMATS:
            option = f"--format {file_format}" if file_format else f"--output {path}"
            raise InvalidSettings(f"{option}: the file format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        if self._path is None:
            if sys.stdout.isatty():
                raise InvalidSettings("--output -: standard output is a terminal; redirect it to a file or a pipe")
            return
        self._require_writable(self._path)

    def _require_writable(self, path: Path) -> None:
        """Raise InvalidSettings if the file at `path` can be neither created nor replaced."""
        try:
            self._check_path(path)
        except OSError as error:  # e.g. the name is too long, or a directory may not be entered
            raise InvalidSettings(f"cannot write {path}: {error.strerror}") from None

    def _check_path(self, path: Path) -> None:
        if not path.parent.is_dir():
            raise InvalidSettings(f"cannot write {path}: the directory {path.parent} does not exist")
        if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
            raise InvalidSettings(f"cannot write {path}: it is a directory, or permission is denied")
        folder = _target_of(path).parent
        # A file is replaced by a new file in its directory.
        if not self._is_device and not os.access(folder, os.W_OK | os.X_OK):
            raise InvalidSettings(
                f"cannot write {path}: the directory {folder} does not exist, or permission is denied in it"
            )

    @property
    def is_video(self) -> bool:
        """Whether the format of the file can only contain a video."""
        return self.format in ("mp4", "gif")

    @property
    def is_stream(self) -> bool:
        """Whether the file contains the latent stream instead of pixels."""
        return self.format == STREAM_FORMAT

    @property
    def is_pipe(self) -> bool:
        """Whether the output is standard output."""
        return self._path is None

    @property
    def _is_device(self) -> bool:
        """Whether the output is a device or a named pipe, to which data can only be appended."""
        return self._path is not None and self._path.exists() and not self._path.is_file()

    def require_previews(self) -> None:
        """Raise InvalidSettings unless the output is an image or video file whose contents can be replaced."""
        if self.is_stream or self.is_pipe or self._is_device:
            raise InvalidSettings("--preview needs an image or video file as --output, not a pipe or a latent stream")

    def require_format_for(self, num_frames: int) -> None:
        """Raise InvalidSettings if the format holds a single image and `num_frames` is more than 1."""
        if num_frames > 1 and self.format in SINGLE_IMAGE_FORMATS:
            raise InvalidSettings(
                f"a .{self.format} file holds one image, got a video of {num_frames} frames: use .mp4, .gif or .webp"
            )

    def require_parameters_file(self) -> None:
        """Raise InvalidSettings if `write_parameters` could not write its file."""
        if self._path is not None and not self._is_device:
            self._require_writable(parameters_path(self._path))

    def write_frames(self, frames: NDArray[np.uint8], fps: int | None, parameters: Parameters) -> int:
        """Encode `frames`, and write the encoded file with embedded generation parameters.

        `frames` is a uint8 array of the shape [frames, H, W, 3].

        A server that renders the same pixels and parameters returns an identical file. Without `fps`, DEFAULT_FPS is
        used. Returns the size of the file in bytes. Raises InvalidSettings if the file cannot be written.
        """
        self.require_format_for(len(frames))
        return self.write(_encode(frames, self.format, fps or DEFAULT_FPS, parameters))

    def write(self, data: bytes) -> int:
        """Write `data` and return its size in bytes. Raises InvalidSettings if the file cannot be written."""
        try:
            if self._path is None:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            elif self._is_device:
                self._path.write_bytes(data)
            else:
                self._replace(self._path, data)
        except BrokenPipeError:
            # Otherwise the interpreter reports the error again when it flushes standard output at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise InvalidSettings("cannot write to standard output: the reading process has closed the pipe") from None
        except OSError as error:
            raise InvalidSettings(f"cannot write {self._path or 'to standard output'}: {error.strerror}") from None
        return len(data)

    def write_parameters(self, parameters: Parameters) -> None:
        """Write the generation parameters of a latent stream to a JSON file next to the stream.

        If the stream is written to standard output, nothing is written.

        Raises InvalidSettings if the file cannot be written.
        """
        if self._path is not None and not self._is_device:
            path = parameters_path(self._path)
            try:
                self._replace(path, (to_json(parameters) + "\n").encode())
            except OSError as error:
                raise InvalidSettings(f"cannot write {path}: {error.strerror}") from None

    @staticmethod
    def _replace(path: Path, data: bytes) -> None:
        path = _target_of(path)
        mode = path.stat().st_mode if path.exists() else 0o666 & ~_umask()
        # The name of the temporary file must not be longer than a name that is allowed for `path`.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".codec-", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(data)
                file.flush()
                temporary.chmod(mode & 0o777)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise


def parameters_path(stream: Path) -> Path:
    """Return the path of the JSON file with the generation parameters of the latent stream at `stream`."""
    return stream.with_name(f"{stream.name}.json")


def pixel_file(path: str, file_format: str | None) -> OutputFile:
    """Return the output file for decoded pixels.

    Raises InvalidSettings if the format of the file is not that of an image or a video.
    """
    output_file = OutputFile(path, file_format)
    if output_file.is_stream:
        raise InvalidSettings(
            "--output must end in .png, .jpg, .webp, .gif or .mp4; a .bin file is a latent stream, not pixels"
        )
    return output_file


def _target_of(path: Path) -> Path:
    """Return the path of the file to which `path` points if `path` is a symbolic link, otherwise `path`."""
    return Path(os.path.realpath(path))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _encode(frames: NDArray[np.uint8], file_format: str, fps: int, parameters: Parameters) -> bytes:
    match file_format:
        case "mp4":
            try:
                return encode_video(frames, fps, parameters)
            except ModuleNotFoundError:
                raise InvalidSettings(
                    "writing .mp4 needs imageio-ffmpeg: install the extra `server`, or use .gif or .webp"
                ) from None
        case "gif":
            return encode_animation(frames, "gif", fps, parameters)
        case "webp" if len(frames) > 1:
            return encode_animation(frames, "webp", fps, parameters)
        case "webp" | "png" as image_format:
            return encode_image(frames[0], image_format, parameters)
        case _:
            return encode_image(frames[0], "jpeg", parameters)
