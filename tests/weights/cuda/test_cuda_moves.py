"""`.to("cuda")` of tensors from the loader: which come from an arena, and which torch copies."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from pipelined import weights
from tests.weights.cuda.fake_driver import Statistic
from tests.weights.cuda.torch_cuda import TorchCuda
from tests.weights.files import assert_same, assert_same_tensors

Move = Callable[[torch.Tensor], torch.Tensor]

# Of several pages, so that a change to one leaves others alone.
SIZES = {"a": (30, 100), "b": (20_000,), "c": (50, 400), "d": (5, 1000)}


@pytest.fixture
def stock() -> dict[str, torch.Tensor]:
    return {name: torch.randn(shape) for name, shape in SIZES.items()}


@pytest.fixture
def path(tmp_path: Path, stock: dict[str, torch.Tensor]) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(stock, path)
    return path


MOVES: dict[str, Move] = {
    "to(name)": lambda tensor: tensor.to("cuda"),
    "to(name of one)": lambda tensor: tensor.to("cuda:0"),
    "to(number)": lambda tensor: tensor.to(0),
    "to(device)": lambda tensor: tensor.to(torch.device("cuda", 0)),
    "to(device=)": lambda tensor: tensor.to(device="cuda"),
    "to(device=number)": lambda tensor: tensor.to(device=0),
    "to(device, None, True)": lambda tensor: tensor.to("cuda", None, True),
    "to(device=, dtype=None)": lambda tensor: tensor.to(device="cuda", dtype=None),
    "to(device, dtype)": lambda tensor: tensor.to("cuda", torch.float32),
    "to(non_blocking=)": lambda tensor: tensor.to("cuda", non_blocking=True),
    "to(copy=)": lambda tensor: tensor.to("cuda", copy=True),
    "to(..., copy)": lambda tensor: tensor.to("cuda", None, False, True),
    "to(memory_format=)": lambda tensor: tensor.to("cuda", memory_format=torch.preserve_format),
    "cuda()": lambda tensor: tensor.cuda(),
    "cuda(number)": lambda tensor: tensor.cuda(0),
    "cuda(device=)": lambda tensor: tensor.cuda(device="cuda:0", non_blocking=True),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES.keys())
def test_all_forms_of_the_call(
    torch_cuda: TorchCuda, path: Path, stock: dict[str, torch.Tensor], move: Move
) -> None:
    tensors = weights.load_file(path)
    with weights.device_moves():
        moved = {name: move(tensor) for name, tensor in tensors.items()}
    assert all(map(torch_cuda.from_loader, moved.values()))
    assert torch_cuda.copied == []
    assert_same_tensors(moved, stock)
    (arena,) = weights.arenas("cuda")
    assert arena.paths == [str(path)]
    assert torch_cuda.driver.statistic(Statistic.PAGEABLE_COPIES) == 0
    # What is between tensors comes along.
    nbytes = sum(tensor.nbytes for tensor in stock.values())
    to_device = torch_cuda.driver.statistic(Statistic.BYTES_TO_DEVICE)
    assert nbytes <= to_device <= nbytes + 256 * len(stock)


def test_nothing_happens_outside_of_the_context(torch_cuda: TorchCuda, path: Path) -> None:
    before = torch.Tensor.to
    with weights.device_moves():
        tensors = weights.load_file(path)
        assert torch.Tensor.to is not before
    assert torch.Tensor.to is before
    assert not torch_cuda.from_loader(tensors["a"].to("cuda"))
    assert weights.arenas("cuda") == []


def assert_moved_alone(cuda: TorchCuda, moved: torch.Tensor, expected: torch.Tensor) -> None:
    assert cuda.on_device(moved)
    assert not cuda.from_loader(moved)
    assert_same(moved, expected)


def written_in_place(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(-1)[7:8].fill_(3.0)


def written_through_numpy(tensor: torch.Tensor) -> None:
    tensor.numpy().reshape(-1)[-1] = 3.0


@pytest.mark.parametrize("write", [written_in_place, written_through_numpy])
def test_what_was_written_to_is_copied_as_it_is(
    torch_cuda: TorchCuda,
    path: Path,
    stock: dict[str, torch.Tensor],
    write: Callable[[torch.Tensor], object],
) -> None:
    tensors = weights.load_file(path)
    write(tensors["c"])
    write(stock["c"])
    with weights.device_moves():
        moved = {name: tensor.to("cuda") for name, tensor in tensors.items()}
    assert_moved_alone(torch_cuda, moved["c"], tensors["c"])
    assert_same_tensors(moved, stock)
    assert torch_cuda.from_loader(moved["a"])


def test_a_neighbour_in_the_same_page_is_copied_too(torch_cuda: TorchCuda, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    stock = {"a": torch.randn(3), "b": torch.randn(3), "c": torch.randn(9000)}
    safetensors.torch.save_file(stock, path)
    tensors = weights.load_file(path)
    tensors["a"].zero_()
    with weights.device_moves():
        assert_moved_alone(torch_cuda, tensors["b"].to("cuda"), stock["b"])
        assert_moved_alone(torch_cuda, tensors["a"].to("cuda"), torch.zeros(3))


class Subclass(torch.Tensor):
    pass


OTHERS: dict[str, Move] = {
    "a part": lambda tensor: tensor[3:],
    "a part from the beginning": lambda tensor: tensor[:3],
    "other shape": lambda tensor: tensor.view(-1),
    "other type": lambda tensor: tensor.view(torch.int32),
    "transposed": lambda tensor: tensor.t(),
    "copy": lambda tensor: tensor.clone(),
    "subclass": lambda tensor: tensor.as_subclass(Subclass),
    "with a gradient": lambda tensor: torch.nn.Parameter(tensor),
    "square and transposed": lambda tensor: tensor.as_strided((30, 100), (1, 30)),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_other_tensors_are_torchs(torch_cuda: TorchCuda, path: Path, other: Move) -> None:
    tensors = weights.load_file(path)
    with weights.device_moves():
        tensor = other(tensors["a"])
        moved = tensor.to("cuda")
    assert_moved_alone(torch_cuda, moved, tensor)


CALLS: dict[str, Move] = {
    "other order": lambda tensor: tensor.to("cuda", memory_format=torch.channels_last),
    "not that type": lambda tensor: tensor.to("cuda", torch.int32),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_other_calls_are_torchs(torch_cuda: TorchCuda, tmp_path: Path, call: Move) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"a": torch.randn(2, 3, 4, 5), "b": torch.randn(3)}, path)
    tensors = weights.load_file(path)
    with weights.device_moves():
        assert not torch_cuda.from_loader(call(tensors["a"]))
        assert tensors["a"].to(torch.float64).dtype == torch.float64
        assert tensors["a"].to(tensors["b"]) is tensors["a"]
        assert tensors["a"].to("cpu") is tensors["a"]
        with pytest.raises(RuntimeError, match="nonsense"):
            tensors["a"].to("nonsense")
        with torch.inference_mode():
            assert not torch_cuda.from_loader(tensors["b"].to("cuda"))
    assert weights.arenas("cuda") == []


def test_the_gradient_does_not_matter_without_autograd(torch_cuda: TorchCuda, path: Path) -> None:
    tensors = weights.load_file(path)
    with weights.device_moves():
        parameter = torch.nn.Parameter(tensors["a"])
        with torch.no_grad():
            assert torch_cuda.from_loader(parameter.to("cuda"))
        assert torch_cuda.from_loader(torch.nn.Parameter(tensors["b"], False).to("cuda"))


def test_a_second_copy_is_another_tensor(torch_cuda: TorchCuda, path: Path) -> None:
    tensors = weights.load_file(path)
    with weights.device_moves():
        first = tensors["a"].to("cuda")
        second = tensors["a"].to("cuda")
    first.zero_()
    assert_moved_alone(torch_cuda, second, tensors["a"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_floating_point_type(
    torch_cuda: TorchCuda, path: Path, stock: dict[str, torch.Tensor], dtype: torch.dtype
) -> None:
    tensors = weights.load_file(path)
    with weights.device_moves():
        moved = {name: tensor.to("cuda", dtype) for name, tensor in tensors.items()}
    assert torch_cuda.copied == []
    assert_same_tensors(moved, {name: tensor.to(dtype) for name, tensor in stock.items()})
    # Nothing is left of what was converted.
    assert weights.arenas("cuda") == []


def test_a_module(torch_cuda: TorchCuda, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    stock = torch.nn.Sequential(torch.nn.Linear(100, 200), torch.nn.BatchNorm1d(200))
    safetensors.torch.save_file(stock.state_dict(), path)
    moves: list[Callable[[torch.nn.Module], torch.nn.Module]] = [
        lambda module: module.to("cuda"),
        lambda module: module.cuda(),
    ]
    for move in moves:
        with torch.device("meta"):
            module = torch.nn.Sequential(torch.nn.Linear(100, 200), torch.nn.BatchNorm1d(200))
        with weights.device_moves():
            module.load_state_dict(weights.load_file(path), assign=True)
            move(module)
        assert torch_cuda.copied == []
        assert_same_tensors(module.state_dict(), stock.state_dict())
        assert all(map(torch_cuda.from_loader, module.state_dict().values()))
        assert all(parameter.requires_grad for parameter in module.parameters())


def test_many_threads_share_one_load(torch_cuda: TorchCuda, path: Path) -> None:
    many = {f"t{index}": torch.randn(500 + index) for index in range(400)}
    safetensors.torch.save_file(many, path)
    tensors = weights.load_file(path)
    with weights.device_moves(), ThreadPoolExecutor(16) as pool:
        moved = dict(
            zip(tensors, pool.map(lambda one: one.to("cuda"), tensors.values()), strict=True)
        )
        again = list(pool.map(lambda one: one.to("cuda"), tensors.values()))
    assert all(map(torch_cuda.from_loader, moved.values()))
    assert not any(map(torch_cuda.from_loader, again))
    assert_same_tensors(moved, many)
    assert len(weights.arenas("cuda")) == 1


def test_a_moved_tensor_is_saved_and_copied_alone(torch_cuda: TorchCuda, path: Path) -> None:
    tensors = weights.load_file(path)
    with weights.device_moves():
        moved = {name: tensor.to("cuda") for name, tensor in tensors.items()}
    buffer = io.BytesIO()
    torch.save(moved["a"], buffer)
    assert buffer.getbuffer().nbytes < moved["a"].nbytes + 4096
    assert_same(copy.deepcopy(moved["a"]), tensors["a"])
    assert moved["a"].untyped_storage().nbytes() == moved["a"].nbytes
    assert moved["a"].storage_offset() == 0


def test_the_arena_dies_with_its_tensors(torch_cuda: TorchCuda, path: Path) -> None:
    tensors = weights.load_file(path)
    with weights.device_moves():
        moved: Any = [tensor.to("cuda") for name, tensor in tensors.items() if name != "d"]
        # One is to come.
        del moved
        (arena,) = weights.arenas("cuda")
        moved = tensors["d"].to("cuda")
        del arena, moved
        assert weights.arenas("cuda") == []
        moved = weights.load_file(path)["a"].to("cuda")
        del moved
        assert len(weights.arenas("cuda")) == 1
    assert weights.arenas("cuda") == []
