"""Arenas on the CPU give memory back and have it again, without a tensor noticing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelined import weights
from tests.weights.files import arenas_of, assert_same_tensors, raw, run_in_threads, sparse_file
from tests.weights.test_weights_memory import mapped

MIB = 1 << 20
PAGE = os.sysconf("SC_PAGESIZE")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "model.safetensors", "a")


def write(path: Path, name: str) -> Path:
    """Seven tensors, of 8 MiB and a bit."""
    sizes = [3, MIB, 2 * MIB + 1, 70, 4 * MIB, MIB - 500, 9]
    tensors = {
        f"{name}{index}": torch.randint(256, (size,), dtype=torch.uint8)
        for index, size in enumerate(sizes)
    }
    safetensors.torch.save_file(tensors, path)
    return path


@contextmanager
def changed(path: Path) -> Iterator[None]:
    """Of a file that somebody has written to, for a while."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    yield
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def states(*paths: Path) -> set[str]:
    """Of each file by itself."""
    return {arena.stats().state for path in paths for arena in arenas_of(path)}


def test_sleep_gives_memory_back_and_addresses_stay(path: Path) -> None:
    # Copies, so that the kernel's account of the file is about the loader's mapping alone.
    stock = {name: tensor.clone() for name, tensor in safetensors.torch.load_file(path).items()}
    tensors = weights.load_file(path)
    (arena,) = arenas_of(path)
    addresses = {name: arena.address(name) for name in arena.names()}
    size = arena.stats().tensor_bytes
    for unmodified in (False, True, False):
        for _ in range(10):
            assert_same_tensors(tensors, stock)
            # The kernel may take clean pages back at any time: then they are touched again.
            if mapped(path)["Rss"] >= size:
                break
        assert mapped(path)["Rss"] >= size
        assert size <= arena.stats().resident_bytes <= size + 2 * PAGE
        arena.sleep(unmodified=unmodified)
        stats = arena.stats()
        assert (stats.state, stats.resident_bytes, stats.saved_bytes) == ("asleep", 0, 0)
        assert (mapped(path)["Rss"], mapped(path)["Pss"]) == (0, 0)
        arena.wake()
        arena.wait()
        assert arena.stats().state == "awake"
        assert {name: arena.address(name) for name in arena.names()} == addresses
        assert {name: tensor.data_ptr() for name, tensor in tensors.items()} == addresses
    assert_same_tensors(arena.tensors(), stock)
    assert arena.stats().sleep_seconds > 0


def test_asleep_it_can_be_used(path: Path) -> None:
    stock = safetensors.torch.load_file(path)
    arena = weights.begin([path], "cpu")
    tensors = arena.tensors()
    arena.sleep()
    assert_same_tensors(tensors, stock)
    assert_same_tensors(arena.tensors(), stock)
    assert arena.read_back("a2") == raw(stock["a2"])
    stats = arena.stats()
    assert stats.state == "asleep"
    assert stats.resident_bytes >= stats.tensor_bytes
    # It gives back what was touched since, again.
    arena.sleep()
    assert arena.stats().resident_bytes == 0
    # There is nothing to wait for.
    arena.wait()
    assert arena.stats().resident_bytes == 0


def test_what_was_written_stays_in_memory(path: Path) -> None:
    expected = {name: tensor.clone() for name, tensor in weights.load_file(path).items()}
    arena = weights.begin([path], "cpu")
    tensors = arena.tensors()
    for _ in range(3):
        for one in (tensors, expected):
            one["a2"].add_(1)
            one["a4"][MIB] += 1
        arena.sleep()
        stats = arena.stats()
        # All pages of the one, and one page of the other.
        assert 2 * MIB + PAGE < stats.saved_bytes <= 2 * MIB + 4 * PAGE
        assert stats.resident_bytes == stats.saved_bytes
        assert mapped(path)["Rss"] == mapped(path)["Anonymous"] == stats.saved_bytes
        arena.wake()
        assert_same_tensors(tensors, expected)
        assert arena.stats().saved_bytes == stats.saved_bytes


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    writes=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 4 * MIB), st.binary(min_size=1, max_size=300)),
        max_size=4,
    ),
    wakes=st.booleans(),
)
def test_any_writes_come_back(
    path: Path, writes: list[tuple[int, int, bytes]], wakes: bool
) -> None:
    expected = {name: tensor.clone() for name, tensor in weights.load_file(path).items()}
    arena = weights.begin([path], "cpu")
    tensors = arena.tensors()
    for index, offset, data in writes:
        for one in (tensors, expected):
            target = one[f"a{index}"]
            part = target[offset % len(target) :][: len(data)]
            part.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8)[: len(part)])
        arena.sleep()
        if wakes:
            arena.wake()
    assert arena.stats().saved_bytes <= 2 * len(writes) * PAGE
    assert_same_tensors(tensors, expected)


def test_another_mapping_of_the_file_is_left_alone(path: Path) -> None:
    first, second = weights.begin([path], "cpu"), weights.begin([path], "cpu")
    stock = safetensors.torch.load_file(path)
    first.tensor("a1").zero_()
    for arena in (first, second):
        arena.read_back("a4")
    first.sleep()
    assert second.stats().resident_bytes >= 4 * MIB
    assert_same_tensors(second.tensors(), stock)
    assert not first.tensor("a1").any()


def test_sleep_during_the_load(tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "large.safetensors", tensors=16, bytes_each=16 * MIB)
    arena = weights.begin([path], "cpu")
    for _ in range(5):
        arena.sleep()
        assert (arena.stats().state, arena.stats().resident_bytes) == ("asleep", 0)
        arena.wake()
    steps: list[weights.LoadProgress] = []
    arena.wait(steps.append)
    assert steps[-1].finished
    assert not any(tensor.any() for tensor in arena.tensors().values())
    stats = arena.stats()
    assert stats.state == "awake"
    assert stats.resident_bytes >= stats.tensor_bytes


def test_what_nobody_asked_for_stays_on_the_disk(tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "large.safetensors", tensors=16, bytes_each=MIB)
    with weights.safe_open(path, framework="pt"):
        (arena,) = arenas_of(path)
        arena.sleep()
        arena.wake()
        stats = arena.stats()
        assert (stats.state, stats.resident_bytes, stats.buffered_bytes) == ("awake", 0, 0)
        # Whoever waits asks.
        arena.wait()
        assert arena.stats().buffered_bytes == stats.tensor_bytes


def test_a_file_that_changed_before(path: Path) -> None:
    arena = weights.begin([path], "cpu")
    before = {name: arena.read_back(name) for name in arena.names()}
    arena.tensor("a1").zero_()
    resident = arena.stats().resident_bytes
    with changed(path), pytest.raises(weights.FileChanged, match="has changed") as caught:
        arena.sleep()
    assert caught.value.path == str(path)
    assert (arena.stats().state, arena.stats().resident_bytes) == ("awake", resident)
    assert {name: arena.read_back(name) for name in arena.names()} == {**before, "a1": bytes(MIB)}
    arena.sleep()
    assert arena.stats().state == "asleep"


def test_a_file_that_changed_meanwhile(path: Path) -> None:
    stock = safetensors.torch.load_file(path)
    arena = weights.begin([path], "cpu")
    arena.sleep()
    with changed(path), pytest.raises(weights.FileChanged, match="has changed") as caught:
        arena.wake()
    assert caught.value.path == str(path)
    assert arena.stats().state == "asleep"
    arena.wake()
    assert_same_tensors(arena.tensors(), stock)


def test_a_file_cut_while_it_is_mapped(path: Path) -> None:
    arena = weights.begin([path], "cpu")
    arena.wait()
    first = min(arena.names(), key=arena.address)
    before = arena.read_back(first)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(weights.FileChanged):
        arena.sleep()
    assert arena.stats().state == "awake"
    assert arena.read_back(first) == before


def test_a_file_that_was_replaced_is_not_read(path: Path) -> None:
    stock = safetensors.torch.load_file(path)
    expected = {name: raw(tensor) for name, tensor in stock.items()}
    arena = weights.begin([path], "cpu")
    arena.sleep()
    path.unlink()
    write(path, "a")
    arena.wake()
    assert {name: arena.read_back(name) for name in arena.names()} == expected


def test_several_files_sleep_and_wake_together_or_not_at_all(path: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.safetensors", "b")
    arena = weights.begin([path, other], "cpu")
    expected = {name: arena.read_back(name) for name in arena.names()}
    with changed(other), pytest.raises(weights.FileChanged) as caught:
        arena.sleep()
    assert caught.value.path == str(other)
    assert states(path, other) == {"awake"}
    arena.sleep()
    assert states(path, other) == {"asleep"}
    with changed(other), pytest.raises(weights.FileChanged) as caught:
        arena.wake()
    assert caught.value.path == str(other)
    assert states(path, other) == {"asleep"}
    # One that was asleep before stays so.
    arena.wake()
    (one,) = arenas_of(path)
    one.sleep()
    assert arena.stats().state == "asleep"
    with changed(other), pytest.raises(weights.FileChanged):
        arena.sleep()
    assert one.stats().state == "asleep"
    arena.wake()
    assert states(path, other) == {"awake"}
    assert {name: arena.read_back(name) for name in arena.names()} == expected


def test_threads_sleep_wake_and_read(path: Path, tmp_path: Path) -> None:
    paths = [path, write(tmp_path / "other.safetensors", "b")]
    arena = weights.begin(paths, "cpu")
    tensors = arena.tensors()
    tensors["a1"].zero_()
    expected = {name: tensor.clone() for name, tensor in tensors.items()}
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(30):
            if number == 0:
                arena.sleep()
            elif number == 1:
                arena.wake()
            elif number == 2:
                arena.wait()
                arena.stats()
            elif any(not torch.equal(tensors[name], expected[name]) for name in tensors):
                wrong.append(number)

    run_in_threads(work, 5)
    assert wrong == []
    assert len(states(*paths)) == 1
    arena.sleep()
    assert arena.stats().resident_bytes == arena.stats().saved_bytes <= MIB + 2 * PAGE
    assert_same_tensors(tensors, expected)


def test_waiting_while_asleep_asks_for_nothing(tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "model.safetensors", tensors=4, bytes_each=1 << 20)
    file = weights.safe_open(path, framework="pt")
    (arena,) = arenas_of(path)
    arena.sleep()
    arena.wait()
    arena.wake()
    assert arena.stats().buffered_bytes == 0
    # What was put to sleep before it was ever read can still be.
    file.get_tensors()
    arena.wait()
    stats = arena.stats()
    assert (stats.state, stats.buffered_bytes) == ("awake", 4 << 20)
    assert stats.load_seconds > 0
    (load,) = [load for load in weights.loads() if load.path == str(path)]
    assert load.seconds is not None
