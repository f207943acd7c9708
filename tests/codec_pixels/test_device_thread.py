"""The device thread at the exit of the process."""

import subprocess
import sys

PROGRAM = """
import threading, time
from codec_pixels.device_thread import DeviceThread

thread = DeviceThread(print, ("initialized",))
thread.submit(threading.main_thread().join)  # until the program has ended
thread.submit(time.sleep, 0.3)
thread.submit(print, "last call")
print("end of the program")
"""


def test_process_exits_after_the_waiting_calls_without_a_shutdown() -> None:
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.splitlines() == ["initialized", "end of the program", "last call"]
    assert result.stderr == ""
