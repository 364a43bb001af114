"""What callers say of the trace that their calls are in: the headers of W3C Trace Context."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextvars import ContextVar

from pipelined.core.ports import UNTRACED, TraceContext

# https://www.w3.org/TR/trace-context/#traceparent-header-field-values
_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# What vendors have to pass on at least; also what we do at most.
_MAX_STATE = 512
HEADERS = ("traceparent", "tracestate")

_current: ContextVar[TraceContext] = ContextVar("pipelined_trace", default=UNTRACED)


def trace_of_call() -> TraceContext:
    """Return what the caller says of the call that this task answers."""
    return _current.get()


def set_trace(metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Take note of what the metadata of the call that this task answers say."""
    if (trace := trace_context(metadata)) is not UNTRACED:
        _current.set(trace)


def trace_context(metadata: Iterable[tuple[str, str | bytes]] | None) -> TraceContext:
    """Read the headers; what is none counts as absent, as the specification wants it."""
    parent = state = ""
    for key, value in metadata or ():
        if key == "traceparent" and isinstance(value, str):
            parent = value
        elif key == "tracestate" and isinstance(value, str) and len(value) <= _MAX_STATE:
            state = value
    return TraceContext(parent, state) if parent and _PARENT.fullmatch(parent) else UNTRACED
