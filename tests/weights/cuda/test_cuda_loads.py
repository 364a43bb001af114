"""Progress, cancellation, budgets, failures and forks of loads onto a device."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pipelined import weights
from tests.weights.cuda.fake_driver import FakeDriver, Statistic
from tests.weights.files import raw, settled

# A failure to give something back says nothing of the load; what a destructor needs for that, it
# asks for again.
MAY_SURVIVE = {
    "cuCtxPopCurrent_v2",
    "cuCtxPushCurrent_v2",
    "cuCtxSynchronize",
    "cuDevicePrimaryCtxRelease_v2",
    "cuEventDestroy_v2",
    "cuMemAddressFree",
    "cuMemFreeHost",
    "cuMemUnmap",
    "cuStreamDestroy_v2",
}


def test_progress(loading: FakeDriver, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(0), "y": torch.ones(5000)}, other)
    loading.configure(late_microseconds=2000)
    steps: list[weights.LoadProgress] = []
    weights.begin([path, other]).wait(steps.append)
    total = 4 * (1 + 40_000 + 70 + 9000 + 5000)
    assert steps[-1].finished
    assert len(steps) > 2
    for step in steps:
        assert (step.total_bytes, step.total_tensors) == (total, 6)
        assert sum(one.total_bytes for one in step.files) == total
        assert [one.path for one in step.files] == [str(path), str(other)]
    for before, after in zip(steps, steps[1:], strict=False):
        assert before.loaded_bytes <= after.loaded_bytes
        assert before.loaded_tensors <= after.loaded_tensors
    assert [one.loaded_bytes for one in steps[-1].files] == [total - 20_000, 20_000]


def test_a_callback_that_raises_ends_the_load(loading: FakeDriver, path: Path) -> None:
    # Held, the load cannot get to its end before it is cancelled.
    loading.hold(True)
    arena = weights.begin([path])

    def callback(progress: weights.LoadProgress) -> None:
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        arena.wait(callback)
    loading.hold(False)
    with pytest.raises(weights.Cancelled):
        arena.wait()
    assert loading.statistic(Statistic.DEVICE_BYTES) == 0


def test_an_event_ends_the_load(loading: FakeDriver, path: Path) -> None:
    class Cancelled(threading.Event):
        """Is set, and lets the driver go on once that was seen."""

        seen = 0

        def is_set(self) -> bool:
            self.seen += 1
            if self.seen == 2:
                loading.hold(False)
            return True

    loading.hold(True)
    arena = weights.begin([path])
    with pytest.raises(weights.Cancelled):
        arena.wait(cancelled=Cancelled())
    assert arena.stats().state == "failed"
    weights.begin([path]).wait()


def test_loads_at_once_share_the_budget(loading: FakeDriver, path: Path) -> None:
    stock = safetensors.torch.load_file(path)
    loading.configure(late_microseconds=500)

    def load(_: int) -> bool:
        arena = weights.begin([path])
        arena.wait()
        arena.sleep()
        arena.wake()
        return all(arena.read_back(name) == raw(tensor) for name, tensor in stock.items())

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(load, range(12)))
    assert loading.statistic(Statistic.PINNED_PEAK) <= 64 << 10
    weights.release_pinned_memory()
    assert loading.statistic(Statistic.PINNED_BYTES) == 0


def test_the_budget_of_the_device(loading: FakeDriver, path: Path) -> None:
    weights.set_budgets(weights.Budgets(pinned_bytes=64 << 10, device_bytes=2 << 20))
    first = weights.begin([path])
    first.wait()
    with pytest.raises(weights.OverBudget) as caught:
        weights.begin([path]).wait()
    assert (caught.value.needed, caught.value.allowed) == (2 << 20, 0)
    assert caught.value.__notes__ == [f"weights: {path}"]
    waiting = weights.begin([path], wait_for_memory=True)
    first.sleep()
    waiting.wait()
    with pytest.raises(weights.OverBudget):
        first.wake()
    del waiting
    first.wake()
    assert loading.statistic(Statistic.DEVICE_PEAK) <= 2 << 20


def test_memory_that_runs_out(loading: FakeDriver, path: Path) -> None:
    loading.configure(device_bytes=1 << 20)
    with pytest.raises(weights.LoadError):
        weights.begin([path]).wait()


def test_there_is_no_driver(path: Path) -> None:
    with pytest.raises(weights.DriverMissing) as caught:
        weights.begin([path], driver="/nowhere/libcuda.so.1")
    assert caught.value.driver == "/nowhere/libcuda.so.1"
    assert caught.value.__notes__ == [f"weights: {path}"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_arguments_that_make_no_sense(loading: FakeDriver, path: Path, device: str) -> None:
    with pytest.raises(ValueError, match="read has to be one of automatic, buffered, direct"):
        weights.begin([path], device, read="sideways")  # type: ignore[arg-type]
    for single in (path, str(path)):
        with pytest.raises(TypeError, match="a list of paths"):
            weights.begin(single, device)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cpu or cuda, and not 'cuda:0'"):
        weights.arenas("cuda:0")  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_path_with_a_null_byte(loading: FakeDriver, path: Path, device: str) -> None:
    with pytest.raises(ValueError, match="null byte"):
        weights.begin([f"{path}\0.txt"], device)


def test_there_is_no_such_device(loading: FakeDriver, path: Path) -> None:
    with pytest.raises(weights.CudaError, match="cuDeviceGet"):
        weights.begin([path], device=3)
    with pytest.raises(weights.CudaError, match="cuDeviceGet"):
        weights.begin([path], "cuda:3")


def test_names_of_devices(loading: FakeDriver, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for device in ("cuda", "cuda:0", 0, torch.device("cuda"), torch.device("cuda", 0)):
        assert weights.begin([path], device).device == "cuda:0"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 3)
    assert weights.begin([path], "cuda:0").device == "cuda:0"
    with pytest.raises(weights.CudaError, match="cuDeviceGet"):
        weights.begin([path], "cuda")


def test_arenas_of_all_devices(loading: FakeDriver, path: Path) -> None:
    on_device, mapped = weights.begin([path]), weights.begin([path], "cpu")
    assert [arena.device for arena in weights.arenas()] == ["cuda:0", "cpu"]
    assert [arena.device for arena in weights.arenas("cuda")] == ["cuda:0"]
    assert [arena.device for arena in weights.arenas("cpu")] == ["cpu"]
    for name in on_device.names():
        assert on_device.read_back(name) == mapped.read_back(name)


def test_a_malformed_file(loading: FakeDriver, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"\x00" * 8)
    with pytest.raises(weights.FormatError):
        weights.begin([path])
    with pytest.raises(FileNotFoundError):
        weights.begin([tmp_path / "missing.safetensors"])


def test_the_timeline_gets_each_file(loading: FakeDriver, path: Path) -> None:
    weights.begin([path]).wait()
    load = settled(lambda load: load.seconds is not None)
    assert (load.name, load.bytes) == ("model.safetensors", 4 * (1 + 40_000 + 70 + 9000))
    assert load.source in ("page cache", "unknown")


# A sweep; on a busy machine it takes longer than other tests may.
@pytest.mark.timeout(600)
def test_every_call_that_fails(
    loading: FakeDriver,
    path: Path,
    close_devices: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    stock = {name: raw(tensor) for name, tensor in safetensors.torch.load_file(path).items()}

    def live() -> None:
        arena = weights.begin([path])
        arena.wait()
        assert {name: arena.read_back(name) for name in arena.names()} == stock

    live()
    close_devices()
    loading.forget()
    live()
    close_devices()
    injected = errors = 0
    counts = {name: loading.calls(name) for name in loading.functions()}
    for function, count in counts.items():
        for n in range(1, count + 1):
            loading.forget()
            loading.fail(function, n, 999)
            try:
                live()
            except weights.CudaError as error:
                assert (error.call, error.code) == (function, 999)  # noqa: PT017
                errors += 1
                injected += 1
            else:
                reached = loading.calls(function) >= n
                assert not reached or function in MAY_SURVIVE, (function, n)
                injected += reached
            loading.fail(None, 0, 0)
            close_devices()
            live()
            close_devices()
    with capsys.disabled():
        sys.stdout.write(f"\n{injected} injected failures, {errors} of them errors of the load\n")
    assert injected > 100


FORKING = """
import os, sys
from pipelined import weights
arena = weights.begin([sys.argv[1]])
arena.wait()
assert "torch" not in sys.modules
child = os.fork()
if child == 0:
    del arena
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert len(arena.read_back("t1")) == 160_000
"""


def test_a_fork_leaves_the_parent_its_memory(loading: FakeDriver, path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
