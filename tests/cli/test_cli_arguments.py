"""``key=value`` by the schema: JSON where the type wants it, text otherwise."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import errors
from pipeline.cli.arguments import parse
from pipeline.objects import File
from pipelined_api.v1.schema_pb2 import Parameter, Schema, Type

ANY, NULL, BOOL = (Type(kind=kind) for kind in (Type.KIND_ANY, Type.KIND_NULL, Type.KIND_BOOL))
INT, FLOAT = Type(kind=Type.KIND_INT), Type(kind=Type.KIND_FLOAT)
STRING, BYTES = Type(kind=Type.KIND_STRING), Type(kind=Type.KIND_BYTES)
NUMPY, IMAGE, FILE = (
    Type(kind=kind) for kind in (Type.KIND_NUMPY, Type.KIND_IMAGE, Type.KIND_FILE)
)


def union(*types: Type) -> Type:
    return Type(kind=Type.KIND_UNION, arguments=types)


def list_of(*types: Type) -> Type:
    return Type(kind=Type.KIND_LIST, arguments=types)


def tuple_of(*types: Type) -> Type:
    return Type(kind=Type.KIND_TUPLE, arguments=types)


def map_of(*types: Type) -> Type:
    return Type(kind=Type.KIND_MAP, arguments=types)


def object_of(**fields: Type) -> Type:
    parameters = [Parameter(name=name, type=type_) for name, type_ in fields.items()]
    return Type(kind=Type.KIND_OBJECT, name="Options", fields=parameters)


def one(type_: Type, text: str, *, optional: bool = False) -> object:
    schema = Schema(inputs=[Parameter(name="x", type=type_, optional=optional)])
    return parse(schema, [f"x={text}"])["x"]


@pytest.mark.parametrize(
    ("type_", "text", "expected"),
    [
        (INT, "64", 64),
        (INT, "-3", -3),
        # Text that is no JSON of the type is left for validation to refuse.
        (INT, "many", "many"),
        (INT, "6.5", 6.5),
        (FLOAT, "0.5", 0.5),
        (FLOAT, "7", 7),
        (BOOL, "true", True),
        (BOOL, "yes", "yes"),
        (NULL, "null", None),
        (STRING, "hello", "hello"),
        (STRING, "64", "64"),
        (STRING, "true", "true"),
        (STRING, '"quoted"', '"quoted"'),
        (STRING, "a=b", "a=b"),
        (STRING, "", ""),
        (STRING, "@user", "@user"),
        (BYTES, "hello", b"hello"),
        (ANY, "[1, 2]", [1, 2]),
        (ANY, "plain", "plain"),
        (list_of(INT), "[1, 2]", [1, 2]),
        (list_of(STRING), '["a", "@b"]', ["a", "@b"]),
        (list_of(), "[1, null]", [1, None]),
        (tuple_of(INT, STRING), '[1, "a"]', (1, "a")),
        (list_of(tuple_of(INT, INT)), "[[1, 2]]", [(1, 2)]),
        (map_of(INT), '{"a": 1}', {"a": 1}),
        (map_of(BYTES), '{"a": "b"}', {"a": b"b"}),
        (object_of(height=INT), '{"height": 64}', {"height": 64}),
        (union(INT, STRING), "64", 64),
        (union(INT, STRING), "sixty", "sixty"),
        (union(INT, STRING), "[1]", "[1]"),
        (union(STRING, NULL), "null", None),
        (union(STRING, NULL), "nothing", "nothing"),
        (union(list_of(INT), STRING), "[1]", [1]),
        (INT, "[" * 100_000, "[" * 100_000),
    ],
)
def test_values(type_: Type, text: str, expected: object) -> None:
    value = one(type_, text)
    assert value == expected
    assert type(value) is type(expected)


def test_null_where_an_input_is_optional() -> None:
    assert one(INT, "null", optional=True) is None
    assert one(STRING, "null", optional=True) is None
    assert one(STRING, "64", optional=True) == "64"


def test_arrays(tmp_path: Path) -> None:
    np.testing.assert_array_equal(one(NUMPY, "[[1, 2], [3, 4]]"), np.array([[1, 2], [3, 4]]))
    np.save(tmp_path / "a.npy", np.arange(3))
    np.testing.assert_array_equal(one(NUMPY, f"@{tmp_path}/a.npy"), np.arange(3))
    with pytest.raises(errors.InvalidInput, match="x: no array"):
        one(NUMPY, "[[1], [2, 3]]")


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(errors.InvalidInput, match=r"a\.npy"):
        one(NUMPY, f"@{tmp_path}/a.npy")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("content")
    nested = list_of(object_of(file=FILE))
    for value in (
        one(FILE, f"@{path}"),
        one(union(FILE, NULL), f"@{path}"),
        one(list_of(FILE), f'["@{path}"]')[0],  # type: ignore[index]
        one(nested, f'[{{"file": "@{path}"}}]')[0]["file"],  # type: ignore[index]
    ):
        assert isinstance(value, File)
        with value.open() as stream:
            assert stream.read() == b"content"
    assert one(BYTES, f"@{path}") == b"content"


def test_an_image(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (4, 2), (255, 0, 0)).save(tmp_path / "a.png")
    image = one(IMAGE, f"@{tmp_path}/a.png")
    assert isinstance(image, PIL.Image.Image)
    assert image.size == (4, 2)


@pytest.mark.parametrize("type_", [FILE, IMAGE, BYTES, NUMPY])
def test_a_file_that_is_not_there(tmp_path: Path, type_: Type) -> None:
    with pytest.raises(errors.InvalidInput, match="cannot be read") as caught:
        one(type_, f"@{tmp_path}/missing")
    assert caught.value.field == "x"


OPTIONS = Schema(
    inputs=[
        Parameter(name="prompt", type=STRING),
        Parameter(
            name="kwargs",
            optional=True,
            type=union(object_of(height=INT, name=STRING, inner=object_of(deep=FLOAT)), NULL),
        ),
        Parameter(name="guidance.scale", type=FLOAT),
        Parameter(name="labels", type=map_of(STRING)),
    ]
)


def test_fields_of_objects() -> None:
    inputs = parse(
        OPTIONS, ["kwargs.height=64", "kwargs.name=12", "kwargs.inner.deep=0.5", "labels.a=1"]
    )
    assert inputs == {
        "kwargs": {"height": 64, "name": "12", "inner": {"deep": 0.5}},
        "labels": {"a": "1"},
    }


def test_fields_override_the_whole_in_any_order() -> None:
    expected = {"kwargs": {"height": 64, "name": "a"}}
    whole = 'kwargs={"height": 8, "name": "a"}'
    assert parse(OPTIONS, [whole, "kwargs.height=64"]) == expected
    assert parse(OPTIONS, ["kwargs.height=64", whole]) == expected


def test_a_name_may_have_dots() -> None:
    assert parse(OPTIONS, ["guidance.scale=7.5"]) == {"guidance.scale": 7.5}


def test_unknown_names_are_left_to_validation() -> None:
    assert parse(OPTIONS, ["promt=x", "kwargs.heigth=1"]) == {
        "promt": "x",
        "kwargs": {"heigth": 1},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prompt"], "not of the form key=value"),
        (["=x"], "not of the form key=value"),
        (["prompt=a", "prompt=b"], "prompt is given twice"),
        (["kwargs.height=1", "kwargs.height=2"], "kwargs.height is given twice"),
        (["prompt=a", "prompt.x=b"], "prompt is no object"),
    ],
)
def test_what_cannot_be_read(arguments: list[str], message: str) -> None:
    with pytest.raises(errors.InvalidInput, match=message):
        parse(OPTIONS, arguments)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SCALARS = st.sampled_from([ANY, NULL, BOOL, INT, FLOAT, STRING, BYTES, NUMPY, IMAGE, FILE])
TYPES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.builds(list_of, inner),
        st.builds(map_of, inner),
        st.builds(tuple_of, inner, inner),
        st.builds(union, inner, inner),
        st.builds(lambda a, b: object_of(a=a, b=b), inner, inner),
    ),
    max_leaves=6,
)


@given(JSON)
def test_any_takes_all_of_json(value: object) -> None:
    assert one(ANY, json.dumps(value)) == value


@given(st.text().filter(lambda text: not text.startswith("@")))
def test_text_stays_as_it_is(text: str) -> None:
    assert one(STRING, text) == text
    assert one(BYTES, text.encode(errors="ignore").decode()) == text.encode(errors="ignore")


@given(
    TYPES,
    st.booleans(),
    st.sampled_from(["", ".a", ".a.b", ".0"]),
    st.text() | JSON.map(json.dumps) | st.just("@/nowhere/at/all"),
)
def test_whatever_is_typed_is_read_or_refused(
    type_: Type, optional: bool, path: str, text: str
) -> None:
    schema = Schema(inputs=[Parameter(name="x", type=type_, optional=optional)])
    with contextlib.suppress(errors.InvalidInput):
        assert set(parse(schema, [f"x{path}={text}"])) == {"x"}
