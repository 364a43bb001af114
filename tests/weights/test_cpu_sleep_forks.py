"""Processes that are forked put their own memory to sleep, and wake it, whatever others do."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.cpp.compiling import sanitizer
from tests.weights.files import sparse_file

MIB = 1 << 20

# Each process has its own copies of what was written to, and its own share of the pages.
FOR_ITSELF = """
import os, sys
from pipelined import weights

arena = weights.begin(sys.argv[1:], "cpu")
arena.wait()
tensors = arena.tensors()
stock = {name: tensor.clone() for name, tensor in tensors.items()}
tensors["a"][0] += 1

def check(changed):
    for name, tensor in tensors.items():
        different = (tensor != stock[name]).sum()
        assert different == changed.get(name, 0), (name, different)

page = os.sysconf("SC_PAGESIZE")
child = os.fork()
if child == 0:
    try:
        check({"a": 1})
        tensors["b"][5] += 1
        arena.sleep()
        assert arena.stats().state == "asleep"
        assert arena.stats().resident_bytes == arena.stats().saved_bytes == 2 * page, arena.stats()
        check({"a": 1, "b": 1})
        arena.wake()
        arena.wait()
        assert arena.stats().state == "awake"
        check({"a": 1, "b": 1})
        (one,) = weights.arenas("cpu")
        one.sleep()
        assert arena.stats().state == "asleep"
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stats = arena.stats()
assert (stats.state, stats.saved_bytes) == ("awake", page), stats
assert stats.resident_bytes >= stats.tensor_bytes
check({"a": 1})
"""

# Threads of the parent are in all of these calls at the instants of the forks; the children have
# none of them, and must not wait for what they would have done.
IN_THE_MIDDLE = """
import os, signal, sys, threading
from pipelined import weights

arena = weights.begin(sys.argv[1:], "cpu")
tensors = arena.tensors()
enough = threading.Event()

def restless():
    while not enough.is_set():
        arena.sleep()
        arena.stats()
        arena.wake()
        arena.wait()
        weights.arenas()

threads = [threading.Thread(target=restless) for _ in range(2)]
for thread in threads:
    thread.start()
try:
    for _ in range(40):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                arena.sleep()
                assert arena.stats().state == "asleep"
                assert arena.stats().resident_bytes == 0, arena.stats()
                arena.wake()
                arena.wait()
                assert arena.stats().state == "awake"
                assert len(weights.arenas()) == len(sys.argv) - 1
                assert not any(tensor[-1] for tensor in tensors.values())
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
finally:
    enough.set()
    for thread in threads:
        thread.join()
"""


INHERITED = """
import os, sys
from pipelined import weights
arena = weights.begin(sys.argv[1:], "cpu")
child = os.fork()
if child == 0:
    try:
        steps = []
        arena.wait(steps.append)
        assert steps[-1].finished
        arena.sleep()
        assert arena.stats().resident_bytes == 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
arena.wait()
assert arena.stats().state == "awake"
"""


def run(program: str, *paths: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *paths],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, textwrap.indent(done.stderr, "  ")


def test_a_child_sleeps_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {"a": torch.randn(MIB // 4), "b": torch.randn(MIB // 4)}
    safetensors.torch.save_file(tensors, path)
    run(FOR_ITSELF, path)


@pytest.mark.skipif(
    sanitizer() == "address",
    reason="a fork may leave the child a lock of AddressSanitizer's allocator that a thread held",
)
def test_a_fork_while_threads_sleep_and_wake(tmp_path: Path) -> None:
    paths = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}.safetensors"
        safetensors.torch.save_file({name: torch.zeros(4 * MIB, dtype=torch.uint8)}, path)
        paths.append(path)
    run(IN_THE_MIDDLE, *paths)


def test_a_child_goes_on_with_the_load_that_it_inherited(tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "large.safetensors", tensors=16, bytes_each=16 * MIB)
    run(INHERITED, path)
