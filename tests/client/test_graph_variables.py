# ruff: noqa: UP006, UP007, UP035, UP045  # users write both forms
from __future__ import annotations

from typing import Annotated, Any, Dict, List, Literal, Optional, Tuple, Union

import annotated_types
import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import File, Graph, InputField, InputSchema, Pipeline, Variable, pipe
from pipeline._arguments import without_schemas
from pipeline.errors import GraphError, InvalidInput


@pipe
def same(value):  # type: ignore[no-untyped-def]  # takes anything
    return value


def graph_of(*args: Any, **kwargs: Any) -> Graph:
    """A graph that returns its one input, named x."""
    with Pipeline() as builder:
        x = Variable(*args, **kwargs)
        builder.output(same(x))  # type: ignore[no-untyped-call]
    return builder.get_pipeline()


class Point(InputSchema):
    x: int
    y: int = 0


IMAGE = Image.new("RGB", (2, 3))
BIG = 2**63

ACCEPTED: list[tuple[Any, dict[str, Any], Any]] = [
    (bool, {}, True),
    (int, {}, BIG - 1),
    (int, {"ge": 1, "le": 3}, 3),
    (int, {"gt": 1, "lt": 3}, 2),
    (int, {"multiple_of": 8}, 64),
    (int, {"choices": [1, 2]}, 2),
    (float, {"ge": 1}, 1.5),
    (float, {}, float("inf")),
    (str, {"min_length": 2, "max_length": 3}, "äöü"),
    (str, {"pattern": "b+"}, "abba"),
    (str, {"choices": ["a", "b"]}, "b"),
    (bytes, {"max_length": 2}, b"\0\xff"),
    (list, {}, [1, "a", None]),
    (List[str], {"min_length": 1}, ["a"]),
    (list[list[int]], {}, [[1], []]),
    (Dict[str, float], {}, {"a": 1.5}),
    (dict, {"max_length": 1}, {"a": [1]}),
    (Tuple[int, str], {}, (1, "a")),
    (tuple[int, ...], {"min_length": 1}, (1, 2, 3)),
    (tuple, {}, (1, "a")),
    (Optional[int], {"ge": 1}, None),
    (Optional[int], {"ge": 1}, 1),
    (Union[int, str], {}, "a"),
    (int | list[int], {"ge": 2}, [1]),
    (Literal["a", 1, None], {}, 1),
    (Literal["a", 1, None], {}, None),
    (Annotated[int, annotated_types.Ge(3)], {}, 3),
    (Any, {}, {"a": (1, [None])}),
    (object, {}, "x"),
    (Point, {}, Point(x=1)),
    (list[Point], {}, [Point(x=1), Point(x=2, y=3)]),
    (dict[str, Optional[Point]], {}, {"a": Point(x=1), "b": None}),
    (tuple[Point, int], {}, (Point(x=1), 1)),
    (Union[Point, str], {}, Point(x=3)),
    (Image.Image, {}, IMAGE),
    (File, {}, File.from_bytes(b"x", name="a.txt")),
]


@pytest.mark.parametrize(("type_", "constraints", "value"), ACCEPTED)
def test_what_fits_arrives_as_it_is(type_: Any, constraints: dict[str, Any], value: Any) -> None:
    (result,) = graph_of(type_, **constraints).run(value)
    # Of InputSchema classes outputs have what crosses the wire.
    expected = without_schemas(value)
    assert result == expected
    assert type(result) is type(expected)


REFUSED: list[tuple[Any, dict[str, Any], Any, str, str | None]] = [
    (bool, {}, 1, "x", None),
    (int, {}, True, "x", None),
    (int, {}, 1.0, "x", None),
    (int, {}, "1", "x", None),
    (int, {}, None, "x", None),
    (int, {}, BIG, "x", f"le={BIG - 1}"),
    (int, {}, -BIG - 1, "x", f"ge={-BIG}"),
    (int, {"ge": 1}, 0, "x", "ge=1"),
    (int, {"gt": 1}, 1, "x", "gt=1"),
    (int, {"le": 1}, 2, "x", "le=1"),
    (int, {"lt": 1}, 1, "x", "lt=1"),
    (int, {"multiple_of": 8}, 63, "x", "multiple_of=8"),
    (int, {"choices": [1, 2]}, 3, "x", "choices=[1, 2]"),
    (int, {"choices": [1, 2]}, True, "x", None),
    (float, {}, False, "x", None),
    (float, {"ge": 0}, float("nan"), "x", None),
    (str, {}, b"a", "x", None),
    (str, {"min_length": 2}, "a", "x", "min_length=2"),
    (str, {"pattern": "^b"}, "ab", "x", "pattern=^b"),
    (bytes, {}, "a", "x", None),
    (list[str], {}, ["a", 1], "x[1]", None),
    (list[str], {}, ("a",), "x", None),
    (list[str], {"max_length": 1}, ["a", "b"], "x", "max_length=1"),
    (dict[str, int], {}, {"a": "b"}, "x.a", None),
    (dict[str, int], {}, {1: 1}, "x", None),
    (tuple[int, str], {}, (1,), "x[1]", None),
    (tuple[int, str], {}, (1, 2), "x[1]", None),
    (tuple[int, ...], {}, (1, "a"), "x[1]", None),
    (Optional[int], {"ge": 1}, 0, "x", "ge=1"),
    (Union[int, str], {}, 1.5, "x", None),
    (int | list[int], {"ge": 2}, 1, "x", "ge=2"),
    (int | list[int], {}, ["a"], "x[0]", None),
    (Literal["a", "b"], {}, "c", "x", "choices=['a', 'b']"),
    (Annotated[int, annotated_types.Ge(3)], {}, 2, "x", "ge=3"),
    (Point, {}, {}, "x.x", None),
    (Point, {}, {"x": 1, "z": 2}, "x.z", None),
    (list[Point], {}, [{"x": 1}, {"x": "a"}], "x[1].x", None),
    (Image.Image, {}, "x", "x", None),
    (File, {}, "/etc/passwd", "x", None),
    (np.ndarray, {}, [1, 2], "x", None),
    (torch.Tensor, {}, 1.0, "x", None),
]


@pytest.mark.parametrize(("type_", "constraints", "value", "field", "bound"), REFUSED)
def test_what_does_not_fit_names_field_and_bound(
    type_: Any, constraints: dict[str, Any], value: Any, field: str, bound: str | None
) -> None:
    with pytest.raises(InvalidInput) as caught:
        graph_of(type_, **constraints).run(value)
    assert (caught.value.field, caught.value.bound) == (field, bound)
    assert str(caught.value).startswith(f"{field}: ")


def test_an_int_becomes_a_float_and_stays_an_int_in_a_union() -> None:
    assert repr(graph_of(float).run(2)) == "[2.0]"
    assert repr(graph_of(float | int).run(2)) == "[2]"
    assert repr(graph_of(list[float]).run([1])) == "[[1.0]]"


def test_arrays_arrive_and_plain_ones_are_converted() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert graph_of(np.ndarray).run(array)[0] is array
    tensor = torch.ones(2)
    assert graph_of(torch.Tensor).run(tensor)[0] is tensor
    # As from a sender without torch or PIL.
    assert torch.equal(graph_of(torch.Tensor).run(array)[0], torch.from_numpy(array))
    image = graph_of(Image.Image).run(array)[0]
    assert (image.mode, image.size) == ("L", (3, 2))


def test_a_list_is_accepted_for_a_tuple_as_other_languages_have_no_tuples() -> None:
    assert graph_of(tuple[int, str]).run([1, "a"]) == [(1, "a")]


def test_a_dict_becomes_the_schema_that_is_declared() -> None:
    @pipe
    def told(value):  # type: ignore[no-untyped-def]  # takes anything
        return repr(value)

    for type_ in (Point, Optional[Point], list[Point]):
        given = [{"x": 1}] if type_ == list[Point] else {"x": 1}
        with Pipeline() as builder:
            builder.output(told(Variable(type_)))  # type: ignore[no-untyped-call]
        (text,) = builder.get_pipeline().run(given)
        assert text.strip("[]") == "Point(x=1, y=0)"


def test_defaults_are_applied_and_can_be_overridden() -> None:
    graph = graph_of(list[int], default=[1, 2])
    first = graph.run()[0]
    first.append(3)
    assert graph.run() == [[1, 2]]
    assert graph.run(x=[]) == [[]]
    assert graph_of(Point, default=Point(x=4)).run() == [{"x": 4, "y": 0}]
    assert graph_of(str, "positional").run() == ["positional"]


def test_inputs_can_be_optional() -> None:
    assert graph_of(Optional[int]).run() == [None]
    assert graph_of(int, default=None).run() == [None]
    assert graph_of(int, optional=True, ge=1).run() == [None]
    assert graph_of(int, optional=True, ge=1).run(x=None) == [None]


def test_inputs_are_bound_like_arguments() -> None:
    with Pipeline() as builder:
        a = Variable(int)
        self = Variable(int)
        builder.output(a, self)
    graph = builder.get_pipeline()
    assert graph.run(1, 2) == graph.run(1, self=2) == graph.run(self=2, a=1) == [1, 2]
    for args, kwargs, field, message in [
        ((1,), {}, "self", "missing input"),
        ((1, 2, 3), {}, "inputs[2]", "takes 2 inputs, 3 were given"),
        ((1, 2), {"a": 1}, "a", "given both by position and by name"),
        ((1,), {"sel": 1}, "sel", "no input of that name .*did you mean 'self'"),
    ]:
        with pytest.raises(InvalidInput, match=message) as caught:
            graph.run(*args, **kwargs)
        assert caught.value.field == field


class _Unknown:
    pass


@pytest.mark.parametrize(
    ("type_", "constraints", "message"),
    [
        (_Unknown, {}, "_Unknown cannot cross the wire"),
        (set[int], {}, "cannot cross the wire"),
        (dict[int, str], {}, "keys have to be str"),
        ("int", {}, "no type that can cross the wire"),
        (str, {"ge": 1}, "ge=1 does not apply"),
        (int, {"min_length": 1}, "min_length=1 does not apply"),
        (int, {"ge": 0.5}, "no bound for an int"),
        (int, {"ge": True}, "is no number"),
        (str, {"max_length": -1}, "is no length"),
        (str, {"pattern": "("}, "make no sense"),
        (int, {"choices": []}, "no list of values"),
        (int, {"choices": ["a"]}, "'a' does not fit"),
        (int, {"default": "a"}, "default: .*got str"),
        (int, {"default": 0, "ge": 1}, "default: .*greater than or equal to 1"),
        (Point, {"default": {"y": 1}}, "default.x: missing field"),
        (tuple[int, int], {"min_length": 3}, "does not apply"),
    ],
)
def test_a_variable_that_makes_no_sense_is_refused_where_it_stands(
    type_: Any, constraints: dict[str, Any], message: str
) -> None:
    with pytest.raises(GraphError, match=rf"test_graph_variables.py:\d+: Variable.*{message}"):
        graph_of(type_, **constraints)


def test_the_schema_describes_inputs_and_outputs() -> None:
    with Pipeline() as builder:
        steps = Variable(int, default=4, ge=1, title="Steps", description="How many")
        builder.output(steps)
    schema = builder.get_pipeline().schema()
    (parameter,) = schema.inputs
    assert (parameter.name, parameter.title, parameter.description) == (
        "Steps",
        "Steps",
        "How many",
    )
    assert parameter.default_value.int_value == 4
    assert parameter.type.constraints.ge.int_value == 1
    assert not schema.outputs[0].HasField("default_value")


def test_a_schema_within_itself_is_refused() -> None:
    with pytest.raises(GraphError, match="contains itself"):
        graph_of(Tree)


class Tree(InputSchema):
    children: list[Tree] = InputField(default_factory=list)


@pytest.mark.parametrize(
    ("annotation", "constraints", "value", "text"),
    [
        (int, {"choices": [1, 2]}, 3, "Input should be one of [1, 2], got 3"),
        (str, {"choices": ["a", "b"]}, "c", "Input should be one of ['a', 'b'], got 'c'"),
        (str, {"choices": ["a"]}, "b" * 99, f"Input should be one of ['a'], got '{'b' * 60}…'"),
        (str, {"max_length": 2}, "three", "String should have at most 2 characters, not 5"),
        (str, {"min_length": 2}, "", "String should have at least 2 characters, not 0"),
        (bytes, {"max_length": 2}, b"three", "Data should have at most 2 bytes, not 5"),
        (
            list[int],
            {"max_length": 1},
            [1, 2],
            "List should have at most 1 item after validation, not 2",
        ),
    ],
)
def test_errors_of_bounds_say_what_was_given(
    annotation: Any, constraints: dict[str, Any], value: object, text: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        graph_of(annotation, **constraints).run(value)
    assert str(raised.value) == f"x: {text}"
