"""Lets user code that knows OpenTelemetry see the trace that its run is in.

Only the API is touched, and only if it is installed. What user code makes of the trace, and where
it sends its spans, is its own affair; the daemon's are made by the daemon.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

# The nursery imports these where the daemon records traces, so that no run has to.
API = ("opentelemetry.context", "opentelemetry.trace.propagation.tracecontext")
_UNTRACED = nullcontext()
_ODD = frozenset("13579bdf")


def attached(parent: str, state: str) -> AbstractContextManager[None]:
    """Make the span with these headers the current one; nothing, if there is none or no API.

    Args:
        parent: "traceparent" of W3C Trace Context, or empty.
        state: "tracestate", or empty.
    """
    return _attached(parent, state) if parent else _UNTRACED


def is_recorded(parent: str) -> bool:
    """Whether somebody records the trace with this "traceparent": the lowest bit of its flags."""
    return parent[-1:] in _ODD


@contextmanager
def _attached(parent: str, state: str) -> Iterator[None]:
    context: Any
    propagation: Any
    try:
        context, propagation = map(importlib.import_module, API)
    except ImportError:
        yield
        return
    headers = {"traceparent": parent, "tracestate": state}
    token = context.attach(propagation.TraceContextTextMapPropagator().extract(headers))
    try:
        yield
    finally:
        context.detach(token)
