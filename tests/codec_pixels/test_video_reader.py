"""Messages for MP4 files that ffmpeg cannot decode."""

import numpy as np
import pytest

from codec_pixels.video_reader import read_video
from codec_pixels.videos import encode_video


def test_message_has_neither_addresses_in_memory_nor_paths() -> None:
    video = encode_video(np.zeros((2, 48, 64, 3), np.uint8), 6, {})
    for damaged in (video.replace(b"stsd", b"xxxx"), video.replace(b"stco", b"xxxx"), video[:64], b"\0" * 64):
        with pytest.raises(ValueError, match="[a-z]") as caught:
            read_video(damaged, 64, 48, 2)
        assert "0x" not in str(caught.value)
        assert "/" not in str(caught.value)
