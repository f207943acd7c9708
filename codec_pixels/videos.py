"""Encoding of videos as MP4."""

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from codec_pixels.parameters import Parameters, to_json

CRF = 17
"""Constant rate factor of x264: losses are hardly visible."""


class VideoWriter:
    """Encoder of one MP4 file (H.264, 4:2:0) that receives its frames one by one. Use it as a context manager.

    The frames have `width` and `height` pixels, which must be even, and are shown at `fps` frames per second. The
    file's comment contains the parameters as JSON.
    """

    def __init__(self, width: int, height: int, fps: int, parameters: Parameters) -> None:
        import imageio_ffmpeg  # noqa: PLC0415 - a gateway does not have it

        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name, "video.mp4")
        self._messages = Path(self._folder.name, "messages.txt")
        input_options = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
        # One thread, to leave the others to the model.
        codec_options = ["-c:v", "libx264", "-crf", str(CRF), "-pix_fmt", "yuv420p", "-threads", "1"]
        # faststart: playback can begin before the whole file is received. It requires a seekable output file.
        output_options = ["-movflags", "+faststart", "-metadata", f"comment={to_json(parameters)}"]
        program = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
        # The messages go to a file: a pipe that is not read would block the encoder.
        with self._messages.open("wb") as messages:
            self._process = subprocess.Popen(  # noqa: S603 - no shell; of a request it has only the value of -metadata
                [*program, *input_options, *codec_options, *output_options, str(self._path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=messages,
            )

    def kill(self) -> None:
        """Stop the encoder immediately, from any thread. Calls that wait for it raise OSError."""
        self._process.kill()

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Add frames, uint8 RGB [frames, height, width, 3]. Raises OSError if the encoder has failed."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        try:
            self._process.stdin.write(np.ascontiguousarray(pixels).reshape(-1).data)
        except BrokenPipeError:
            raise self._failure() from None

    def finish(self) -> Path:
        """End the video and return the path of the file, which exists until the writer is closed. Raises OSError."""
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
        """Stop the encoder and delete the file."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def _failure(self) -> OSError:
        self._process.wait()
        return OSError(f"the video encoder failed: {self._messages.read_text(errors='replace').strip()[-500:]}")


def encode_video(
    pixels: NDArray[np.uint8],
    fps: int,
    parameters: Parameters,
    on_start: Callable[[VideoWriter], object] = lambda _writer: None,
) -> bytes:
    """Return `pixels`, uint8 RGB [frames, height, width, 3], as an MP4 file: H.264, 4:2:0, `fps` frames per second.

    Height and width must be even. The file's comment contains the parameters as JSON. `on_start` is called with the
    writer before the first frame, so that the encoder can be stopped. Raises OSError if the encoder fails.
    """
    height, width = pixels.shape[1:3]
    with VideoWriter(width, height, fps, parameters) as writer:
        on_start(writer)
        writer.write(pixels)
        return writer.finish().read_bytes()
