"""A limit on the total memory of all requests that are being received or are active."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from codec_wire.errors import Overloaded, TooLarge

DEFAULT_LIMIT_BYTES = 128 * 1024 * 1024


class RequestMemory:
    """A limit on the total size in bytes of request bodies and input images.

    Requests over the limit are rejected immediately. `retry_after_s` returns the number of seconds after which a
    rejected request may be sent again. This class is not thread-safe: use it only from the event loop's thread.
    """

    def __init__(self, limit: int, retry_after_s: Callable[[], int]) -> None:
        self._limit = limit
        self._retry_after_s = retry_after_s
        self._used = 0

    @property
    def limit(self) -> int:
        """Maximum number of reserved bytes."""
        return self._limit

    @property
    def used(self) -> int:
        """Number of reserved bytes."""
        return self._used

    def reserve(self, size: int = 0) -> "Reservation":
        """Reserve `size` bytes until the end of the `with` block. Raises the errors of `require`."""
        reservation = Reservation(self)
        if size:
            reservation.grow(size)
        return reservation

    def require(self, size: int) -> None:
        """Check that `size` more bytes can be reserved.

        Raises TooLarge if `size` alone exceeds the limit. Raises Overloaded if `size` and the reserved bytes together
        exceed the limit. The error Overloaded contains the time to wait.
        """
        if size > self._limit:
            raise TooLarge(f"this request needs {size} bytes of memory, but the limit is {self._limit}")
        if self._used + size > self._limit:
            raise Overloaded(
                f"other requests use {self._used} bytes of memory and this request needs {size} bytes, but the "
                f"limit is {self._limit} bytes",
                self._retry_after_s(),
            )


class Reservation:
    """The bytes that one request has reserved.

    The number of reserved bytes can grow. A Reservation is a context manager that frees all bytes at the end of its
    `with` block.
    """

    __slots__ = ("_memory", "size")

    def __init__(self, memory: RequestMemory) -> None:
        self.size = 0
        self._memory = memory

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.free()

    def free(self) -> None:
        """Free all bytes."""
        self._memory._used -= self.size
        self.size = 0

    def grow(self, size: int) -> None:
        """Reserve `size` more bytes. Raises the errors of RequestMemory.require."""
        self._memory.require(size)
        self._memory._used += size
        self.size += size

    def require(self, size: int) -> None:
        """Check that `size` more bytes can be reserved. See RequestMemory.require."""
        self._memory.require(size)
