"""What a reference stands for, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelined.core.errors import InvalidRequest, PointerNotFound, VersionNotFound
from pipelined.core.references import NAME, Pointer, Reference, parse, parse_pointer, resolve

POINTERS = {
    tag: Pointer("x", tag, version, locked=False, created_at=0.0, updated_at=0.0)
    for tag, version in {"prod": 2, "v": 3, "vNext": 3, "Latest": 2, "v1.2": 2}.items()
}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("x", 12),
        ("x:latest", 12),
        ("x:v3", 3),
        ("x:v12", 12),
        ("x:v03", 3),
        ("x:prod", 2),
        ("x:Latest", 2),
        ("x:v", 3),
        ("x:vNext", 3),
        ("x:v1.2", 2),
    ],
)
def test_what_references_stand_for(text: str, version: int) -> None:
    reference = parse(text, "name")
    assert reference.name == "x"
    assert resolve(reference, {2, 3, 12}, POINTERS) == version


def test_a_version_that_is_missing_is_named_with_what_there_is() -> None:
    with pytest.raises(VersionNotFound, match=r"'x' has no version 4; it has v12, v3, v2$"):
        resolve(parse("x:v4", "name"), {2, 3, 12}, {})
    with pytest.raises(VersionNotFound, match="it has v30, v29, .*, v23 and 22 more$"):
        resolve(parse("x:v0", "name"), range(1, 31), {})


def test_a_pointer_that_is_missing_is_named_with_what_there_is() -> None:
    with pytest.raises(PointerNotFound, match="'x' has no pointer 'p'; it has none$"):
        resolve(parse("x:p", "name"), {1}, {})
    with pytest.raises(PointerNotFound, match="it has Latest, prod, v, v1.2, vNext$"):
        resolve(parse("x:p", "name"), {1}, POINTERS)


@pytest.mark.parametrize(
    "text", ["x:", ":", "x:v1:v2", "x: v1", "x:-", "x:ü", "x:" + "p" * 129, "x:v1234567890"]
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(text, "some_field")
    assert caught.value.field == "some_field"
    assert text[:100] in str(caught.value)


@pytest.mark.parametrize("text", ["x", "x:latest", "x:v1", "x:v01", ""])
def test_what_cannot_be_a_pointer(text: str) -> None:
    with pytest.raises(InvalidRequest, match="pointer: "):
        parse_pointer(text, "pointer")


@given(name=st.from_regex(NAME, fullmatch=True), tag=st.from_regex(NAME, fullmatch=True))
def test_every_pointer_that_may_be_made_is_found_again(name: str, tag: str) -> None:
    text = f"{name}:{tag}"
    assert parse(name, "name") == Reference(name)
    try:
        reference = parse_pointer(text, "pointer")
    except InvalidRequest:
        assert tag == "latest" or (tag[0] == "v" and tag[1:].isdigit())
        return
    pointer = Pointer(name, tag, 7, locked=False, created_at=0.0, updated_at=0.0)
    assert pointer.reference == text
    assert resolve(reference, {7, 8}, {tag: pointer}) == 7
