"""Loads onto whatever device the driver has, read back by the driver and compared; no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.numpy

from pipelined import weights
from tests.gpu.checkpoints import contents, write_large, write_random
from tests.gpu.devices import needs_device

READS: tuple[Literal["automatic", "buffered", "direct"], ...] = ("automatic", "buffered", "direct")

# Waits for the load, or exits while it is under way.
PROCESS = """
import os, sys
from pipelined import weights
arena = weights.begin([sys.argv[1]])
if sys.argv[2] == "fork":
    arena.wait()
    child = os.fork()
    if child == 0:
        del arena
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(arena.read_back("layers.0.weight")) == 4 << 20
"""


@needs_device
class DeviceLoadsTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = write_large(self.folder / "large.safetensors", [4 << 20, 30 << 20, 2, 6 << 20])

    def _assert_holds(self, arena: weights.Arena, *paths: Path) -> None:
        expected = {name: data for path in paths for name, data in contents(path).items()}
        assert set(arena.names()) == set(expected)
        for name, data in expected.items():
            assert arena.read_back(name) == data, name

    def test_random_files(self) -> None:
        for seed in range(40):
            first = write_random(self.folder / f"{seed}-1.safetensors", seed, "a")
            second = write_random(self.folder / f"{seed}-2.safetensors", -seed, "b")
            with self.subTest(seed=seed):
                arena = weights.begin([first, second], read=READS[seed % 3])
                self._assert_holds(arena, first, second)
                assert all(arena.address(name) % 256 == 0 for name in arena.names())

    def test_every_way_to_read(self) -> None:
        for read in READS:
            with self.subTest(read=read):
                arena = weights.begin([self.path], read=read)
                self._assert_holds(arena, self.path)
                read_bytes = arena.stats().buffered_bytes + arena.stats().direct_bytes
                assert read_bytes == arena.stats().tensor_bytes

    def test_many_small_tensors(self) -> None:
        path = self.folder / "small.safetensors"
        tensors = {f"t{index}": np.full(3, index, np.float32) for index in range(20_000)}
        safetensors.numpy.save_file(tensors, path)
        arena = weights.begin([path])
        arena.wait()
        assert arena.stats().chunks == 1
        for index in (0, 1, 9_999, 19_999):
            assert arena.read_back(f"t{index}") == tensors[f"t{index}"].tobytes()

    def test_progress(self) -> None:
        steps: list[weights.LoadProgress] = []
        weights.begin([self.path]).wait(steps.append)
        loaded = [step.loaded_bytes for step in steps]
        assert loaded == sorted(loaded)
        assert steps[-1].finished
        assert steps[-1].loaded_bytes == steps[-1].total_bytes == (40 << 20) + 2

    def test_a_cancelled_load_leaves_nothing(self) -> None:
        cancelled = threading.Event()
        cancelled.set()
        for _ in range(10):
            arena = weights.begin([self.path])
            # The last bytes may have been on the way already.
            try:
                arena.wait(cancelled=cancelled)
            except weights.Cancelled:
                assert arena.stats().state == "failed"
            else:
                self._assert_holds(arena, self.path)
        self._assert_holds(weights.begin([self.path]), self.path)

    def test_sleep_and_wake(self) -> None:
        arena = weights.begin([self.path])
        arena.wait()
        addresses = {name: arena.address(name) for name in arena.names()}
        for unmodified in (False, True, False):
            arena.sleep(unmodified=unmodified)
            assert arena.stats().state == "asleep"
            assert arena.stats().saved_bytes == 0
            with self.assertRaises(weights.Asleep):
                arena.read_back("layers.0.weight")
            arena.wake()
            assert {name: arena.address(name) for name in arena.names()} == addresses
            self._assert_holds(arena, self.path)

    def test_a_file_that_changed_meanwhile(self) -> None:
        arena = weights.begin([self.path])
        arena.sleep()
        status = self.path.stat()
        os.utime(self.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        with self.assertRaises(weights.FileChanged):
            arena.wake()
        os.utime(self.path, ns=(status.st_atime_ns, status.st_mtime_ns))
        arena.wake()
        self._assert_holds(arena, self.path)

    def test_more_than_the_device_has(self) -> None:
        path = self.folder / "sparse.safetensors"
        # Takes no disk.
        write_large(path, [2])
        content = path.read_bytes()
        header = content[8:-2].rstrip()
        size = 1 << 42
        header = header.replace(b"[1]", b"[%d]" % (size // 2)).replace(b"[0, 2]", b"[0, %d]" % size)
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        try:
            os.truncate(path, 8 + len(header) + size)
        except OSError:
            self.skipTest("the file system has no files of this size")
        with self.assertRaises(weights.OverBudget):
            weights.begin([path])
        self._assert_holds(weights.begin([self.path]), self.path)

    def test_loads_at_once(self) -> None:
        def load(_: int) -> None:
            arena = weights.begin([self.path])
            arena.wait()
            arena.sleep()
            arena.wake()
            self._assert_holds(arena, self.path)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(load, range(8)))

    def test_there_is_no_such_device(self) -> None:
        with self.assertRaises(weights.CudaError) as caught:
            weights.begin([self.path], device=1000)
        assert caught.exception.name == "CUDA_ERROR_INVALID_DEVICE"

    def test_processes_end_in_peace(self) -> None:
        for how in ("fork", "at once"):
            with self.subTest(how=how):
                done = subprocess.run(
                    [sys.executable, "-c", PROCESS, self.path, how],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert (done.returncode, done.stderr) == (0, ""), done.stderr


if __name__ == "__main__":
    unittest.main()
