"""What programs expect of safetensors, asked of it while the loader is in its place."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import SafetensorError

from pipelined import weights
from tests.weights.files import assert_same, assert_same_tensors, run_in_threads

STOCK_OPEN: Any = safetensors.safe_open

TENSORS = {
    "bool": torch.tensor([[True, False], [False, True]]),
    "bf16": torch.tensor([[2.25, 1.0], [-0.0, float("nan")]], dtype=torch.bfloat16),
    "f16": torch.arange(24, dtype=torch.float16).reshape(2, 3, 4),
    "f8": torch.tensor([-0.5], dtype=torch.float8_e4m3fn),
    "f8 other": torch.tensor([-0.5], dtype=torch.float8_e5m2),
    "complex": torch.tensor([1 - 1j, 0j], dtype=torch.complex64),
    "scalar": torch.tensor(7.5, dtype=torch.float64),
    "empty": torch.empty(2, 0),
    "empty too": torch.empty(0, 5, dtype=torch.float16),
    "u16": torch.tensor([1, 65535], dtype=torch.uint16),
    "i64": torch.arange(5),
}
# Not every torch has these.
if hasattr(torch, "float8_e8m0fnu"):
    TENSORS["f8 scale"] = torch.tensor([2.0], dtype=torch.float8_e8m0fnu)
if hasattr(torch, "float4_e2m1fn_x2"):
    TENSORS["f4"] = torch.tensor([[18, 52]], dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
# What safetensors 0.8 can load in every way.
WHOLE_BYTES = {name: tensor for name, tensor in TENSORS.items() if name not in ("f4", "f8 scale")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(TENSORS, path, {"key": "value"})
    return path


def opens() -> Any:
    """Whatever safetensors' own function is now; its annotations miss much."""
    return safetensors.safe_open


pytestmark = pytest.mark.usefixtures("installed")


def test_what_was_saved_is_loaded(path: Path) -> None:
    for name in (path, str(path)):
        assert_same_tensors(safetensors.torch.load_file(name), TENSORS)
    with opens()(path, framework="pt", device="cpu") as file:
        assert type(file) is weights.safe_open
        assert file.metadata() == {"key": "value"}
        assert file.keys() == sorted(TENSORS)
        assert sorted(file.offset_keys()) == sorted(TENSORS)
        assert_same_tensors({name: file.get_tensor(name) for name in TENSORS}, TENSORS)
        assert_same_tensors(file.get_tensors(), TENSORS)


def test_what_was_loaded_can_be_saved_again(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    tensors = safetensors.torch.load_file(path)
    # Refuses tensors that share memory, or that are only a part of theirs.
    safetensors.torch.save_file(tensors, again, {"key": "value"})
    assert again.read_bytes() == path.read_bytes()
    assert safetensors.torch.save(tensors, {"key": "value"}) == path.read_bytes()


def test_a_file_may_be_saved_over_while_its_tensors_live(path: Path) -> None:
    tensors = safetensors.torch.load_file(path)
    changed = {name: tensor.clone() for name, tensor in tensors.items()}
    changed["i64"] += 1
    safetensors.torch.save_file(changed, path)
    assert_same_tensors(tensors, TENSORS)
    assert_same(safetensors.torch.load_file(path)["i64"], TENSORS["i64"] + 1)


def test_a_file_may_be_written_to_once_it_is_closed(path: Path) -> None:
    with safetensors.safe_open(path, framework="pt"):
        pass
    path.write_text("something")
    with pytest.raises(SafetensorError):
        safetensors.torch.load_file(path)


def test_no_metadata_is_none_and_empty_metadata_is_not(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for metadata in (None, {}, {"a": "b"}):
        safetensors.torch.save_file({"t": torch.ones(1)}, path, metadata)
        with safetensors.safe_open(path, framework="pt") as ours:
            assert ours.metadata() == STOCK_OPEN(path, framework="pt").metadata()


def test_the_default_device_is_not_asked(path: Path) -> None:
    with torch.device("meta"):
        tensors = safetensors.torch.load_file(path)
    assert_same_tensors(tensors, TENSORS)


def test_gradients_may_be_wanted(path: Path) -> None:
    weight = torch.nn.Parameter(safetensors.torch.load_file(path)["f16"].float())
    assert torch.equal(torch.autograd.grad(weight.sum(), weight)[0], torch.ones(2, 3, 4))


def test_bytes_are_loaded_as_before() -> None:
    content = safetensors.torch.save(WHOLE_BYTES)
    assert_same_tensors(safetensors.torch.load(content), WHOLE_BYTES)


class Tied(torch.nn.Module):
    """Two names for one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 3)
        self.second = self.first


@pytest.mark.parametrize("options", [{}, {"backend": "pread"}])
def test_models_with_shared_weights(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "model.safetensors"
    saved, loaded = Tied(), Tied()
    safetensors.torch.save_model(saved, str(path))
    missing, unexpected = safetensors.torch.load_model(loaded, path, **options)
    assert not missing
    assert not unexpected
    assert_same_tensors(loaded.state_dict(), saved.state_dict())
    assert loaded.first.weight is loaded.second.weight
    assert len(weights.loads()) == (0 if options else 1)


def test_models_that_lack_a_weight(path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"Missing key\(s\)"):
        safetensors.torch.load_model(torch.nn.Linear(4, 3), path)


def test_numpy_and_open_files_are_left_to_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros(3, dtype=np.uint8)}
    safetensors.numpy.save_file(arrays, path)
    for loaded in (
        safetensors.numpy.load_file(path),
        safetensors.numpy.load(path.read_bytes()),
        numpy_arrays(safetensors.safe_open(path, framework="numpy", backend="pread")),
    ):
        assert all(np.array_equal(loaded[name], array) for name, array in arrays.items())
    opens_handle = vars(safetensors)["_safe_open_handle"]
    with path.open("rb") as opened, opens_handle(opened, framework="np") as handle:
        loaded = numpy_arrays(handle)
    assert all(np.array_equal(loaded[name], array) for name, array in arrays.items())


def numpy_arrays(handle: Any) -> dict[str, Any]:
    return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118


@pytest.mark.parametrize("backend", ["mmap", "pread"])
def test_backends_give_the_same(path: Path, backend: str) -> None:
    safetensors.torch.save_file(WHOLE_BYTES, path)
    assert_same_tensors(safetensors.torch.load_file(path, backend=backend), WHOLE_BYTES)
    with opens()(path, framework="pt", device="cpu", backend=backend) as file:
        part = file.get_slice("f16")
        assert (part.get_shape(), part.get_dtype()) == ([2, 3, 4], "F16")
        assert_same(part[:, 1:3], TENSORS["f16"][:, 1:3])
        assert_same(part[1, ..., ::2], TENSORS["f16"][1, ..., ::2])


def test_every_member_of_a_handle_is_there(path: Path) -> None:
    stock, ours = STOCK_OPEN(path, framework="pt"), opens()(path, framework="pt")
    assert [name for name in dir(stock) if not hasattr(ours, name)] == []
    parts = stock.get_slice("f16"), ours.get_slice("f16")
    assert [name for name in dir(parts[0]) if not hasattr(parts[1], name)] == []


def test_members_of_a_newer_safetensors_are_its_own(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Newer:
        def __init__(self, *arguments: object, **options: object) -> None:
            self.arguments = (arguments, options)

        def get_new_thing(self) -> object:
            return self.arguments

    monkeypatch.setattr("pipelined.weights._safe_open.stock_safe_open", Newer)
    file = opens()(path, framework="pt", device="cpu")
    assert file.get_new_thing() == ((path, "pt", "cpu"), {})
    assert not hasattr(file, "get_other_thing")
    file.__exit__(None, None, None)
    with pytest.raises(SafetensorError, match="closed"):
        file.get_new_thing()


def close(handle: Any) -> Any:
    handle.__exit__(None, None, None)
    return handle


# What is asked of a handle; the answer, or the error's type, is that of safetensors.
QUESTIONS: dict[str, Callable[[Any], object]] = {
    "iteration": list,
    "length": len,
    "membership": lambda handle: "i64" in handle,
    "item": lambda handle: handle["i64"],
    "pickle": pickle.dumps,
    "copy": lambda handle: type(copy.copy(handle)).__name__,
    "hash": lambda handle: {handle: 1}[handle],
    "equality": lambda handle: handle == handle,  # noqa: PLR0124
    "unknown member": lambda handle: handle.nothing,
    "missing tensor": lambda handle: handle.get_tensor("nothing"),
    "missing part": lambda handle: handle.get_slice("nothing"),
    "name of another type": lambda handle: handle.get_tensor(3),
    "keyword": lambda handle: handle.get_tensor(name="i64").tolist(),
    "closed: keys": lambda handle: close(handle).keys(),
    "closed: offset_keys": lambda handle: close(handle).offset_keys(),
    "closed: metadata": lambda handle: close(handle).metadata(),
    "closed: get_tensor": lambda handle: close(handle).get_tensor("i64"),
    "closed: get_tensors": lambda handle: close(handle).get_tensors(),
    "closed: get_slice": lambda handle: close(handle).get_slice("i64"),
    "closed twice": lambda handle: close(close(handle)) is handle,
    "entered again": lambda handle: close(handle).__enter__() is handle,
    "part of a closed file": lambda handle: (handle.get_slice("i64"), close(handle))[0][:].tolist(),
    "part: length": lambda handle: len(handle.get_slice("i64")),
    "part: too many": lambda handle: handle.get_slice("i64")[0, 0],
    "part: beyond": lambda handle: handle.get_slice("i64")[5],
    "part: name": lambda handle: handle.get_slice("i64")["x"],
    "part: fraction": lambda handle: handle.get_slice("i64")[1.5],
    "part: backwards": lambda handle: handle.get_slice("i64")[::-1],
    "part: last": lambda handle: handle.get_slice("i64")[-1].tolist(),
    "part: all of a scalar": lambda handle: handle.get_slice("scalar")[...].tolist(),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_handles_answer_alike(path: Path, question: str) -> None:
    def answer(to_open: Any) -> object:
        try:
            return QUESTIONS[question](to_open(path, framework="pt"))
        except Exception as error:
            if type(error) is SafetensorError:
                return SafetensorError, str(error)
            return type(error)

    assert answer(opens()) == answer(STOCK_OPEN)


@pytest.mark.parametrize("kind", [weights.TruncatedFile, SafetensorError])
def test_errors_can_be_pickled(kind: type[Exception]) -> None:
    error = kind("in a worker of a pool")
    vars(error).update(path="p", tensor="t")
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(same) is kind
        assert same.args == error.args
        assert vars(same) == {"path": "p", "tensor": "t"}


def test_threads_save_and_load(tmp_path: Path) -> None:
    tensors = {
        "large": torch.randn(300, 700, 2),
        "small": torch.tensor(5000.0),
        "ones": torch.ones(5000, dtype=torch.int32),
    }
    finished = []

    def work(number: int) -> None:
        path = tmp_path / f"{number}.safetensors"
        for _ in range(10):
            safetensors.torch.save_file(tensors, path)
            assert_same_tensors(safetensors.torch.load_file(path), tensors)
        finished.append(number)

    run_in_threads(work, 4)
    assert sorted(finished) == [0, 1, 2, 3]
