"""The hook on `torch.Tensor`: when it is there, and what else it must not disturb."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from pipelined import weights
from tests.weights.cuda.fake_driver import OUT_OF_MEMORY
from tests.weights.cuda.torch_cuda import TorchCuda
from tests.weights.files import assert_same_tensors

TENSORS = {f"t{index}": torch.randn(100 * (index + 1)) for index in range(5)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(TENSORS, path)
    return path


def moved(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.to("cuda") for name, tensor in weights.load_file(path).items()}


def test_torch_is_left_as_it_was() -> None:
    before = dict(vars(torch.Tensor))
    with weights.device_moves():
        assert vars(torch.Tensor).keys() - before.keys() == {"to", "cuda"}
    assert dict(vars(torch.Tensor)) == before


def test_contexts_may_be_nested_and_overlap(torch_cuda: TorchCuda, path: Path) -> None:
    first, second = weights.device_moves(), weights.device_moves()
    before = torch.Tensor.to
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert all(map(torch_cuda.from_loader, moved(path).values()))
    second.__exit__(None, None, None)
    assert torch.Tensor.to is before
    assert not any(map(torch_cuda.from_loader, moved(path).values()))


def test_an_exception_ends_it_too(torch_cuda: TorchCuda, path: Path) -> None:
    before = torch.Tensor.to
    with pytest.raises(ValueError, match="enough"), weights.device_moves():
        raise ValueError("enough")
    assert torch.Tensor.to is before


def test_other_threads_are_seen(torch_cuda: TorchCuda, path: Path) -> None:
    found: list[dict[str, torch.Tensor]] = []
    entered, finish = threading.Event(), threading.Event()

    def watch() -> None:
        with weights.device_moves():
            entered.set()
            finish.wait()

    thread = threading.Thread(target=watch)
    thread.start()
    entered.wait()
    found.append(moved(path))
    finish.set()
    thread.join()
    assert all(map(torch_cuda.from_loader, found[0].values()))


def test_who_wrapped_it_meanwhile_keeps_his_wrapper(
    torch_cuda: TorchCuda, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def wrapped(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def to(*args: Any, **kwargs: Any) -> torch.Tensor:
            calls.append("to")
            return original(*args, **kwargs)

        return to

    with weights.device_moves():
        theirs = wrapped(torch.Tensor.to)
        monkeypatch.setattr(torch.Tensor, "to", theirs)
        assert all(map(torch_cuda.from_loader, moved(path).values()))
    assert torch.Tensor.to is theirs
    assert not any(map(torch_cuda.from_loader, moved(path).values()))
    assert len(calls) == 2 * len(TENSORS)
    # And ours works above it once more.
    with weights.device_moves():
        assert all(map(torch_cuda.from_loader, moved(path).values()))
    assert torch.Tensor.to is theirs


def test_tables_by_method_find_it() -> None:
    original = torch.Tensor.to
    with weights.device_moves():
        table = {torch.Tensor.to: "to", torch.Tensor.cuda: "cuda"}
        assert torch.Tensor.to.__name__ == "to"
        assert torch.Tensor.to == original
        assert original == torch.Tensor.to
    assert table[original] == "to"
    assert table[torch.Tensor.cuda] == "cuda"


def test_functions_are_compiled_as_ever() -> None:
    @torch.compile(backend="eager", fullgraph=True)
    def half(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(torch.float16).to("cpu") + 1

    with weights.device_moves():
        assert half(torch.ones(3)).dtype == torch.float16


def test_modes_see_torchs_own_call(torch_cuda: TorchCuda, path: Path) -> None:
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(function.__name__)
            return function(*args, **(kwargs or {}))

    tensors = weights.load_file(path)
    with weights.device_moves():
        with Mode():
            assert not torch_cuda.from_loader(tensors["t0"].to("cuda"))
        with torch.device("cuda"):
            assert torch_cuda.from_loader(tensors["t1"].to("cuda"))
    assert seen


def test_a_file_of_which_one_tensor_was_wanted(torch_cuda: TorchCuda, path: Path) -> None:
    with weights.device_moves():
        for name in TENSORS:
            with weights.safe_open(path, framework="pt") as file:
                tensor = file.get_tensor(name).to("cuda")
            assert not torch_cuda.from_loader(tensor)
    assert weights.arenas("cuda") == []


def test_a_file_of_which_all_is_wanted_later(torch_cuda: TorchCuda, path: Path) -> None:
    with weights.device_moves(), weights.safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in TENSORS}
        result = {name: part[...].to("cuda") for name, part in slices.items()}
    assert torch_cuda.copied == []
    assert_same_tensors(result, TENSORS)


def test_one_tensor_is_a_whole_file(torch_cuda: TorchCuda, path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(9)}, path)
    with weights.device_moves():
        assert torch_cuda.from_loader(moved(path)["a"])


def test_the_timeline_has_one_load_of_a_file(torch_cuda: TorchCuda, path: Path) -> None:
    with weights.device_moves():
        kept = moved(path)
        (arena,) = weights.arenas("cuda")
        arena.wait()
        (load,) = weights.loads()
    assert load.bytes == sum(tensor.nbytes for tensor in kept.values())
    assert load.seconds is not None
    assert load.source in ("page cache", "unknown")
    assert load.error is None


def test_no_room(torch_cuda: TorchCuda, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights.set_budgets(weights.Budgets(pinned_bytes=64 << 10, device_bytes=1 << 20))
    with weights.device_moves(), caplog.at_level(logging.WARNING, "pipelined.weights"):
        result = moved(path)
    assert_same_tensors(result, TENSORS)
    assert len(torch_cuda.copied) == len(TENSORS)
    (record,) = caplog.records
    assert "device memory" in record.message
    (load,) = weights.loads()
    assert load.bytes == sum(tensor.nbytes for tensor in TENSORS.values())


def test_no_memory(torch_cuda: TorchCuda, path: Path) -> None:
    torch_cuda.driver.fail("cuMemCreate", 1, OUT_OF_MEMORY)
    with weights.device_moves():
        assert_same_tensors(moved(path), TENSORS)
    assert len(torch_cuda.copied) == len(TENSORS)


def test_no_driver(
    torch_cuda: TorchCuda, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIPELINED_CUDA_DRIVER", str(tmp_path / "none"))
    with weights.device_moves():
        assert_same_tensors(moved(path), TENSORS)
    assert len(torch_cuda.copied) == len(TENSORS)


def test_the_bytes_are_there_when_it_returns(torch_cuda: TorchCuda, path: Path) -> None:
    main = threading.get_ident()
    returned = threading.Event()

    def let_copies_run_once_somebody_waits() -> None:
        while not returned.is_set():
            frame = sys._current_frames().get(main)
            while frame is not None and frame.f_code is not weights.Arena.wait.__code__:
                frame = frame.f_back
            if frame is not None:
                break
        torch_cuda.driver.hold(False)

    torch_cuda.driver.hold(True)
    thread = threading.Thread(target=let_copies_run_once_somebody_waits)
    thread.start()
    with weights.device_moves():
        loaded = moved(path)
    returned.set()
    thread.join()
    assert_same_tensors(loaded, TENSORS)


def test_the_hooked_methods_are_copied_as_torchs_own(torch_cuda: TorchCuda) -> None:
    original = torch.Tensor.cuda
    with weights.device_moves():
        hooked = torch.Tensor.cuda
        assert hooked is not original
        assert hooked == original
        assert repr(hooked) == repr(original)
        assert pickle.loads(pickle.dumps(hooked)) is torch._C.TensorBase.cuda
        assert copy.deepcopy(hooked) is torch._C.TensorBase.cuda


def test_a_broken_device_is_an_error(torch_cuda: TorchCuda, path: Path) -> None:
    torch_cuda.driver.fail("cuMemCreate", 1, 999)
    with weights.device_moves(), pytest.raises(weights.CudaError, match="cuMemCreate") as caught:
        moved(path)
    assert f"weights: {path}" in caught.value.__notes__


def test_a_file_that_changed_is_an_error(torch_cuda: TorchCuda, path: Path) -> None:
    tensors = weights.load_file(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 100)
    with weights.device_moves():
        # And not once only: half of the tensors would be those of another file.
        for name in ("t0", "t0", "t1"):
            with pytest.raises(weights.FileChanged) as caught:
                tensors[name].to("cuda")
            assert caught.value.path == str(path)


def test_torch_has_no_room_for_what_is_converted(
    torch_cuda: TorchCuda, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = torch.Tensor.to
    failed = []

    def to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if torch_cuda.from_loader(tensor):
            failed.append(tensor.shape)
            raise torch.OutOfMemoryError
        return original(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    tensors = weights.load_file(path)
    with weights.device_moves():
        result = {name: tensor.to("cuda", torch.float16) for name, tensor in tensors.items()}
    assert_same_tensors(result, {name: tensor.half() for name, tensor in TENSORS.items()})
    assert len(failed) == 1
    assert weights.arenas("cuda") == []


def test_torchs_cache_is_emptied_before(torch_cuda: TorchCuda, path: Path) -> None:
    tensors = weights.load_file(path)

    def caching_allocator_warmup() -> None:
        torch.empty(10_000, device="cuda")

    with weights.device_moves():
        caching_allocator_warmup()
        assert torch_cuda.cached == 40_000
        tensors["t0"].to("cuda")
        assert torch_cuda.cached == 0
        # Once: to do it is to wait for the device.
        caching_allocator_warmup()
        tensors["t1"].to("cuda")
        assert torch_cuda.cached == 40_000


def mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_no_file_is_kept_mapped(torch_cuda: TorchCuda, path: Path) -> None:
    with weights.device_moves():
        tensors = weights.load_file(path)
        kept = [tensor.to("cuda") for tensor in tensors.values()]
        assert mapped(path)
        del tensors
        gc.collect()
        assert not mapped(path)
        assert len(kept) == len(TENSORS)


def test_what_was_mapped_there_before_does_not_matter(torch_cuda: TorchCuda, path: Path) -> None:
    with weights.device_moves():
        for _ in range(300):
            # Addresses come again as soon as they are free.
            result = moved(path)
            assert all(map(torch_cuda.from_loader, result.values()))
            assert_same_tensors(result, TENSORS)
            torch_cuda.forget()


FORKING = """
import os, sys, torch
from pipelined import weights
tensors = weights.load_file(sys.argv[1])
original = torch.Tensor.to
with weights.device_moves():
    child = os.fork()
    if child == 0:
        # Torch's own affair, as everything with CUDA in a forked process.
        assert torch.Tensor.to is original
        assert weights.load_file(sys.argv[1])["t0"].to(torch.float64).dtype == torch.float64
        os._exit(0)
    assert torch.Tensor.to is not original
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""

WITHOUT_TORCH = """
import sys
from pipelined import weights
with weights.device_moves():
    assert "torch" not in sys.modules
    file = weights.safe_open(sys.argv[1], framework="pt")
    assert file.keys() and "torch" not in sys.modules
    file.get_tensor("t0")
    assert "to" in vars(sys.modules["torch"].Tensor)
assert "to" not in vars(sys.modules["torch"].Tensor)
"""


@pytest.mark.parametrize("program", [FORKING, WITHOUT_TORCH], ids=["forking", "without torch"])
def test_processes(path: Path, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
