"""What users of the library can name, as text. To accept a change of it:

python -m tests.client.surface
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

LISTING = Path(__file__).with_name("surface.txt")

# Told by its help and tested as a program. All else is found, so that nothing can be forgotten.
_COMMAND = "pipeline.cli"


class _Text(str):
    """An annotation as it is in the source: signatures show strings with quotes otherwise."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def modules() -> list[str]:
    """The public modules of the library."""
    import pipeline

    found = ["pipeline"]
    for info in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        private = any(part.startswith("_") for part in info.name.split("."))
        if not private and info.name != _COMMAND and not info.name.startswith(f"{_COMMAND}."):
            found.append(info.name)
    return sorted(found)


def surface() -> str:
    """One block per module; a class is spelled out where it is first met."""
    shown: dict[int, str] = {}
    lines: list[str] = []
    for name in modules():
        module = importlib.import_module(name)
        lines += [f"# {name}", *_module(module, shown), ""]
    return "\n".join(lines)


def _module(module: ModuleType, shown: dict[int, str]) -> Iterator[str]:
    for name in sorted(getattr(module, "__all__", ())):
        value = getattr(module, name)
        if isinstance(value, ModuleType):
            yield f"{name}: module"
        elif id(value) in shown and callable(value):
            yield f"{name}: {shown[id(value)]}"
        elif inspect.isclass(value):
            shown[id(value)] = f"{module.__name__}.{name}"
            yield from _class(name, value)
        elif inspect.isfunction(value):
            shown[id(value)] = f"{module.__name__}.{name}"
            yield f"def {name}{_signature(value)}"
        else:
            yield f"{name}: {type(value).__name__}"


def _class(name: str, cls: type) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not object)
    yield f"class {name}({bases})" if bases else f"class {name}"
    if issubclass(cls, Enum):
        yield f"    {', '.join(member.name for member in cls)}"
        return
    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            default = "" if field.default is dataclasses.MISSING else f" = {field.default!r}"
            yield f"    {field.name}: {field.type}{default}"
    elif "__init__" in vars(cls) and not getattr(cls, "_is_protocol", False):
        yield f"    def __init__{_signature(cls.__init__)}"
    # What a public base has is listed there.
    own = [base for base in cls.__mro__ if base is cls or base.__name__.startswith("_")]
    members = {key: item for base in reversed(own) for key, item in vars(base).items()}
    for key in sorted(members):
        if key.startswith("_") and key not in _SPECIAL:
            continue
        yield from _member(key, members[key])


_SPECIAL = {"__aenter__", "__aiter__", "__call__", "__enter__", "__iter__", "__next__"}


def _member(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, property):
        returns = inspect.get_annotations(value.fget).get("return", "Any") if value.fget else "Any"
        yield f"    {name}: {returns} (property)"
    elif isinstance(value, (classmethod, staticmethod)):
        yield f"    @{type(value).__name__} def {name}{_signature(value.__func__)}"
    elif inspect.isfunction(value):
        word = "async def" if inspect.iscoroutinefunction(value) else "def"
        yield f"    {word} {name}{_signature(value)}"


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [
        each.replace(annotation=_text(each.annotation)) for each in signature.parameters.values()
    ]
    text = str(
        signature.replace(
            parameters=parameters, return_annotation=_text(signature.return_annotation)
        )
    )
    # Marks of "not given" have no repr that stays the same.
    return re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "...", text)


def _text(annotation: Any) -> Any:
    return _Text(annotation) if isinstance(annotation, str) else annotation


if __name__ == "__main__":
    LISTING.write_text(surface())
    sys.stdout.write(f"{LISTING} is rewritten\n")
