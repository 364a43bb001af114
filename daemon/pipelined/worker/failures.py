"""How an exception of user code is described to the caller: bounded, and without our own frames."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import pipeline
import pipelined
import pipelined_api
from pipelined.worker.bounded import bounded
from pipelined_api.v1 import deployments_pb2

MAX_TYPE = 256
MAX_MESSAGE = 8 * 1024
MAX_TRACEBACK = 64 * 1024
_CONFINED = (
    "Its modes allow this, so the confinement of workers does not: they make no new files or "
    "folders directly in a folder that holds the daemon's state directory, at any depth. Write "
    "into a folder that was there before, keep the state directory elsewhere (--state-dir), or "
    "set `confinement` of [workers]."
)

_OURS = tuple(
    f"{Path(package.__file__).parent}/"
    for package in (pipeline, pipelined, pipelined_api)
    if package.__file__
)


def describe(error: BaseException, node: str = "") -> deployments_pb2.Failure:
    """Return the wire's account of an exception. Never raises an Exception."""
    return deployments_pb2.Failure(
        type=bounded(_type_name(error), MAX_TYPE),
        message=bounded(_text(error), MAX_MESSAGE),
        traceback=bounded(_traceback(error), MAX_TRACEBACK),
        node=bounded(node, MAX_TYPE),
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception, what it was raised from or during, and so on."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def text(error: BaseException) -> str:
    """Return the exception's text and notes, bounded; its ``__str__`` may fail."""
    return bounded(_text(error), MAX_MESSAGE)


def _type_name(error: BaseException) -> str:
    return str(type.__getattribute__(type(error), "__name__"))


def _text(error: BaseException) -> str:
    try:
        notes = [*map(str, getattr(error, "__notes__", ()))]
        if hint := _of_confinement(error):
            notes.append(hint)
        return "\n".join([str(error), *notes])
    except BaseException as failure:  # user code, which may raise anything
        return f"<its text could not be made: {_type_name(failure)}>"


def _of_confinement(error: BaseException) -> str:
    """Say what refused access to a path that its modes allow: access(2) heeds no Landlock."""
    if not isinstance(error, PermissionError) or error.errno != errno.EACCES:
        return ""
    if not isinstance(error.filename, str | bytes):
        return ""
    path = Path(os.fsdecode(error.filename)).absolute()
    there = os.path.lexists(path)
    allowed = os.access(path if there else path.parent, os.R_OK | os.W_OK)
    return _CONFINED if allowed else ""


def _traceback(error: BaseException) -> str:
    try:
        captured = traceback.TracebackException.from_exception(error, compact=True)
        _drop_our_frames(captured)
        return "".join(captured.format())
    except BaseException as failure:  # user code again, in __str__, __notes__ or a metaclass
        return f"{_type_name(error)}: <no traceback could be made: {_type_name(failure)}>\n"


def _drop_our_frames(captured: traceback.TracebackException) -> None:
    todo: list[traceback.TracebackException | None] = [captured]
    while todo:
        one = todo.pop()
        if one is None:
            continue
        kept = [frame for frame in one.stack if not frame.filename.startswith(_OURS)]
        one.stack[:] = kept
        todo += [one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or ())]
