from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pydantic
import pytest

from pipeline import Graph, InputField, InputSchema, Pipeline, Variable, pipe
from pipeline.errors import GraphError, InvalidInput
from pipeline.objects.graph import ABSENT


class Size(InputSchema):
    height: int = InputField(512, ge=64, le=1024, multiple_of=8)
    width: int | None = InputField(ge=64)


class Options(InputSchema):
    size: Size = Size()
    steps: int = InputField(default=50, ge=1)
    seed: int = InputField(optional=True)
    mode: str = InputField("fast", choices=["fast", "good"], description="How")
    tags: list[str] = InputField(default_factory=list, max_length=2)
    guidance: float | None = None
    mask: np.ndarray | None = None


def options_graph() -> Graph:
    @pipe
    def show(options: Options) -> dict[str, Any]:
        assert type(options) is Options
        assert type(options.size) is Size
        return options.to_dict()

    with Pipeline() as builder:
        kwargs = Variable(Options)
        builder.output(show(kwargs))
    return builder.get_pipeline()


def test_fields_are_optional_by_annotation_by_default_or_by_saying_so() -> None:
    options = Options()
    assert [options.seed, options.guidance, options.size.width] == [None, None, None]
    assert (options.steps, options.tags, options.size.height) == (50, [], 512)


def test_to_dict_leaves_out_what_was_left_out_and_has_no_default() -> None:
    assert Options().to_dict() == {
        "size": {"height": 512},
        "steps": 50,
        "mode": "fast",
        "tags": [],
    }
    given = Options(seed=None, guidance=2).to_dict()  # type: ignore[arg-type]  # None is allowed
    assert (given["seed"], given["guidance"]) == (None, 2.0)


@pytest.mark.parametrize(
    ("fields", "path", "bound"),
    [
        ({"steps": 0}, "steps", "ge=1"),
        ({"steps": True}, "steps", None),
        ({"steps": "1"}, "steps", None),
        ({"steps": None}, "steps", None),
        ({"seed": "a"}, "seed", None),
        ({"mode": "slow"}, "mode", "choices=['fast', 'good']"),
        ({"tags": ["a", "b", "c"]}, "tags", "max_length=2"),
        ({"tags": [1]}, "tags[0]", None),
        ({"size": {"height": 65}}, "size.height", "multiple_of=8"),
        ({"size": {"width": 1}}, "size.width", "ge=64"),
        ({"size": {"depth": 1}}, "size.depth", None),
        ({"unknown": 1}, "unknown", None),
        ({"mask": [1]}, "mask", None),
    ],
)
def test_the_class_and_the_graph_refuse_the_same(
    fields: dict[str, Any], path: str, bound: str | None
) -> None:
    with pytest.raises(InvalidInput) as by_class:
        Options(**fields)
    with pytest.raises(InvalidInput) as by_graph:
        options_graph().run(fields)
    assert (by_class.value.field, by_class.value.bound) == (f"Options.{path}", bound)
    assert (by_graph.value.field, by_graph.value.bound) == (f"kwargs.{path}", bound)
    assert by_class.value.message.removeprefix("Options") == (
        by_graph.value.message.removeprefix("kwargs")
    )
    assert isinstance(by_class.value.__cause__, pydantic.ValidationError)


def test_an_instance_and_a_dict_give_the_same() -> None:
    fields = {"size": {"height": 64}, "seed": 3, "tags": ["a"]}
    graph = options_graph()
    expected = {"size": {"height": 64}, "seed": 3, "tags": ["a"], "steps": 50, "mode": "fast"}
    assert graph.run(fields) == graph.run(Options(**fields)) == [expected]  # type: ignore[arg-type]


def test_assignments_keep_the_constraints() -> None:
    options = Options(seed=3)
    with pytest.raises(
        InvalidInput, match=r"^Options\.steps: .*greater than.* 1, got 0$"
    ) as caught:
        options.steps = 0
    assert (caught.value.field, caught.value.bound) == ("Options.steps", "ge=1")
    options.steps = 2
    assert options == Options(seed=3, steps=2)


def test_what_pydantic_validates_raises_its_own_error_for_all_that_is_wrong() -> None:
    wrong = {"size": {"height": 65, "width": 1}, "steps": 0}
    places = [("size", "height"), ("size", "width"), ("steps",)]
    with pytest.raises(pydantic.ValidationError) as caught:
        Options.model_validate(wrong)
    assert [each["loc"] for each in caught.value.errors()] == places

    class Outer(pydantic.BaseModel):
        options: Options

    with pytest.raises(pydantic.ValidationError) as caught:
        Outer(options=wrong)
    assert [each["loc"] for each in caught.value.errors()] == [("options", *at) for at in places]


def test_a_validator_may_make_instances_of_other_classes() -> None:
    class Doubled(InputSchema):
        height: int

        @pydantic.field_validator("height")
        @classmethod
        def fits_twice(cls, height: int) -> int:
            return Size(height=2 * height).height // 2

    assert Doubled(height=64).height == 64
    with pytest.raises(InvalidInput, match=r"Doubled\.height: Size\.height: .*1024") as caught:
        Doubled(height=1024)
    assert caught.value.field == "Doubled.height"


def test_a_class_of_types_that_do_not_cross_the_wire_is_checked_too() -> None:
    class Local(InputSchema):
        names: set[int]

    assert Local(names={1}).names == {1}
    with pytest.raises(InvalidInput) as caught:
        Local(names=1)  # type: ignore[arg-type]  # that is the test
    assert caught.value.field == "Local.names"


def test_validators_of_the_users_own_are_invalid_input_too() -> None:
    class Even(InputSchema):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def must_be_even(cls, n: int) -> int:
            if n % 2:
                raise ValueError("odd")
            return n

    with Pipeline() as builder:
        even = Variable(list[Even])
        builder.output(even)
    graph = builder.get_pipeline()
    assert graph.run([{"n": 2}]) == [[{"n": 2}]]
    with pytest.raises(InvalidInput, match="odd") as caught:
        graph.run([{"n": 2}, {"n": 3}])
    assert caught.value.field == "even[1].n"
    with pytest.raises(InvalidInput, match="odd") as caught:
        Even(n=3)
    assert caught.value.field == "Even.n"


def test_subclasses_inherit_fields() -> None:
    class More(Size):
        depth: int = 1

    assert More().to_dict() == {"height": 512, "depth": 1}
    with pytest.raises(InvalidInput, match=r"More\.height"):
        More(height=1)


def test_an_output_is_a_dict_as_it_is_where_it_has_crossed_the_wire() -> None:
    @pipe
    def made(n: int) -> Options:
        return Options(steps=n)

    @pipe
    def streamed(n: int) -> Iterator[dict[str, Size]]:
        yield {"size": Size(width=64 * n)}

    @pipe
    def height(options: Options) -> int:
        return options.size.height

    with Pipeline() as builder:
        n = Variable(int)
        options = made(n)
        builder.output(options, streamed(n), height(options))
    graph = builder.get_pipeline()
    expected = {"size": {"height": 512}, "steps": 2, "mode": "fast", "tags": []}
    assert graph.run(2) == [expected, [{"size": {"height": 512, "width": 128}}], 512]
    with graph.stream(2) as rows:
        assert next(rows) == [expected, ABSENT, 512]
        assert next(rows)[1] == {"size": {"height": 512, "width": 128}}


@pytest.mark.parametrize(
    ("annotation", "field", "message"),
    [
        (str, InputField(ge=1), "ge=1 does not apply"),
        (int, InputField(default=0, ge=1), "greater than or equal to 1"),
        (int, InputField("a"), "got str"),
        (set[int], InputField(), "cannot cross the wire"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused_where_it_is_used(
    annotation: Any, field: Any, message: str
) -> None:
    try:
        schema = pydantic.create_model("Schema", __base__=InputSchema, field=(annotation, field))
    except TypeError:
        # pydantic refuses some of them itself, where they are written.
        return
    with Pipeline(), pytest.raises(GraphError, match=message):
        Variable(schema)
