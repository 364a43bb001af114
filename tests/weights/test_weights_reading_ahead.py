"""When a file is read ahead of its user, and what the records say about it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import textwrap
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pipelined import weights
from tests.cpp.compiling import sanitizer
from tests.weights.files import settled, sparse_file

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Sixteen tensors of 2 MiB, not in the page cache."""
    return sparse_file(tmp_path / "model.safetensors", tensors=16, bytes_each=2 * MIB)


def test_opening_a_file_loads_nothing(path: Path) -> None:
    with weights.safe_open(path, framework="pt") as file:
        assert file.metadata() is None
        assert file.get_slice("t0001").get_shape() == [2 * MIB]
    assert weights.loads() == []


def test_one_tensor_is_read_alone(path: Path) -> None:
    file = weights.safe_open(path, framework="pt")
    for _ in range(3):
        assert not file.get_tensor("t0003").any()
    (load,) = weights.loads()
    assert (load.bytes, load.seconds, load.error) == (2 * MIB, None, None)


@pytest.mark.parametrize("names", [["t0000", "t0001"], ["t0009", "t0003", "t0009"]])
def test_the_second_tensor_brings_the_rest(path: Path, names: list[str]) -> None:
    file = weights.safe_open(path, framework="pt")
    tensors = [file.get_slice(name)[:] for name in names]
    load = settled(lambda load: load.seconds is not None)
    assert (load.bytes, load.source, load.error) == (32 * MIB, "disk", None)
    assert not any(tensor.any() for tensor in tensors)


def test_records_say_what_was_loaded_and_from_where(path: Path) -> None:
    before = time.monotonic()
    first = weights.load_file(path)
    load = settled(lambda load: load.seconds is not None)
    assert load.seconds is not None
    assert before <= load.started <= load.started + load.seconds <= time.monotonic()
    assert (load.path, load.name) == (str(path), "model.safetensors")
    second = weights.load_file(path)
    disk, cache = weights.loads()
    assert (disk.source, cache.source) == ("disk", "page cache")
    assert disk.bytes == cache.bytes == 32 * MIB
    assert cache.seconds is not None
    assert first.keys() == second.keys()
    weights.reset_loads()
    assert weights.loads() == []


def test_a_relative_path_is_recorded_in_full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    weights.load_file(path.name)
    (load,) = weights.loads()
    assert load.path == str(path)


def test_a_file_of_one_or_no_tensor(tmp_path: Path) -> None:
    for index, content in enumerate([{"only": torch.ones(3)}, {"none": torch.ones(0)}, {}]):
        path = tmp_path / f"{index}.safetensors"
        safetensors.torch.save_file(content, path)
        file = weights.safe_open(path, framework="pt")
        for name in content:
            file.get_tensor(name)
        if not content:
            assert file.get_tensors() == {}
        load = weights.loads()[-1]
        assert load.bytes == sum(tensor.nbytes for tensor in content.values())
        assert load.seconds is not None


def test_a_file_cut_short_while_it_is_read_is_an_error_and_no_crash(path: Path) -> None:
    file = weights.safe_open(path, framework="pt")
    os.truncate(path, 4096)
    tensors = file.get_tensors()
    load = settled(lambda load: load.error is not None)
    assert (load.error, load.seconds) == ("Bad address", None)
    assert len(tensors) == 16


# What a kernel before 5.14 says to MADV_POPULATE_READ.
OLD_KERNEL = """
#include <errno.h>
#include <stddef.h>
int madvise(void *address, size_t length, int advice) {
  (void)address, (void)length, (void)advice;
  errno = EINVAL;
  return -1;
}
"""

LOAD_ALL = """
import sys
from pathlib import Path
from pipelined import weights
from tests.weights.files import settled
tensors = weights.load_file(sys.argv[1])
load = settled(lambda load: load.seconds is not None or load.error is not None)
assert (load.source, load.error, load.bytes) == ("disk", None, 32 << 20), load
assert not any(tensor.any() for tensor in tensors.values())
"""


def test_an_old_kernel_is_read_to_instead(path: Path, tmp_path: Path) -> None:
    source, library = tmp_path / "old_kernel.c", tmp_path / "old_kernel.so"
    source.write_text(OLD_KERNEL)
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    subprocess.run([*compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    # After a sanitizer's runtime, if there is one.
    preload = ":".join([*os.environ.get("LD_PRELOAD", "").split(":"), str(library)])
    run([sys.executable, "-c", LOAD_ALL, str(path)], LD_PRELOAD=preload)


FORK = """
import os, sys, threading
import safetensors
from pipelined import weights

def child(body):
    pid = os.fork()
    if pid == 0:
        try:
            body()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

weights.install()
assert threading.active_count() == 1
assert len(os.listdir("/proc/self/task")) == 1
path = sys.argv[1]

def load():
    with safetensors.safe_open(path, framework="pt") as file:
        assert type(file) is weights.safe_open
        assert all(not tensor.any() for tensor in file.get_tensors().values())
    (load,) = weights.loads()
    assert load.bytes == 32 << 20

child(load)
child(load)
"""

# A child that inherits a load has none of its threads, and must not wait for them.
INHERIT = """
inherited = weights.load_file(sys.argv[2])
def drop():
    assert not inherited["t0063"][-1]
    inherited.clear()
    weights.reset_loads()
    load()
child(drop)
assert len(inherited) == 64
"""


def test_a_forked_child_loads(path: Path) -> None:
    run([sys.executable, "-c", FORK, str(path)], OMP_NUM_THREADS="1")


@pytest.mark.skipif(
    sanitizer() == "address",
    reason="a fork may leave the child a lock of AddressSanitizer's allocator that a thread held",
)
def test_a_forked_child_drops_what_it_inherited(path: Path, tmp_path: Path) -> None:
    large = sparse_file(tmp_path / "large.safetensors", tensors=64, bytes_each=4 * MIB)
    run([sys.executable, "-c", FORK + INHERIT, str(path), str(large)], OMP_NUM_THREADS="1")


def run(command: list[str], **environment: str) -> None:
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    done = subprocess.run(
        command,
        env={**os.environ, **environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, textwrap.indent(done.stderr, "  ")
