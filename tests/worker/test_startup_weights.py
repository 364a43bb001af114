"""Startups that load weights, in real workers: the hook, pinned memory, and the timeline."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelined import weights
from pipelined.core.errors import StartupFailed
from pipelined.core.stages import Stage, StageKind
from tests.nursery.launching import Launching, call
from tests.weights.files import sparse_file
from tests.worker.starting import (
    PINNED_BYTES,
    fake,
    itself,
    load,
    only_pinned,
    pinned,
    starting,
)

PR_SET_DUMPABLE = 4

pytestmark = pytest.mark.asyncio(loop_scope="module")


def weights_stages(launching: Launching) -> list[Stage]:
    return [stage for stage in launching.stages if stage.kind is StageKind.WEIGHTS]


def hooks(*_: object) -> list[str]:
    return [type(vars(torch.Tensor).get(name)).__name__ for name in ("to", "cuda")]


def with_hooks(seen: list[str]) -> list[list[str]]:
    return [seen, hooks()]


async def test_moves_go_through_the_loader_in_the_startup_and_only_there(small: Launching) -> None:
    worker = await small.start(starting(hooks, with_hooks))
    seen = await call(worker)
    # Tensor inherits both methods: there is nothing in the class but the loader's, if it is there.
    assert seen[0] != ["NoneType", "NoneType"]
    assert seen[1] == ["NoneType", "NoneType"]


def hooks_or_raise(folder: str) -> list[str]:
    notes = Path(folder) / "failed"
    if not notes.exists():
        notes.touch()
        raise RuntimeError("not yet")
    return hooks()


async def test_the_second_try_of_a_startup_has_the_hook_too(
    small: Launching, tmp_path: Path
) -> None:
    graph = starting(hooks_or_raise, with_hooks, str(tmp_path))
    worker = await small.launch()
    with pytest.raises(StartupFailed, match="not yet"):
        await small.start_on(worker, graph)
    await small.start_on(worker, graph)
    seen = await call(worker)
    assert seen[0] != ["NoneType", "NoneType"]
    assert seen[1] == ["NoneType", "NoneType"]


def content_of(arena: weights.Arena) -> bytes:
    return arena.read_back("weight")


async def test_weights_reach_a_device(small: Launching, path: Path) -> None:
    worker = await small.start(starting(load, content_of, str(path)))
    assert await call(worker) == torch.arange(250_000, dtype=torch.float32).numpy().tobytes()
    [stage] = weights_stages(small)
    assert (stage.name, stage.bytes) == ("model.safetensors", 1_000_000)
    assert stage.source in ("disk", "page cache")


async def test_a_warm_worker_has_nothing_pinned(small: Launching, path: Path) -> None:
    worker = await small.start(starting(load, only_pinned, str(path)))
    now, peak = await call(worker)
    assert now == 0
    assert 0 < peak <= PINNED_BYTES


def leave_copies_held(path: str) -> weights.Arena:
    """Return while the last copies have not begun; they do once somebody waits for them."""
    import sys
    import threading

    def is_waited_for() -> bool:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        while frame is not None and frame.f_code is not weights.Arena.wait.__code__:
            frame = frame.f_back
        return frame is not None

    def let_go() -> None:
        while not is_waited_for():
            pass
        fake().fake_hold(0)

    fake().fake_hold(1)
    arena = weights.begin([path])
    while arena.stats().state == "loading":
        pass
    threading.Thread(target=let_go, daemon=True).start()
    return arena


async def test_nothing_stays_pinned_where_the_last_copies_outlast_the_node(
    small: Launching, tmp_path: Path
) -> None:
    path = tmp_path / "small.safetensors"
    save_file({"weight": torch.ones(1000)}, path)
    worker = await small.start(starting(leave_copies_held, only_pinned, str(path)))
    now, peak = await call(worker)
    assert (now, peak > 0) == (0, True)


def lose_sight_of_memory(path: str) -> dict[str, torch.Tensor]:
    """Load onto the CPU, in a process that may not look at its own page map from there on."""
    tensors = load_file(path)
    if os.geteuid() == 0:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)
    with pytest.raises(OSError, match="pagemap"):
        weights.arenas("cpu")[0].stats()
    return tensors


def names_of(tensors: dict[str, torch.Tensor]) -> list[str]:
    return list(tensors)


async def test_a_startup_needs_no_page_map(small: Launching, path: Path) -> None:
    worker = await small.start(starting(lose_sight_of_memory, names_of, str(path)))
    assert await call(worker) == ["weight"]


# What a failed node leaves behind, in the worker.
KEPT: list[weights.Arena] = []


def fail_while_copying(path: str, note: str) -> tuple[int, int]:
    if Path(note).exists():
        return pinned()
    Path(note).touch()
    KEPT.append(leave_copies_held(path))
    raise ValueError("no such model")


async def test_nothing_stays_pinned_where_the_last_copies_outlast_a_failure(
    small: Launching, tmp_path: Path
) -> None:
    path = tmp_path / "small.safetensors"
    save_file({"weight": torch.ones(1000)}, path)
    worker = await small.launch()
    graph = starting(fail_while_copying, itself, str(path), str(tmp_path / "note"))
    with pytest.raises(StartupFailed, match="no such model"):
        await small.start_on(worker, graph)
    await small.start_on(worker, graph)
    now, peak = await call(worker)
    assert (now, peak > 0) == (0, True)


def fail_then_look(path: str, note: str) -> tuple[int, int]:
    if Path(note).exists():
        return pinned()
    Path(note).touch()
    load(path)
    raise ValueError("no such model")


async def test_a_startup_that_failed_leaves_nothing_pinned(
    small: Launching, path: Path, tmp_path: Path
) -> None:
    graph = starting(fail_then_look, itself, str(path), str(tmp_path / "note"))
    worker = await small.launch()
    with pytest.raises(StartupFailed, match="no such model"):
        await small.start_on(worker, graph)
    await small.start_on(worker, graph)
    now, peak = await call(worker)
    assert (now, peak > 0) == (0, True)


def load_shards(folder: str) -> None:
    for path in sorted(Path(folder).iterdir()):
        with weights.safe_open(path, framework="pt") as file:
            assert file.keys()
        load_file(path)
    load(*map(str, sorted(Path(folder).iterdir())))


async def test_each_shard_has_one_stage_however_often_it_was_opened(
    small: Launching, tmp_path: Path
) -> None:
    for index in range(3):
        tensors = {f"t{index}": torch.zeros(1000 * (index + 1)), f"b{index}": torch.zeros(10)}
        save_file(tensors, tmp_path / f"model-{index}.safetensors")
    await small.start(starting(load_shards, itself, str(tmp_path)))
    stages = weights_stages(small)
    assert [(stage.name, stage.bytes) for stage in stages] == [
        (f"model-{index}.safetensors", 4000 * (index + 1) + 40) for index in range(3)
    ]
    [node] = [stage for stage in small.stages if stage.kind is StageKind.NODE]
    for stage in stages:
        assert stage.source in ("disk", "page cache")
        assert node.start_seconds <= stage.start_seconds
        assert 0 <= stage.seconds <= node.seconds


def cut_short(path: str) -> None:
    """Read a file ahead that has become shorter than it was when it was mapped."""
    with weights.safe_open(path, framework="pt") as file:
        os.truncate(path, 4096)
        file.get_tensors()
        while (load := weights.loads()[0]).error is None and load.seconds is None:
            pass


async def test_what_reading_ahead_failed_of_is_logged(small: Launching, tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "model.safetensors", tensors=4, bytes_each=1 << 20)
    worker = await small.start(starting(cut_short, itself, str(path)))
    await small.printed(worker, f"{path} could not be read ahead: Bad address")
    [stage] = weights_stages(small)
    assert (stage.bytes, stage.source) == (4 << 20, "disk")
