"""What the fake driver does to whole processes.

The rest is tested in tests/cpp/fake_cuda_test.cpp.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.weights.cuda.fake_driver import GRANULE, NOT_INITIALIZED, SUCCESS, FakeDriver, Statistic

ROOT = Path(__file__).parents[3]

# What each of the programs below begins with.
_SETTING = """
import ctypes, os, sys
from pathlib import Path
from tests.weights.cuda.fake_driver import FakeDriver
from tests.weights.cuda.test_fake_driver import Arena, retained
fake = FakeDriver(Path(sys.argv[1]))
"""


class _Properties(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("handle_types", ctypes.c_int),
        ("location_type", ctypes.c_int),
        ("device", ctypes.c_int),
        ("metadata", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
    ]


class _Access(ctypes.Structure):
    _fields_ = [
        ("location_type", ctypes.c_int),
        ("device", ctypes.c_int),
        ("flags", ctypes.c_int),
    ]


class Arena:
    """A granule of device memory with an address; of an exported descriptor, if one is given."""

    def __init__(self, fake: FakeDriver, descriptor: int | None = None) -> None:
        self.fake = fake
        self.handle = ctypes.c_uint64()
        self.pointer = ctypes.c_uint64()
        size = ctypes.c_size_t(GRANULE)
        zero = ctypes.c_uint64(0)
        if descriptor is None:
            wanted = _Properties(type=1, handle_types=1, location_type=1)
            arguments = (ctypes.byref(self.handle), size, ctypes.byref(wanted), zero)
            assert fake.call("cuMemCreate", *arguments) == SUCCESS
        else:
            shared = ctypes.c_void_p(descriptor)
            taken = (ctypes.byref(self.handle), shared, 1)
            assert fake.call("cuMemImportFromShareableHandle", *taken) == SUCCESS
        where = (ctypes.byref(self.pointer), size, zero, zero, zero)
        assert fake.call("cuMemAddressReserve", *where) == SUCCESS
        mapped = (self.pointer, size, zero, self.handle, zero)
        assert fake.call("cuMemMap", *mapped) == SUCCESS
        access = _Access(location_type=1, flags=3)
        granted = (self.pointer, size, ctypes.byref(access), ctypes.c_size_t(1))
        assert fake.call("cuMemSetAccess", *granted) == SUCCESS

    def export(self) -> int:
        descriptor = ctypes.c_int(-1)
        arguments = (ctypes.byref(descriptor), self.handle, 1, ctypes.c_uint64(0))
        assert self.fake.call("cuMemExportToShareableHandle", *arguments) == SUCCESS
        return descriptor.value

    def free(self) -> None:
        size = ctypes.c_size_t(GRANULE)
        assert self.fake.call("cuMemUnmap", self.pointer, size) == SUCCESS
        assert self.fake.call("cuMemRelease", self.handle) == SUCCESS
        assert self.fake.call("cuMemAddressFree", self.pointer, size) == SUCCESS


def retained(fake: FakeDriver) -> None:
    """Make the primary context of device 0 current."""
    context = ctypes.c_void_p()
    assert fake.call("cuInit", 0) == SUCCESS
    assert fake.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0) == SUCCESS
    assert fake.call("cuCtxPushCurrent_v2", context) == SUCCESS


def _run(
    library: Path, program: str, *arguments: object, pass_fds: tuple[int, ...] = (), **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _SETTING + program, library, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **env},
        pass_fds=pass_fds,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_memory_is_shared_with_another_process(fake: FakeDriver, fake_library: Path) -> None:
    assert fake.call("cuInit", 0) == SUCCESS
    arena = Arena(fake)
    fake.write(arena.pointer.value, b"from the parent")
    descriptor = arena.export()
    try:
        done = _run(
            fake_library,
            """
retained(fake)
arena = Arena(fake, int(sys.argv[2]))
print(fake.read(arena.pointer.value, 15).decode())
text = b"from the child!"
source = ctypes.create_string_buffer(text)
size = ctypes.c_size_t(len(text))
assert fake.call("cuMemcpyHtoDAsync_v2", arena.pointer, source, size, None) == 0
arena.free()
""",
            descriptor,
            pass_fds=(descriptor,),
        )
    finally:
        os.close(descriptor)
    assert done.stdout == "from the parent\n", done.stderr
    assert fake.read(arena.pointer.value, 15) == b"from the child!"
    arena.free()
    assert fake.report() == ""


def test_memory_that_was_imported_does_not_count(fake: FakeDriver) -> None:
    assert fake.call("cuInit", 0) == SUCCESS
    arena = Arena(fake)
    descriptor = arena.export()
    imported = Arena(fake, descriptor)
    os.close(descriptor)
    assert fake.statistic(Statistic.DEVICE_BYTES) == GRANULE
    fake.write(arena.pointer.value, b"both")
    assert fake.read(imported.pointer.value, 4) == b"both"
    arena.free()
    assert fake.read(imported.pointer.value, 4) == b"both"
    imported.free()
    assert fake.report() == ""


def test_only_exported_memory_is_imported(fake: FakeDriver, tmp_path: Path) -> None:
    assert fake.call("cuInit", 0) == SUCCESS
    handle = ctypes.c_uint64()
    with (tmp_path / "file").open("wb") as file:
        shared = ctypes.c_void_p(file.fileno())
        arguments = (ctypes.byref(handle), shared, 1)
        assert fake.call("cuMemImportFromShareableHandle", *arguments) != SUCCESS
    assert "this is no exported memory" in fake.misuse()


def test_the_host_cannot_follow_a_device_pointer(fake_library: Path) -> None:
    done = _run(
        fake_library,
        """
assert fake.call("cuInit", 0) == 0
arena = Arena(fake)
fake.write(arena.pointer.value, b"secret")
print("before", flush=True)
print(ctypes.string_at(arena.pointer.value, 6), flush=True)
""",
    )
    assert done.stdout == "before\n"
    # A sanitizer turns the signal into an exit of its own.
    assert done.returncode == -signal.SIGSEGV or "SEGV" in done.stderr, done.stderr


def test_the_report_is_printed_at_the_end(fake_library: Path) -> None:
    program = 'fake.call("cuDeviceGetCount", None); fake.call("cuInit", 0); Arena(fake)'
    expected = [
        "The fake CUDA driver:",
        "cuDeviceGetCount: cuInit was not called",
        "still held: 1 handles of device memory",
        "still held: 1 mappings of device memory",
        "still held: 1 reserved ranges of device addresses",
    ]
    lenient = _run(fake_library, program)
    assert (lenient.returncode, lenient.stderr.splitlines()) == (0, expected)
    strict = _run(fake_library, program, FAKE_CUDA_STRICT="1")
    assert (strict.returncode, strict.stderr.splitlines()) == (86, expected)


def test_a_clean_process_ends_in_silence(fake_library: Path) -> None:
    program = 'fake.call("cuInit", 0); Arena(fake).free()'
    done = _run(fake_library, program, FAKE_CUDA_STRICT="1")
    assert (done.returncode, done.stderr) == (0, "")


def test_work_in_flight_does_not_outlive_the_process(fake_library: Path) -> None:
    done = _run(
        fake_library,
        """
retained(fake)
arena = Arena(fake)
fake.hold(True)
fill = (arena.pointer, ctypes.c_ubyte(7), ctypes.c_size_t(1), None)
assert fake.call("cuMemsetD8Async", *fill) == 0
""",
    )
    assert done.returncode == 0, done.stderr


def test_a_forked_process_has_no_driver(fake_library: Path) -> None:
    done = _run(
        fake_library,
        f"""
retained(fake)
arena = Arena(fake)
child = os.fork()
if child == 0:
    results = {{fake.call("cuInit", 0), fake.call("cuCtxSynchronize")}}
    os._exit(0 if results == {{{NOT_INITIALIZED}}} else 1)
assert os.waitpid(child, 0)[1] == 0
assert fake.call("cuCtxSynchronize") == 0
""",
    )
    assert done.returncode == 0, done.stderr
