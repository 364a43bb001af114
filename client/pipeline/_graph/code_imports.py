"""What code imports: found in bytecode and in source, without executing anything."""

from __future__ import annotations

import ast
import dis
import types
from collections.abc import Iterator

__all__ = ["imported_names", "needed_tops"]

_CONSTANTS = frozenset({"LOAD_CONST", "LOAD_SMALL_INT"})
_NO_OPERATION = frozenset({"EXTENDED_ARG", "CACHE", "RESUME", "NOP"})
_BY_NAME = frozenset({"import_module", "__import__"})


def imported_names(code: types.CodeType, package: str) -> Iterator[str]:
    """Yield the absolute names of what code, and all code defined in it, may import.

    Of ``from a import b`` these are ``a`` and ``a.b``, which need not be a module. Of code that
    calls ``import_module`` they include all strings that could be names.

    Args:
        code: of a function or a module.
        package: what relative imports start from; empty if there is none.

    """
    constants: list[object] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname in _CONSTANTS:
            constants.append(instruction.argval)
        elif instruction.opname == "IMPORT_NAME":
            level, names = constants[-2:]
            yield from _names(instruction.argval, level, names, package)
        elif instruction.opname not in _NO_OPERATION:
            constants.clear()
    by_name = not _BY_NAME.isdisjoint(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from imported_names(constant, package)
        elif by_name and isinstance(constant, str):
            level = len(constant) - len(constant.lstrip("."))
            if all(part.isidentifier() for part in constant[level:].split(".")):
                yield from _names(constant[level:], level, None, package)


def _names(name: str, level: object, names: object, package: str) -> Iterator[str]:
    if level:
        assert isinstance(level, int)
        parents = package.split(".") if package else []
        if level > len(parents):
            return
        base = ".".join(parents[: len(parents) - level + 1])
        name = f"{base}.{name}" if name else base
    yield name
    if isinstance(names, tuple):
        yield from (f"{name}.{each}" for each in names if each != "*")


def needed_tops(source: str) -> set[str]:
    """Return the top-level modules that a module's source imports whenever it is executed.

    What it imports only in some cases, as after an ``if``, in a ``try`` or in a function, it may do
    without.
    """
    found: set[str] = set()
    _collect(ast.parse(source).body, found)
    return found


def _collect(statements: list[ast.stmt], found: set[str]) -> None:
    for statement in statements:
        if isinstance(statement, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            if statement.module and not statement.level:
                found.add(statement.module.partition(".")[0])
        elif isinstance(statement, (ast.With, ast.ClassDef)):
            _collect(statement.body, found)
        elif isinstance(statement, ast.Try):
            if not statement.handlers:
                _collect(statement.body, found)
            _collect(statement.finalbody, found)
