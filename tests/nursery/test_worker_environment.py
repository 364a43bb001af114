"""The variables that workers start with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.nursery.launching import call, graph_of, launching


def openmp_variables() -> dict[str, str]:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    return {name: os.environ[name] for name in names if name in os.environ}


@pytest.mark.parametrize(
    ("chosen", "seen"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
async def test_openmp_threads_spin_briefly_unless_the_operator_chose_otherwise(
    tmp_path: Path, chosen: dict[str, str], seen: dict[str, str]
) -> None:
    environment = {"PATH": os.environ.get("PATH", ""), **chosen}
    async with launching(tmp_path, (), environment=environment) as own:
        worker = await own.start(graph_of(openmp_variables))
        assert await call(worker) == seen
        # Read when the library is loaded: a fork of a nursery would not take note of it.
        other = await own.start(graph_of(openmp_variables), {"GOMP_SPINCOUNT": "9"})
        assert own.stages[1].source == "exec"
        assert (await call(other))["GOMP_SPINCOUNT"] == "9"


def variables_of_ours() -> list[str]:
    return sorted(name for name in os.environ if name.startswith("PIPELINED_"))


async def test_workers_are_told_where_the_driver_is_and_nothing_else_of_the_daemon(
    tmp_path: Path,
) -> None:
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PIPELINED_ADDRESS": "unix:/somewhere",
        "PIPELINED_CUDA_DRIVER": "/lib/libcuda.so.1",
    }
    async with launching(tmp_path, (), environment=environment) as own:
        worker = await own.start(graph_of(variables_of_ours))
        # The other one says whose worker it is, for the daemon that comes after a crash.
        assert await call(worker) == ["PIPELINED_CUDA_DRIVER", "PIPELINED_WORKERS_OF"]
