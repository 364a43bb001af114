from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import PIL.Image
import pytest
import torch
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import Directory, File
from pipeline._values import encode
from pipelined_api.schema import SchemaViolation, check_schema, validate_inputs, validate_value
from pipelined_api.v1.schema_pb2 import Parameter, Schema, Type
from pipelined_api.v1.values_pb2 import DataType, Tensor
from pipelined_api.wire_values import WireBytes, WireDirectory, WireFile, WireTensor


def placeholder(container: Tensor.Container.ValueType, *shape: int) -> WireTensor:
    return WireTensor(container, DataType.DATA_TYPE_UINT8, shape)


NUMPY, TORCH, IMAGE = Tensor.CONTAINER_NUMPY, Tensor.CONTAINER_TORCH, Tensor.CONTAINER_IMAGE
OPEN = Tensor.CONTAINER_UNSPECIFIED


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        (Type.KIND_NUMPY, placeholder(NUMPY, 2), True),
        (Type.KIND_NUMPY, placeholder(OPEN, 2), True),
        (Type.KIND_NUMPY, placeholder(TORCH, 2), False),
        (Type.KIND_TORCH, placeholder(TORCH, 2), True),
        (Type.KIND_TORCH, placeholder(OPEN, 2), True),
        (Type.KIND_TORCH, placeholder(IMAGE, 2, 2), False),
        (Type.KIND_IMAGE, placeholder(IMAGE, 2, 2), True),
        (Type.KIND_IMAGE, placeholder(OPEN, 2, 2, 3), True),
        (Type.KIND_IMAGE, placeholder(OPEN, 2, 2, 5), False),
        (Type.KIND_FILE, WireFile("a", 1), True),
        (Type.KIND_FILE, placeholder(NUMPY, 1), False),
        (Type.KIND_FILE, "a", False),
    ],
)
def test_placeholders_are_validated_as_what_they_stand_for(
    kind: Type.Kind.ValueType, value: object, fits: bool
) -> None:
    if fits:
        assert validate_value(Type(kind=kind), value, "x") is value
    else:
        with pytest.raises(SchemaViolation) as caught:
            validate_value(Type(kind=kind), value, "x")
        assert caught.value.field == "x"


@pytest.mark.parametrize(
    ("value", "called"),
    [
        (placeholder(NUMPY), "a numpy scalar"),
        (placeholder(NUMPY, 2), "a numpy array"),
        (placeholder(TORCH), "a torch tensor"),
        (placeholder(IMAGE, 2, 2), "a PIL image"),
        (placeholder(OPEN, 2), "a tensor"),
        (np.int64(2), "a numpy scalar"),
        (np.zeros(()), "a numpy scalar"),
        (np.zeros(2), "a numpy array"),
        (torch.zeros(()), "a torch tensor"),
        (PIL.Image.new("L", (2, 2)), "a PIL image"),
        (WireFile("a", 1), "a File"),
        (File.from_bytes(b"", name="a"), "a File"),
        (WireDirectory("a"), "a Directory"),
        (Directory.from_files([], name="a"), "a Directory"),
        (WireBytes(1), "bytes"),
        (b"", "bytes"),
        (np.float64(1), "float"),
        (math.nan, "NaN"),
        (None, "None"),
        ([], "list"),
    ],
)
def test_messages_call_a_value_what_its_user_does(value: object, called: str) -> None:
    with pytest.raises(SchemaViolation) as caught:
        validate_value(Type(kind=Type.KIND_INT), value, "x")
    assert caught.value.message == f"Input should be a valid integer, got {called}"


@pytest.mark.parametrize(
    ("bounds", "value", "message", "bound"),
    [
        ({"le": 2}, 2.5, "Input should be less than or equal to 2, got 2.5", "le=2"),
        ({"le": 2.0}, np.float64(3), "Input should be less than or equal to 2, got 3", "le=2"),
        ({"gt": 0.5}, 0, "Input should be greater than 0.5, got 0", "gt=0.5"),
        ({"multiple_of": 8}, math.inf, "Input should be a multiple of 8, got inf", "multiple_of=8"),
        *(
            ({name: 1}, math.nan, "Input should be a number that can be compared, got NaN", None)
            for name in ("gt", "ge", "lt", "le", "multiple_of")
        ),
    ],
)
def test_bounds_of_floats_read_as_they_were_written(
    bounds: dict[str, float], value: object, message: str, bound: str | None
) -> None:
    type_ = Type(kind=Type.KIND_FLOAT)
    for name, number in bounds.items():
        getattr(type_.constraints, name).CopyFrom(encode(number))
    with pytest.raises(SchemaViolation) as caught:
        validate_value(type_, value, "x")
    assert (caught.value.message, caught.value.bound) == (message, bound)
    assert math.isnan(validate_value(Type(kind=Type.KIND_FLOAT), math.nan, "x"))  # type: ignore[arg-type]


def object_schema() -> Schema:
    schema = Schema()
    options = schema.inputs.add(name="options")
    options.type.kind = Type.KIND_OBJECT
    options.type.name = "Options"
    size = options.type.fields.add(name="size")
    size.type.kind = Type.KIND_INT
    size.type.constraints.le.int_value = 10
    size.default_value.int_value = 5
    seed = options.type.fields.add(name="seed", optional=True)
    seed.type.kind = Type.KIND_INT
    return schema


def test_fields_are_filled_in_and_optional_ones_stay_out() -> None:
    schema = object_schema()
    assert validate_inputs(schema, [{}], {}) == [{"size": 5}]
    assert validate_inputs(schema, [], {"options": {"seed": None}}) == [{"size": 5, "seed": None}]
    with pytest.raises(SchemaViolation, match=r"options\.size: .*less than or equal to 10") as e:
        validate_inputs(schema, [{"size": 11}], {})
    assert (e.value.field, e.value.bound) == ("options.size", "le=10")


def _one(change: Callable[[Parameter], None]) -> Schema:
    schema = Schema()
    parameter = schema.inputs.add(name="a")
    parameter.type.kind = Type.KIND_INT
    change(parameter)
    return schema


def _bad_default(parameter: Parameter) -> None:
    parameter.default_value.string_value = "x"


def _empty_default(parameter: Parameter) -> None:
    parameter.default_value.SetInParent()


def _bad_bound(parameter: Parameter) -> None:
    parameter.type.constraints.ge.string_value = "x"


def _bound_of_another_kind(parameter: Parameter) -> None:
    parameter.type.constraints.min_length = 1


def _bad_pattern(parameter: Parameter) -> None:
    parameter.type.kind = Type.KIND_STRING
    parameter.type.constraints.pattern = "("


def _two_elements(parameter: Parameter) -> None:
    parameter.type.kind = Type.KIND_LIST
    parameter.type.arguments.add(kind=Type.KIND_INT)
    parameter.type.arguments.add(kind=Type.KIND_INT)


def _empty_union(parameter: Parameter) -> None:
    parameter.type.kind = Type.KIND_UNION


def _bad_field(parameter: Parameter) -> None:
    parameter.type.kind = Type.KIND_OBJECT
    parameter.type.fields.add(name="f").type.kind = 99  # type: ignore[assignment]  # from the future


def _field_twice(parameter: Parameter) -> None:
    parameter.type.kind = Type.KIND_OBJECT
    for _ in range(2):
        parameter.type.fields.add(name="f").type.kind = Type.KIND_INT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.ClearField("name"), r"schema.inputs\[0\]: name '' is empty or taken"),
        (lambda p: p.ClearField("type"), "unknown kind of type 0"),
        (_bad_default, r"schema.inputs\[0\].default_value: .*got str"),
        (_empty_default, "has no kind"),
        (_bad_bound, "ge is not a number"),
        (_bound_of_another_kind, "min_length does not apply to int"),
        (_bad_pattern, "make no sense"),
        (_two_elements, "a list has one element type"),
        (_empty_union, "a union of nothing"),
        (_bad_field, "unknown kind of type 99"),
        (_field_twice, "field name 'f' is empty or taken"),
    ],
)
def test_a_schema_that_makes_no_sense_is_refused(
    change: Callable[[Parameter], None], message: str
) -> None:
    with pytest.raises(SchemaViolation, match=message):
        check_schema(_one(change))


def test_two_parameters_of_one_name_are_refused() -> None:
    schema = object_schema()
    schema.inputs.append(schema.inputs[0])
    with pytest.raises(SchemaViolation, match=r"schema.inputs\[1\]"):
        check_schema(schema)
    check_schema(object_schema())


@given(st.binary(max_size=100))
@settings(max_examples=300)
def test_any_bytes_are_a_schema_or_a_violation(data: bytes) -> None:
    schema = Schema()
    try:
        schema.ParseFromString(data)
    except DecodeError:
        return
    # Whatever else it raised would fail this test.
    with suppress(SchemaViolation):
        check_schema(schema)


types: st.SearchStrategy[Type] = st.deferred(
    lambda: (
        st.sampled_from(Type.Kind.values()).map(lambda kind: Type(kind=kind))
        | st.builds(
            Type,
            kind=st.sampled_from(Type.Kind.values()),
            arguments=st.lists(types, max_size=2),
            fields=st.lists(st.builds(Parameter, name=st.text(max_size=2), type=types), max_size=2),
            variadic=st.booleans(),
        )
    )
)


@given(types, st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
@settings(max_examples=300)
def test_any_type_and_any_value_fit_or_are_a_violation(type_: Type, value: object) -> None:
    schema = Schema(inputs=[Parameter(name="x", type=type_)])
    with suppress(SchemaViolation):
        check_schema(schema)
        validate_inputs(schema, [value], {})
