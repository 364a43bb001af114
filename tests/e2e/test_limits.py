"""Workers that take too much, or leave something behind: told apart, contained, and cleaned up."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline import Client, Graph, Pipeline, Variable, errors, pipe
from tests.e2e.test_crashes import wait_until
from tests.running_daemon import RunningDaemon

MEGABYTE = 2**20


def of(function: Callable[..., Any], *types: type) -> Graph:
    with Pipeline() as builder:
        builder.output(pipe(function)(*map(Variable, types)))
    return builder.get_pipeline()


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as made:
        yield made


def hold(megabytes: int) -> int:
    """Take memory, and keep it until somebody ends this."""
    held = bytearray(b"x") * (megabytes * MEGABYTE)
    if megabytes > 100:
        signal.pause()
    return len(held)


def hold_in_a_child(megabytes: int) -> int:
    code = f"import signal; held = bytearray(b'x') * {megabytes * MEGABYTE}; signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as child:
        return child.wait() + megabytes


@pytest.mark.parametrize("function", [hold, hold_in_a_child])
def test_a_worker_that_leaks_is_killed_and_told_apart(
    client: Client, function: Callable[..., Any]
) -> None:
    name = f"limits-{function.__name__}"
    limit = 400 * MEGABYTE
    client.deploy(of(function, int), name, memory=limit)
    with pytest.raises(errors.WorkerDied, match=f"more memory than its limit of {limit}") as caught:
        client.run(name, 500)
    assert (caught.value.reason, caught.value.signal) == ("WORKER_OUT_OF_MEMORY", "SIGKILL")
    assert caught.value.metadata["limit"] == str(limit)
    if function is hold:
        assert client.run(name, 10) == [10 * MEGABYTE]
        [found] = [each for each in client.list(worker_memory=True) if each.name == name]
        [size] = found.worker_memory
        assert 0 < size < limit


def spin(times: int) -> int:
    # In native code, which does not let go of the interpreter.
    re.match("(a+)+$", "a" * times + "b")
    return times


def test_a_run_that_spins_is_killed_when_its_time_is_over(client: Client) -> None:
    client.deploy(of(spin, int), "limits-spin", cpu_seconds=0.5)
    with pytest.raises(errors.WorkerDied, match=r"more than 0\.5 s of time on") as caught:
        client.run("limits-spin", 64)
    assert caught.value.reason == "CPU_TIME_EXCEEDED"
    assert caught.value.metadata["limit"] == "0.5"
    # The time is that of one run, not of the worker's life.
    assert [client.run("limits-spin", 1) for _ in range(3)] == [[1]] * 3


def open_files(count: int) -> list[int]:
    opened: list[int] = []
    try:
        while len(opened) < count:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for file in opened:
            os.close(file)
    return list(resource.getrlimit(resource.RLIMIT_NOFILE))


def test_open_files_are_limited(client: Client) -> None:
    client.deploy(of(open_files, int), "limits-files", open_files=100)
    assert client.run("limits-files", 10) == [[100, 100]]
    with pytest.raises(errors.RunFailed, match="Too many open files"):
        client.run("limits-files", 100)
    assert client.run("limits-files", 10) == [[100, 100]]


def raise_out_of_memory(kind: str) -> None:
    import torch

    if kind == "host":
        bytearray(1 << 60)
    if kind == "torch's":
        torch.empty(1 << 55, dtype=torch.uint8)
    try:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    except torch.OutOfMemoryError as error:
        raise RuntimeError("it did not fit") from error


def test_runs_that_lacked_memory_are_told_apart(client: Client) -> None:
    client.deploy(of(raise_out_of_memory, str), "limits-raise")
    for kind, reason in (
        ("host", "RUN_OUT_OF_MEMORY"),
        ("torch's", "RUN_OUT_OF_MEMORY"),
        ("device", "DEVICE_OUT_OF_MEMORY"),
    ):
        with pytest.raises(errors.RunFailed) as caught:
            client.run("limits-raise", kind)
        assert (caught.value.reason, caught.value.node) == (reason, "raise_out_of_memory")
    assert client.deployment("limits-raise").startups == 1


def crash(word: str) -> None:
    print(word)  # noqa: T201
    ctypes.string_at(0)


def test_what_a_crashed_worker_said_last_is_in_the_failure(client: Client) -> None:
    with Pipeline() as builder:
        pipe(on_startup=True)(crash)("the last word")
        builder.output(pipe(hold)(Variable(int)))
    client.deploy(builder.get_pipeline(), "limits-crash")
    with pytest.raises(errors.WorkerDied, match="SIGSEGV"):
        client.run("limits-crash", 1)
    failure = client.deployment("limits-crash").failure
    assert failure is not None
    assert failure.type == "WorkerDied"
    assert "the last word\n" in failure.traceback
    # The lines of Python that led to it.
    assert " in crash\n" in failure.traceback


def flood(lines: int) -> int:
    for number in range(lines):
        print("x" * 200, number)  # noqa: T201
    return lines


def test_a_flood_of_output_holds_up_nobody_else(client: Client) -> None:
    client.deploy(of(flood, int), "limits-flood")
    client.deploy(of(hold, int), "limits-beside")
    client.warm("limits-beside")
    with ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(client.run, "limits-flood", 200_000)
        ran = 0
        while not flooding.done():
            assert client.run("limits-beside", 1) == [MEGABYTE]
            ran += 1
        assert flooding.result() == [200_000]
    assert ran > 1


def allotted() -> list[int | str | None]:
    import torch

    variables = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    return [torch.get_num_threads(), *map(os.environ.get, variables)]


def test_threads_and_devices_are_those_that_were_chosen(client: Client) -> None:
    client.deploy(of(allotted), "limits-allotted", threads=3, gpus=["GPU-0f", "GPU-ab"])
    assert client.run("limits-allotted") == [[3, "GPU-0f,GPU-ab", "3"]]
    client.deploy(of(allotted), "limits-allotted", threads=1, gpus=0)
    assert client.run("limits-allotted") == [[1, "", "1"]]
    client.deploy(of(allotted), "limits-allotted")
    [(_, devices, _)] = cast(list[list[Any]], client.run("limits-allotted"))
    assert devices == os.environ.get("CUDA_VISIBLE_DEVICES")


def leave_files(how: str, told: str) -> str:
    folder = tempfile.mkdtemp()
    (Path(folder) / "file").write_bytes(b"x")
    (Path(folder) / "closed").mkdir(mode=0)
    file = subprocess.run(["mktemp"], capture_output=True, check=True, text=True).stdout.strip()
    Path(told).write_text(f"{folder}\n{file}")
    if how == "raise":
        raise ValueError(folder)
    if how == "pause":
        signal.pause()
    if how == "die":
        os._exit(3)
    return folder


@pytest.mark.parametrize("how", ["return", "raise", "die", "pause"])
def test_what_a_run_leaves_of_temporary_files_goes(
    client: Client, tmp_path: Path, how: str
) -> None:
    name, told = f"limits-temporary-{how}", tmp_path / "told"
    client.deploy(of(leave_files, str, str), name)
    if how == "pause":
        run = client.submit(name, how, str(told))
        wait_until(lambda: told.exists() and "\n" in told.read_text())
        assert all(Path(path).exists() for path in told.read_text().split())
        os.kill(client.deployment(name).worker_pids[0], signal.SIGKILL)
        with pytest.raises(errors.WorkerDied):
            run.result()
    elif how == "return":
        client.run(name, how, str(told))
    else:
        with pytest.raises((errors.RunFailed, errors.WorkerDied)):
            client.run(name, how, str(told))
    # A worker takes the next run when it has cleaned up, and one that has died is cleaned up after.
    wait_until(lambda: not any(Path(path).exists() for path in told.read_text().split()))
