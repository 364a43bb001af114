"""How much of a request is in tensors and bytes: what decides where it is parsed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelined.rpc.bulk import bytes_in_bulk
from pipelined_api.v1 import runs_pb2
from pipelined_api.v1.values_pb2 import ListValue, MapEntry, Tensor, Value

contents = st.binary(max_size=300)


def tensor(data: bytes) -> Value:
    return Value(tensor_value=Tensor(dtype=2, shape=[len(data)], data=data, container=1))  # type: ignore[arg-type]


@given(st.lists(contents, max_size=5), st.lists(contents, max_size=5), st.booleans())
def test_contents_of_tensors_and_bytes_are_counted_and_nothing_else(
    tensors: list[bytes], named: list[bytes], submitted: bool
) -> None:
    kind = runs_pb2.SubmitRequest if submitted else runs_pb2.RunRequest
    numbers = Value(list_value=ListValue(items=[Value(int_value=300)] * 50))
    request = kind(
        deployment="of a name",
        inputs=[*map(tensor, tensors), numbers, Value(string_value="x" * 200)],
        named_inputs=[
            MapEntry(key=f"name {i}", value=Value(bytes_value=data)) for i, data in enumerate(named)
        ],
    )
    expected = sum(map(len, tensors)) + sum(map(len, named))
    assert bytes_in_bulk(request.SerializeToString()) == expected


def test_shapes_of_tensors_and_values_in_lists_are_not_in_bulk() -> None:
    shape = Value(tensor_value=Tensor(shape=[1] * 10_000))
    items = Value(list_value=ListValue(items=[Value(bytes_value=b"xy")] * 1000))
    request = runs_pb2.RunRequest(inputs=[shape, items])
    assert bytes_in_bulk(request.SerializeToString()) == 0


def test_of_very_many_inputs_only_the_first_are_looked_at() -> None:
    request = runs_pb2.RunRequest(inputs=[Value(bytes_value=b"xy")] * 100_000)
    assert bytes_in_bulk(request.SerializeToString()) < 1000


@given(st.binary(max_size=200))
def test_of_anything_at_all_it_is_at_most_what_is_there(data: bytes) -> None:
    assert 0 <= bytes_in_bulk(data) <= len(data)
