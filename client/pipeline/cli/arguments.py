"""``key=value`` of the command line as inputs of a run, guided by the deployment's schema.

A value is JSON where it parses as such and the type has use for it, and text otherwise.
``key=@path`` gives a file's content to an input that takes a file, an image, bytes or an array, and
a folder to one that takes a folder; ``key.field=value`` sets one field of an object. Unknown names
are passed on as they are: validation knows best how to refuse them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline import errors
from pipelined_api.v1.schema_pb2 import Parameter, Schema, Type

_ANY_TYPE = Type(kind=Type.KIND_ANY)
_NULL_TYPE = Type(kind=Type.KIND_NULL)
_FROM_FILE = (
    Type.KIND_FILE,
    Type.KIND_DIRECTORY,
    Type.KIND_IMAGE,
    Type.KIND_BYTES,
    Type.KIND_NUMPY,
)


def parse(schema: Schema, arguments: Sequence[str]) -> dict[str, object]:
    """Make named inputs of arguments.

    Raises:
        errors.InvalidInput: one is not ``key=value``, is given twice, or its file cannot be read.

    """
    inputs: dict[str, object] = {}
    seen: set[str] = set()
    # Whole values first, so that fields override them in whatever order they are written.
    for key, text in sorted(map(_split, arguments), key=lambda pair: pair[0].count(".")):
        if key in seen:
            raise errors.InvalidInput(f"{key} is given twice", field=key)
        seen.add(key)
        name, path = _address(schema.inputs, key)
        types = _types_of(schema.inputs, name)
        if not path:
            inputs[name] = _from_text(types, text, key)
        else:
            _set_field(inputs, types, name, path, text)
    return inputs


def _split(argument: str) -> tuple[str, str]:
    key, separator, text = argument.partition("=")
    if not separator or not key:
        raise errors.InvalidInput(f"{argument!r} is not of the form key=value", field=argument)
    return key, text


def _address(parameters: Iterable[Parameter], key: str) -> tuple[str, list[str]]:
    """Split a key into the name of a parameter, which may have dots itself, and a path in it."""
    names = {parameter.name for parameter in parameters}
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in names:
            return name, parts[length:]
    return parts[0], parts[1:]


def _types_of(parameters: Iterable[Parameter], name: str) -> list[Type]:
    for parameter in parameters:
        if parameter.name == name:
            return _alternatives(parameter.type) + ([_NULL_TYPE] if parameter.optional else [])
    return [_ANY_TYPE]


def _alternatives(type_: Type) -> list[Type]:
    if type_.kind != Type.KIND_UNION:
        return [type_]
    return [each for argument in type_.arguments for each in _alternatives(argument)]


def _set_field(
    inputs: dict[str, object], types: Sequence[Type], name: str, path: Sequence[str], text: str
) -> None:
    """Set a field some levels down, and make the objects on the way."""
    target, where = inputs, name
    for index, part in enumerate(path):
        inner = target.setdefault(name, {})
        if not isinstance(inner, dict):
            raise errors.InvalidInput(
                f"{where} is no object, it has no field {part!r}", field=where
            )
        objects = [type_ for type_ in types if type_.kind == Type.KIND_OBJECT]
        maps = [type_ for type_ in types if type_.kind == Type.KIND_MAP and type_.arguments]
        if objects:
            types = _types_of(objects[0].fields, part)
        else:
            types = _alternatives(maps[0].arguments[0]) if maps else [_ANY_TYPE]
        target, name, where = inner, part, f"{where}.{part}"
        if index == len(path) - 1:
            target[name] = _from_text(types, text, where)


def _from_text(types: Sequence[Type], text: str, field: str) -> object:
    kinds = {type_.kind for type_ in types}
    if text.startswith("@") and (kinds & set(_FROM_FILE)):
        return _from_file(types, Path(text[1:]).expanduser(), field)
    if kinds == {Type.KIND_BYTES}:
        return text.encode()
    if kinds == {Type.KIND_STRING}:
        return text
    try:
        parsed: object = json.loads(text)
    except (ValueError, RecursionError):
        return text
    fitting = [type_ for type_ in types if _takes(type_, parsed)]
    if fitting:
        return _from_json(fitting[0], parsed, field)
    # Nothing fits. Where text is welcome it is text; else validation says what is wrong with it.
    return text if Type.KIND_STRING in kinds else parsed


def _from_json(type_: Type, parsed: object, field: str) -> object:
    """Make what JSON cannot hold: tuples, bytes, arrays, and files from ``"@path"``."""
    if isinstance(parsed, str):
        if parsed.startswith("@") and type_.kind in _FROM_FILE:
            return _from_file([type_], Path(parsed[1:]).expanduser(), field)
        return parsed.encode() if type_.kind == Type.KIND_BYTES else parsed
    if type_.kind == Type.KIND_OBJECT and isinstance(parsed, dict):
        return {
            key: _nested(_types_of(type_.fields, key), value, f"{field}.{key}")
            for key, value in parsed.items()
        }
    if type_.kind == Type.KIND_MAP and isinstance(parsed, dict) and type_.arguments:
        types = _alternatives(type_.arguments[0])
        return {key: _nested(types, value, f"{field}.{key}") for key, value in parsed.items()}
    if type_.kind in (Type.KIND_LIST, Type.KIND_TUPLE) and isinstance(parsed, list):
        return _sequence(type_, parsed, field)
    if type_.kind == Type.KIND_NUMPY and isinstance(parsed, (list, int, float)):
        return _array(parsed, field)
    return parsed


def _sequence(type_: Type, parsed: list[object], field: str) -> object:
    items = []
    for index, value in enumerate(parsed):
        # A list has one type for all of its items, a tuple one for each.
        position = index if type_.kind == Type.KIND_TUPLE else 0
        known = position < len(type_.arguments)
        types = _alternatives(type_.arguments[position]) if known else [_ANY_TYPE]
        items.append(_nested(types, value, f"{field}[{index}]"))
    return tuple(items) if type_.kind == Type.KIND_TUPLE else items


def _nested(types: Sequence[Type], parsed: object, field: str) -> object:
    fitting = next((type_ for type_ in types if _takes(type_, parsed)), None)
    return parsed if fitting is None else _from_json(fitting, parsed, field)


_JSON_KINDS: dict[type, tuple[Type.Kind.ValueType, ...]] = {
    type(None): (Type.KIND_NULL,),
    bool: (Type.KIND_BOOL,),
    int: (Type.KIND_INT, Type.KIND_FLOAT, Type.KIND_NUMPY),
    float: (Type.KIND_FLOAT, Type.KIND_NUMPY),
    list: (Type.KIND_LIST, Type.KIND_TUPLE, Type.KIND_NUMPY),
    dict: (Type.KIND_OBJECT, Type.KIND_MAP),
}


def _takes(type_: Type, parsed: object) -> bool:
    """Whether the type may have use for a JSON value of this sort."""
    if type_.kind == Type.KIND_ANY:
        return True
    if isinstance(parsed, str):
        wanted = (*_FROM_FILE, Type.KIND_STRING) if parsed.startswith("@") else (Type.KIND_BYTES,)
        return type_.kind in wanted
    return type_.kind in _JSON_KINDS[type(parsed)]


def _array(parsed: object, field: str) -> object:
    try:
        import numpy

        return numpy.asarray(parsed)
    except (ImportError, ValueError) as error:
        raise errors.InvalidInput(f"{field}: no array: {error}", field=field) from None


def _from_file(types: Sequence[Type], path: Path, field: str) -> object:
    kinds = [type_.kind for type_ in types if type_.kind in _FROM_FILE]
    kind = kinds[0]
    if Type.KIND_DIRECTORY in kinds and (path.is_dir() or len(kinds) == 1):
        kind = Type.KIND_DIRECTORY
    try:
        if kind == Type.KIND_BYTES:
            return path.read_bytes()
        if kind == Type.KIND_IMAGE:
            import PIL.Image

            with PIL.Image.open(path) as image:
                image.load()
                return image
        if kind == Type.KIND_NUMPY:
            import numpy

            return numpy.load(path, allow_pickle=False)
        if kind == Type.KIND_DIRECTORY:
            from pipeline.objects import Directory

            return Directory(path)
        path.open("rb").close()
    except (OSError, ValueError, ImportError) as error:
        raise errors.InvalidInput(
            f"{field}: {str(path)!r} cannot be read: {error}", field=field
        ) from None
    from pipeline.objects import File

    return File(path=path)
