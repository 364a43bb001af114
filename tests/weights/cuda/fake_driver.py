"""The fake CUDA driver (tests/cpp/fake_cuda) as Python's tests use it; control.h says what it does.

It is one per process: this, and whatever else opens the same library, see the same devices.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from pathlib import Path

SUCCESS = 0
OUT_OF_MEMORY = 2
NOT_INITIALIZED = 3
NOT_SUPPORTED = 801
GRANULE = 2 << 20


class Statistic(IntEnum):
    """Which number to ask for."""

    PINNED_BYTES = 0
    PINNED_PEAK = 1
    DEVICE_BYTES = 2
    DEVICE_PEAK = 3
    COPIES_TO_DEVICE = 4
    BYTES_TO_DEVICE = 5
    COPIES_TO_HOST = 6
    BYTES_TO_HOST = 7
    PAGEABLE_COPIES = 8


class _Configuration(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "seed",
            "late_microseconds",
            "lazy",
            "to_device_rate",
            "to_host_rate",
            "pageable_rate",
            "copy_nanoseconds",
            "pinning_rate",
            "device_bytes",
            "pinned_bytes",
            "granularity",
            "devices",
            "poison",
        )
    ]


class FakeDriver:
    """Steers the fake driver, and calls it as any program would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        for name in ("misuse", "leaks", "report", "function"):
            getattr(self._library, f"fake_{name}").restype = ctypes.c_char_p
        for name in ("calls", "statistics"):
            getattr(self._library, f"fake_{name}").restype = ctypes.c_uint64
        self._library.fake_open_view.restype = ctypes.c_void_p

    def call(self, name: str, *arguments: object) -> int:
        """Call a function of the driver; return its CUresult."""
        result: int = getattr(self._library, name)(*arguments)
        return result

    def configure(self, **changes: int) -> None:
        """Take the default configuration, with changes; fields as in control.h."""
        configuration = _Configuration()
        self._library.fake_defaults(ctypes.byref(configuration))
        for name, value in changes.items():
            # A Structure would take a misspelt name without a word.
            assert hasattr(configuration, name), name
            setattr(configuration, name, value)
        self._library.fake_configure(ctypes.byref(configuration))

    def fail(self, function: str | None, n: int, result: int, times: int = 1) -> None:
        """Have the n-th call from now of a function, or of any, fail."""
        self._library.fake_fail(
            _encoded(function),
            ctypes.c_uint64(n),
            ctypes.c_uint32(result),
            ctypes.c_uint64(times),
        )

    def fail_copy(self, n: int, result: int) -> None:
        """Have the n-th copy from now break the device."""
        self._library.fake_fail_copy(ctypes.c_uint64(n), ctypes.c_uint32(result))

    def calls(self, function: str | None = None) -> int:
        """How often a function was called; without a name: all of them."""
        return int(self._library.fake_calls(_encoded(function)))

    def functions(self) -> list[str]:
        """The names of all functions of the driver."""
        names: list[str] = []
        while (name := self._library.fake_function(ctypes.c_uint64(len(names)))) is not None:
            names.append(name.decode())
        return names

    def hold(self, held: bool) -> None:
        """Keep all streams from beginning anything, or let them."""
        self._library.fake_hold(int(held))

    def drain(self) -> None:
        """Wait for all streams."""
        self._library.fake_drain()

    def read(self, pointer: int, size: int) -> bytes:
        """Device memory as it is at the moment. Raises ValueError where none is mapped."""
        buffer = ctypes.create_string_buffer(size)
        if self._library.fake_read_device(ctypes.c_uint64(pointer), buffer, ctypes.c_size_t(size)):
            raise ValueError(f"{size} bytes at {pointer:#x} are not mapped")
        return buffer.raw

    def write(self, pointer: int, content: bytes) -> None:
        """Change device memory, as a kernel would. Raises ValueError where none is mapped."""
        size = ctypes.c_size_t(len(content))
        if self._library.fake_write_device(ctypes.c_uint64(pointer), content, size):
            raise ValueError(f"{len(content)} bytes at {pointer:#x} are not mapped")

    def open_view(self, pointer: int, size: int) -> int:
        """The address at which the host may read and write device memory. Raises ValueError."""
        view = self._library.fake_open_view(ctypes.c_uint64(pointer), ctypes.c_size_t(size))
        if view is None:
            raise ValueError(f"{size} bytes at {pointer:#x} are not mapped")
        return int(view)

    def close_view(self, view: int, size: int) -> None:
        """End such a view."""
        self._library.fake_close_view(ctypes.c_void_p(view), ctypes.c_size_t(size))

    def statistic(self, which: Statistic) -> int:
        """One of the numbers that the driver keeps."""
        return int(self._library.fake_statistics(int(which)))

    def misuse(self) -> str:
        """What was done wrong, a line each."""
        return _decoded(self._library.fake_misuse())

    def leaks(self) -> str:
        """What is still held, a line each."""
        return _decoded(self._library.fake_leaks())

    def report(self) -> str:
        """Misuse and leaks together; empty if there is neither."""
        return _decoded(self._library.fake_report())

    def forget(self) -> None:
        """Forget misuse, counts, peaks and planned failures, but nothing that exists."""
        self._library.fake_forget()

    def reset(self) -> None:
        """Go back to the state before cuInit."""
        self._library.fake_reset()


def _encoded(name: str | None) -> bytes | None:
    return None if name is None else name.encode()


def _decoded(text: bytes) -> str:
    return text.decode()
