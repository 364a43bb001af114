"""What `deployment.schema()` returns says of JSON data what the daemon says of it."""

from __future__ import annotations

import base64
import json
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline import File, InputField, InputSchema, Pipeline, Variable
from pipeline._values import encode
from pipeline.schema import DeploymentSchema
from pipelined_api.schema import SchemaViolation, check_schema, validate_inputs
from pipelined_api.v1.schema_pb2 import Parameter, Schema, Type
from tests.client import json_schema

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-12, 12)
    | st.sampled_from([0.5, -2.5, 2**63, -(2**63) - 1])
    | st.text("ab", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abx"), inner),
    max_leaves=6,
)


@st.composite
def bounds(draw: st.DrawFn, kind: Type.Kind.ValueType) -> dict[str, Any]:
    """Constraints that apply to a kind, as keyword arguments of the wire's Constraints."""
    numbers = st.integers(-4, 4)
    if kind in (Type.KIND_INT, Type.KIND_FLOAT):
        chosen = {
            name: encode(draw(numbers))
            for name in draw(st.lists(st.sampled_from(["gt", "ge", "lt", "le"]), max_size=2))
        }
        if kind == Type.KIND_INT and draw(st.booleans()):
            chosen["multiple_of"] = encode(draw(st.integers(1, 3)))
        return chosen
    sized: dict[str, Any] = {
        name: draw(st.integers(0, 3))
        for name in draw(st.lists(st.sampled_from(["min_length", "max_length"]), max_size=2))
    }
    if kind == Type.KIND_STRING and draw(st.booleans()):
        sized["pattern"] = draw(st.sampled_from(["^a", "b$", "ab"]))
    return sized


@st.composite
def scalars(draw: st.DrawFn) -> Type:
    kind = draw(
        st.sampled_from(
            [Type.KIND_NULL, Type.KIND_BOOL, Type.KIND_INT, Type.KIND_FLOAT, Type.KIND_STRING]
            + [Type.KIND_ANY]
        )
    )
    result = Type(kind=kind)
    if kind in (Type.KIND_INT, Type.KIND_FLOAT, Type.KIND_STRING):
        choices: dict[Any, list[Any]] = {
            Type.KIND_INT: [1, 2],
            Type.KIND_FLOAT: [0.5, 1.0],
            Type.KIND_STRING: ["a", "ab"],
        }
        if draw(st.integers(0, 3)) == 0:
            result.constraints.choices.extend(map(encode, choices[kind]))
        else:
            result.constraints.MergeFrom(type(result.constraints)(**draw(bounds(kind))))
    return result


@st.composite
def containers(draw: st.DrawFn, inner: st.SearchStrategy[Type]) -> Type:
    kind = draw(
        st.sampled_from(
            [Type.KIND_LIST, Type.KIND_TUPLE, Type.KIND_MAP, Type.KIND_OBJECT, Type.KIND_UNION]
        )
    )
    if kind == Type.KIND_OBJECT:
        return Type(kind=kind, name="Options", fields=draw(parameters(inner)))
    if kind == Type.KIND_UNION:
        return Type(kind=kind, arguments=draw(st.lists(inner, min_size=1, max_size=3)))
    variadic = kind == Type.KIND_TUPLE and draw(st.booleans())
    most = 3 if kind == Type.KIND_TUPLE and not variadic else 1
    result = Type(kind=kind, arguments=draw(st.lists(inner, max_size=most)), variadic=variadic)
    if kind != Type.KIND_TUPLE or variadic:
        result.constraints.MergeFrom(type(result.constraints)(**draw(bounds(kind))))
    return result


@st.composite
def parameters(draw: st.DrawFn, types: st.SearchStrategy[Type], most: int = 3) -> list[Parameter]:
    names = draw(st.lists(st.sampled_from("abx"), unique=True, max_size=most))
    return [Parameter(name=name, type=draw(types), optional=draw(st.booleans())) for name in names]


TYPES = st.recursive(scalars(), containers, max_leaves=4)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Schema, dict[str, Any]]:
    """A schema, and inputs that may fit it; few, as one that does not fit hides the others."""
    schema = Schema(inputs=draw(parameters(TYPES, 2)))
    values = {
        each.name: draw(JSON if draw(st.integers(0, 4)) == 0 else fitting(each.type))
        for each in schema.inputs
        if draw(st.integers(0, 7))
    }
    return schema, values


def around(type_: Type) -> st.SearchStrategy[int]:
    """Numbers at the bounds of a type and beside them, where mistakes are."""
    names = ("gt", "ge", "lt", "le")
    bounds_ = [getattr(type_.constraints, name) for name in names]
    at = [bound.int_value for bound in bounds_ if bound.WhichOneof("kind")] or [0]
    return st.tuples(st.sampled_from(at), st.sampled_from([0, 0, 1, -1, 3])).map(sum)


def fitting(type_: Type) -> st.SearchStrategy[Any]:
    """JSON data that is at least of the right form for a type."""
    match type_.kind:
        case Type.KIND_NULL:
            return st.none()
        case Type.KIND_BOOL:
            return st.booleans()
        case Type.KIND_INT:
            return around(type_)
        case Type.KIND_FLOAT:
            return around(type_) | st.sampled_from([0.5, -1.5])
        case Type.KIND_STRING:
            return st.text("ab", max_size=4)
        case Type.KIND_LIST:
            return st.lists(fitting(type_.arguments[0]) if type_.arguments else JSON, max_size=4)
        case Type.KIND_TUPLE if type_.variadic:
            return st.lists(fitting(type_.arguments[0]) if type_.arguments else JSON, max_size=4)
        case Type.KIND_TUPLE:
            return st.tuples(*map(fitting, type_.arguments)).map(list)
        case Type.KIND_MAP:
            values = fitting(type_.arguments[0]) if type_.arguments else JSON
            return st.dictionaries(st.sampled_from("abx"), values)
        case Type.KIND_OBJECT:
            return st.fixed_dictionaries(
                {each.name: fitting(each.type) for each in type_.fields if not each.optional},
                optional={each.name: fitting(each.type) for each in type_.fields if each.optional},
            )
        case Type.KIND_UNION:
            return st.one_of(*map(fitting, type_.arguments))
    return JSON


def accepted(schema: Schema, values: dict[str, Any]) -> bool:
    try:
        validate_inputs(schema, (), values)
    except SchemaViolation:
        return False
    return True


@settings(max_examples=600, deadline=None, derandomize=True)
@given(cases())
def test_the_export_accepts_what_the_daemon_accepts_and_nothing_else(
    case: tuple[Schema, dict[str, Any]],
) -> None:
    schema, values = case
    try:
        check_schema(schema)
    except SchemaViolation:
        return  # Bounds that exclude each other, which no deployment can have.
    exported = DeploymentSchema(schema)()
    assert json.loads(json.dumps(exported)) == exported
    assert json_schema.fits(exported["inputs"], values) == accepted(schema, values), exported


class Size(InputSchema):
    height: int = InputField(512, ge=64, le=1024, multiple_of=8, description="In pixels")
    width: int | None = InputField(ge=64)


class Options(InputSchema):
    size: Size = Size()
    tags: list[str] = InputField(max_length=2)


def exported(*args: Any, **kwargs: Any) -> Any:
    with Pipeline() as builder:
        x = Variable(*args, **kwargs)
        builder.output(x)
    return builder.get_pipeline().json_schema()["inputs"]["properties"]["x"]


INT = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
ONE = INT | {"enum": [1]}


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((int, 3), {"ge": 1}, INT | {"minimum": 1, "default": 3}),
        ((float,), {"gt": 0, "le": 1}, {"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
        ((str,), {"description": "Why"}, {"type": "string", "description": "Why"}),
        ((str,), {"choices": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
        ((Literal["a", 1],), {}, {"anyOf": [{"type": "string", "enum": ["a"]}, ONE]}),
        ((int | None,), {}, {"anyOf": [INT, {"type": "null"}]}),
        ((str,), {"optional": True}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (
            (bytes, b"\xff"),
            {"max_length": 2},
            {
                "type": "string",
                "contentEncoding": "base64",
                "x-pipelined-kind": "bytes",
                "x-pipelined-max-length": 2,
                "default": base64.b64encode(b"\xff").decode(),
            },
        ),
        (
            (tuple[int, str], (1, "a")),
            {},
            {
                "type": "array",
                "x-pipelined-kind": "tuple",
                "prefixItems": [INT, {"type": "string"}],
                "items": False,
                "minItems": 2,
                "maxItems": 2,
                "default": [1, "a"],
            },
        ),
        ((dict[str, bool],), {}, {"type": "object", "additionalProperties": {"type": "boolean"}}),
        ((Any,), {}, {}),
        ((float, float("inf")), {"ge": float("-inf")}, {"type": "number"}),
    ],
)  # fmt: skip
def test_types_defaults_and_bounds(args: Any, kwargs: Any, expected: object) -> None:
    assert exported(*args, **kwargs) == expected


def test_objects_are_nested_and_keep_their_order() -> None:
    assert exported(Options) == {
        "title": "Options",
        "type": "object",
        "properties": {
            "size": {
                "title": "Size",
                "type": "object",
                "properties": {
                    "height": {
                        "type": "integer",
                        "minimum": 64,
                        "maximum": 1024,
                        "multipleOf": 8,
                        "description": "In pixels",
                        "default": 512,
                    },
                    "width": {"anyOf": [INT | {"minimum": 64}, {"type": "null"}]},
                },
                "required": [],
                "additionalProperties": False,
                "x-order": ["height", "width"],
                "default": {"height": 512},
            },
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        },
        "required": ["tags"],
        "additionalProperties": False,
        "x-order": ["size", "tags"],
    }


@pytest.mark.parametrize(
    ("type_", "kind", "fields"),
    [
        (np.ndarray, "numpy", {"dtype", "shape", "data"}),
        (torch.Tensor, "torch", {"dtype", "shape", "data"}),
        (Image.Image, "image", {"dtype", "shape", "data"}),
        (File, "file", {"name", "media_type", "data"}),
    ],
)
def test_what_json_has_no_value_for_is_an_annotated_object(
    type_: Any, kind: str, fields: set[str]
) -> None:
    schema = exported(type_)
    assert (schema["type"], schema["x-pipelined-kind"]) == ("object", kind)
    assert set(schema["properties"]) == fields
    encoded = base64.b64encode(b"\0\0\0").decode()
    value = {"dtype": "uint8", "shape": [1, 1, 3], "data": encoded}
    assert json_schema.fits(schema, value) == (kind != "file")
    assert json_schema.fits(schema, {"name": "a.txt", "data": encoded}) == (kind == "file")


def test_inputs_and_outputs_for_python() -> None:
    with Pipeline() as builder:
        steps = Variable(int | None, default=4, ge=1, title="Steps", description="How many")
        texts = Variable(list[str], max_length=3)
        size = Variable(Size)
        builder.output(texts, steps, size)
    graph = builder.get_pipeline()
    schema = DeploymentSchema(graph.schema())
    first, second, third = schema.inputs
    assert (first.name, first.title, first.description) == ("Steps", "Steps", "How many")
    assert (first.type, first.default, dict(first.constraints)) == ("int | None", 4, {"ge": 1})
    assert (first.required, first.has_default, first.stream) == (False, True, False)
    assert (second.type, second.required, second.default) == ("list[str]", True, None)
    assert dict(second.constraints) == {"max_length": 3}
    assert (third.name, third.type) == ("size", "Size")
    assert [each.name for each in schema.outputs] == ["texts", "Steps", "size"]
    assert [each["name"] for each in schema()["outputs"]] == ["texts", "Steps", "size"]
    assert schema()["inputs"]["x-order"] == ["Steps", "texts", "size"]
    assert repr(first) == "<Steps: int | None = 4, ge=1>"
    assert schema == DeploymentSchema(graph.schema())
    assert schema != DeploymentSchema(Schema())
    schema.wire().inputs[0].name = "other"
    assert schema.inputs[0].name == "Steps"


def test_a_kind_that_a_newer_daemon_knows_may_be_anything() -> None:
    newer = Schema(inputs=[Parameter(name="x", type=Type(kind=99))])  # type: ignore[arg-type]
    schema = DeploymentSchema(newer)
    assert schema.inputs[0].type == "unknown"
    assert schema()["inputs"]["properties"]["x"] == {"x-pipelined-kind": "unknown"}
