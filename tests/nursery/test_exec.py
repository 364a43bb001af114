"""Deployments and nurseries that cannot be served by a fork."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.nursery.launching import call, graph_of, launching, source_of, with_modules

pytestmark = pytest.mark.asyncio(loop_scope="module")


def environment_of_worker() -> dict[str, str]:
    import os
    from pathlib import Path

    own = Path("/proc/self/environ").read_bytes().decode().split("\0")
    initial = dict(entry.split("=", 1) for entry in own if "=" in entry)
    return {f"initial {name}": value for name, value in initial.items()} | dict(os.environ)


async def test_workers_get_the_environment_of_the_daemon_without_its_secrets(
    tmp_path: Path,
) -> None:
    environment = {
        **os.environ,
        "OPENBLAS_NUM_THREADS": "2",
        "PLAIN": "value",
        "PIPELINED_TOKEN": "secret",
        "NOTIFY_SOCKET": "secret",
    }
    environment.pop("OMP_NUM_THREADS", None)
    async with launching(tmp_path, (), environment=environment) as own:
        for source, variables in (("fork", {"MINE": "1"}), ("exec", {"MINE": "1", "TZ": "UTC"})):
            seen = await call(await own.start(graph_of(environment_of_worker), variables))
            assert source_of(own) == source
            assert "secret" not in seen.values()
            assert seen["PLAIN"] == "value"
            assert seen["MINE"] == "1"
            assert seen["OPENBLAS_NUM_THREADS"] == "2"
            assert "OMP_NUM_THREADS" not in seen


PARALLEL = """
import torch
torch.set_num_threads(2)
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
torch.ones(10_000_000).sum()
"""
THREAD = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True, name="waits").start()
"""
ENDED_THREAD = """
import threading
thread = threading.Thread(target=int)
thread.start()
thread.join()
"""
CUDA = """
import torch
torch.cuda._initialized = True
"""


def multiply() -> float:
    import torch

    return float((torch.ones(700, 700) @ torch.ones(700, 700))[0, 0])


@pytest.mark.parametrize(
    ("source", "reason"),
    [(THREAD, "2 threads"), (CUDA, "CUDA is initialised")],
    ids=["thread", "CUDA"],
)
async def test_a_module_that_rules_out_forks_is_named(
    tmp_path: Path, source: str, reason: str
) -> None:
    environment = with_modules(tmp_path, culprit=source)
    async with launching(tmp_path, ("culprit",), environment=environment) as own:
        assert own.nursery.status().exec_reason.startswith("after importing culprit: ")
        assert reason in own.nursery.status().exec_reason


async def test_workers_start_by_exec_if_forks_are_ruled_out(tmp_path: Path) -> None:
    environment = with_modules(tmp_path, culprit=PARALLEL)
    async with launching(tmp_path, ("culprit",), environment=environment) as own:
        assert "threads are running" in own.nursery.status().exec_reason
        worker = await own.start(graph_of(multiply))
        assert source_of(own) == "exec"
        assert await call(worker) == 700.0


async def test_a_thread_that_has_ended_does_no_harm(tmp_path: Path) -> None:
    environment = with_modules(tmp_path, harmless=ENDED_THREAD)
    async with launching(tmp_path, ("harmless",), environment=environment) as own:
        assert own.nursery.status().exec_reason == ""


def huggingface_home() -> str:
    from huggingface_hub import constants

    return constants.HF_HOME


async def test_a_variable_that_is_read_at_import_gets_a_process_of_its_own(tmp_path: Path) -> None:
    async with launching(tmp_path, ("huggingface_hub.constants",)) as own:
        graph = graph_of(huggingface_home)
        home = str(tmp_path / "hub")
        assert await call(await own.start(graph, {"HF_HOME": home})) == home
        assert source_of(own) == "exec"
        assert await call(await own.start(graph)) != home
        assert source_of(own) == "fork"
