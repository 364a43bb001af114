"""Each point of what a fork has to be careful about; each test fails without the measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelined.core.options import Options
from tests.nursery.launching import Launching, call, graph_of, source_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


def draw_random() -> list[Any]:
    import random

    import numpy as np
    import torch

    legacy = np.random.rand()  # what users have
    return [random.random(), float(legacy), float(torch.rand(1, dtype=torch.float64))]


async def test_workers_do_not_share_random_numbers(shared: Launching) -> None:
    graph = graph_of(draw_random)
    draws = [await call(await shared.start(graph)) for _ in range(3)]
    for generator in zip(*draws, strict=True):
        assert len(set(generator)) == 3


def threads_of_libraries() -> dict[str, Any]:
    import ctypes
    from pathlib import Path

    import numpy as np
    import torch

    # Deadlocks in a process that was forked from one with threads.
    torch_product = float((torch.ones(700, 700) @ torch.ones(700, 700))[0, 0])
    numpy_product = float((np.ones((700, 700)) @ np.ones((700, 700)))[0, 0])
    maps = Path("/proc/self/maps").read_text().split()
    (openblas,) = {word for word in maps if "openblas" in word}
    return {
        "torch": torch.get_num_threads(),
        "openblas": ctypes.CDLL(openblas).scipy_openblas_get_num_threads64_(),
        "products": [torch_product, numpy_product],
    }


async def test_parallel_operations_have_the_threads_of_a_fresh_process(shared: Launching) -> None:
    graph = graph_of(threads_of_libraries)
    forked = await call(await shared.start(graph))
    assert source_of(shared) == "fork"
    fresh = await call(await shared.start(graph, {"HF_HOME": "/tmp"}))
    assert source_of(shared) == "exec"
    assert forked == fresh
    assert forked["products"] == [700.0] * 2


async def test_a_deployment_may_choose_its_threads(shared: Launching) -> None:
    worker = await shared.start(graph_of(threads_of_libraries), options=Options(threads=3))
    assert (await call(worker))["torch"] == 3


async def test_the_nursery_has_one_thread_and_asks_nvml_whether_there_is_a_gpu(
    shared: Launching,
) -> None:
    status = shared.nursery.status()
    assert status.exec_reason == ""
    process = Path(f"/proc/{status.pid}")
    assert len(list((process / "task").iterdir())) == 1
    environment = (process / "environ").read_bytes().split(b"\0")
    assert b"PYTORCH_NVML_BASED_CUDA_CHECK=1" in environment
    assert b"OMP_NUM_THREADS=1" in environment


def signals_and_session() -> list[Any]:
    import os
    import signal
    import sys

    return [
        os.getsid(0) == os.getpid() == os.getpgid(0),
        signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
        signal.set_wakeup_fd(-1),
        sys.stdin.read(),
    ]


@pytest.mark.parametrize("variables", [{}, {"TZ": "UTC"}], ids=["fork", "exec"])
async def test_a_worker_has_a_session_of_its_own_and_no_input(
    shared: Launching, variables: dict[str, str]
) -> None:
    worker = await shared.start(graph_of(signals_and_session), variables)
    assert await call(worker) == [True, True, True, -1, ""]


def open_descriptors() -> list[str]:
    from pathlib import Path

    # That of the folder itself is gone by the time it is looked at.
    entries = list(Path("/proc/self/fd").iterdir())
    return sorted(str(entry.readlink()).split(":")[0] for entry in entries if entry.is_symlink())


async def test_a_worker_holds_its_channel_and_its_streams_and_no_more(shared: Launching) -> None:
    for _ in range(2):
        worker = await shared.start(graph_of(open_descriptors))
        assert await call(worker) == ["/dev/null", "pipe", "pipe", "socket"]
