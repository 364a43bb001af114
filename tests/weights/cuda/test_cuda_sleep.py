"""Arenas give their memory back and have it again, without a tensor noticing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelined import weights
from tests.weights.cuda.fake_driver import FakeDriver, Statistic
from tests.weights.files import raw


def test_addresses_and_tensors_stay(torch_has_cuda: FakeDriver, path: Path) -> None:
    stock = safetensors.torch.load_file(path)
    loaded: Any = weights.load_file(path, device="cuda")
    (arena,) = weights.arenas("cuda")
    addresses = {name: arena.address(name) for name in arena.names()}
    for unmodified in (False, True):
        arena.sleep(unmodified=unmodified)
        assert torch_has_cuda.statistic(Statistic.DEVICE_BYTES) == 0
        assert arena.stats().state == "asleep"
        with pytest.raises(weights.Asleep):
            arena.read_back("t1")
        with pytest.raises(weights.Asleep):
            arena.tensor("t1")
        arena.wake()
        assert arena.stats().state == "awake"
        assert {name: arena.address(name) for name in arena.names()} == addresses
        for name, tensor in loaded.items():
            assert tensor.raw() == raw(stock[name])


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    writes=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 50_000), st.binary(min_size=1, max_size=300)),
        max_size=4,
    )
)
def test_what_was_written_comes_back(
    loading: FakeDriver, path: Path, writes: list[tuple[int, int, bytes]]
) -> None:
    arena = weights.begin([path])
    arena.wait()
    for index, offset, data in writes:
        name = f"t{index}"
        size = len(arena.read_back(name))
        offset %= size
        loading.write(arena.address(name) + offset, data[: size - offset])
    expected = {name: arena.read_back(name) for name in arena.names()}
    for _ in range(2):
        arena.sleep()
        # Only chunks that differ are kept.
        assert arena.stats().saved_bytes <= 2 * len(writes) * 8192
        arena.wake()
        assert {name: arena.read_back(name) for name in arena.names()} == expected


def test_a_file_that_changed_meanwhile(loading: FakeDriver, path: Path) -> None:
    arena = weights.begin([path])
    arena.sleep()
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(weights.FileChanged, match="has changed") as caught:
        arena.wake()
    assert caught.value.path == str(path)
    assert arena.stats().state == "asleep"
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    arena.wake()


def test_a_file_that_was_replaced_is_not_read(loading: FakeDriver, path: Path) -> None:
    stock = {name: raw(tensor) for name, tensor in safetensors.torch.load_file(path).items()}
    arena = weights.begin([path])
    arena.sleep()
    path.unlink()
    safetensors.torch.save_file({"t1": torch.zeros(40_000)}, path)
    arena.wake()
    assert {name: arena.read_back(name) for name in arena.names()} == stock


def test_a_file_cut_while_it_was_mapped(loading: FakeDriver, path: Path) -> None:
    arena = weights.begin([path])
    arena.wait()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(weights.FileChanged):
        arena.sleep(unmodified=True)
    assert arena.stats().state == "awake"
    assert len(arena.read_back("t1")) == 160_000


def test_waking_that_fails_can_be_tried_again(loading: FakeDriver, path: Path) -> None:
    arena = weights.begin([path])
    arena.wait()
    loading.write(arena.address("t1"), b"changed")
    expected = arena.read_back("t1")
    arena.sleep()
    for function in ("cuMemCreate", "cuMemcpyHtoDAsync_v2", "cuEventSynchronize"):
        loading.fail(function, 1, 2)
        with pytest.raises(weights.CudaError) as caught:
            arena.wake()
        assert (caught.value.call, caught.value.name) == (function, "CUDA_ERROR_OUT_OF_MEMORY")
        assert loading.statistic(Statistic.DEVICE_BYTES) == 0
    arena.wake()
    assert arena.read_back("t1") == expected
