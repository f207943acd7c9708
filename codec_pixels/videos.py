"""Encoding of videos as MP4."""

import errno
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from codec_pixels.parameters import Parameters, to_json
from codec_pixels.temporary_files import out_of_storage, storage_errors, temporary_folder
from codec_wire.errors import OutOfStorage

CRF = 17
"""Constant rate factor of x264. With the value 17, losses are hardly visible."""
_STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class VideoWriter:
    """Encoder of one MP4 file (H.264, 4:2:0), which receives the frames of the video one by one.

    Use a VideoWriter as a context manager. Each frame has `width` x `height` pixels. Both `width` and `height` must be
    even. The frames are shown at `fps` frames per second. The file's comment contains the parameters as JSON.
    """

    def __init__(self, width: int, height: int, fps: int, parameters: Parameters) -> None:
        """Start the encoder. Raises OutOfStorage if a temporary folder cannot be created."""
        import imageio_ffmpeg  # noqa: PLC0415 - a gateway does not have it

        self._folder = temporary_folder()
        self._path = Path(self._folder.name, "video.mp4")
        self._messages = Path(self._folder.name, "messages.txt")
        input_options = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
        # One thread, to leave the others to the model.
        codec_options = ["-c:v", "libx264", "-crf", str(CRF), "-pix_fmt", "yuv420p", "-threads", "1"]
        # faststart: playback can begin before the whole file is received. It requires a seekable output file.
        output_options = ["-movflags", "+faststart", "-metadata", f"comment={to_json(parameters)}"]
        program = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
        # The messages go to a file: a pipe that is not read would block the encoder.
        with storage_errors():
            messages = self._messages.open("wb")
        with messages:
            self._process = subprocess.Popen(  # noqa: S603 - no shell; of a request it has only the value of -metadata
                [*program, *input_options, *codec_options, *output_options, str(self._path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=messages,
            )

    def kill(self) -> None:
        """Stop the encoder immediately.

        This method can be called on any thread. Method calls that are waiting for the encoder raise OSError.
        """
        self._process.kill()

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Add `pixels`, uint8 RGB [frames, height, width, 3], to the video.

        Raises the same errors as the method finish().
        """
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        try:
            self._process.stdin.write(np.ascontiguousarray(pixels).reshape(-1).data)
        except BrokenPipeError:
            raise self._failure() from None

    def finish(self) -> Path:
        """End the video, and return the path of the video file. The file exists until the writer is closed.

        Raises OutOfStorage if the file cannot be written, and OSError if the encoder fails for another reason.
        """
        self._process.communicate()
        if self._process.returncode:
            raise self._failure()
        return self._path

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the encoder and delete the file of the video."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def _failure(self) -> OSError | OutOfStorage:
        # ffmpeg ends with the negative number of the error of the operating system, as a byte.
        number = 256 - self._process.wait()
        if number in _STORAGE_ERRORS:
            return out_of_storage(number)
        return OSError(f"the video encoder failed: {self._messages.read_text(errors='replace').strip()[-500:]}")


def encode_video(
    pixels: NDArray[np.uint8],
    fps: int,
    parameters: Parameters,
    on_start: Callable[[VideoWriter], object] = lambda _writer: None,
) -> bytes:
    """Return `pixels`, uint8 RGB [frames, height, width, 3], as an MP4 file: H.264, 4:2:0, `fps` frames per second.

    Height and width must be even. The file's comment contains the parameters as JSON. `on_start` is called with the
    VideoWriter before the first frame, so that another thread can stop the encoder. Raises the same errors as
    VideoWriter.
    """
    height, width = pixels.shape[1:3]
    with VideoWriter(width, height, fps, parameters) as writer:
        on_start(writer)
        writer.write(pixels)
        return writer.finish().read_bytes()
