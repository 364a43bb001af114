"""What the user's functions and classes consist of, independent of where they were written."""

from __future__ import annotations

import dis
import types
from collections.abc import Container, Iterator
from typing import Any

import pydantic

from pipeline._graph.packages import is_installed

__all__ = ["class_contents", "code_parts", "referenced_globals"]

# What Python, abc and copyreg keep in a class for themselves, or where it was written.
_BOOKKEEPING = frozenset(
    {
        "__dict__",
        "__weakref__",
        "__module__",
        "__doc__",
        "__abstractmethods__",
        "_abc_impl",
        "__firstlineno__",
        "__static_attributes__",
        "__signature__",
        "__slotnames__",
    }
)
_GLOBAL_OPERATIONS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"})


def code_parts(code: types.CodeType) -> Iterator[Any]:
    """Yield what a code object does: neither file nor lines."""
    yield code.co_code
    yield getattr(code, "co_exceptiontable", b"")
    yield code.co_consts
    yield code.co_names
    yield code.co_varnames
    yield code.co_freevars
    yield code.co_cellvars
    yield (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)


def referenced_globals(function: types.FunctionType, whole: Container[str] = ()) -> dict[str, Any]:
    """Return the globals that a function refers to, by name.

    One of the user's own modules appears as those of its attributes that the function names, unless
    it is among the ``whole`` ones.
    """
    attributes = _names(function.__code__)
    return {
        name: _used_part(function.__globals__[name], attributes, whole)
        for name in sorted(_global_names(function.__code__))
        if name in function.__globals__
    }


def _used_part(value: Any, attributes: frozenset[str], whole: Container[str]) -> Any:
    if not isinstance(value, types.ModuleType) or is_installed(value.__name__):
        return value
    if value.__name__ in whole:
        return value
    return {
        name: _used_part(vars(value)[name], attributes - {name}, whole)
        for name in sorted(attributes)
        if name in vars(value)
    }


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _names(code: types.CodeType) -> frozenset[str]:
    return frozenset(name for inner in _nested(code) for name in inner.co_names)


def _global_names(code: types.CodeType) -> frozenset[str]:
    return frozenset(
        str(instruction.argval)
        for inner in _nested(code)
        for instruction in dis.get_instructions(inner)
        if instruction.opname in _GLOBAL_OPERATIONS
    )


def class_contents(cls: type) -> dict[str, Any]:
    """Return what the user wrote into a class, by name."""
    contents = {
        name: value
        for name, value in vars(cls).items()
        if name not in _BOOKKEEPING and not isinstance(value, types.MemberDescriptorType)
    }
    if not issubclass(cls, pydantic.BaseModel):
        return contents
    # pydantic keeps compiled schemas in the class; the fields say the same.
    own = {
        name: value
        for name, value in contents.items()
        if isinstance(value, (types.FunctionType, staticmethod, classmethod, property))
        and not name.startswith("__pydantic")
    }
    fields = {
        name: (info.annotation, info.default, info.default_factory, list(info.metadata))
        for name, info in cls.model_fields.items()
    }
    return {"methods": own, "fields": fields, "config": dict(cls.model_config)}
