"""Tells the daemon which trace a call is in, if the program traces with OpenTelemetry.

The library does not need OpenTelemetry, and does not import it: where nobody else has, there is no
span to tell of.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["traced"]

_TRACE = "opentelemetry.trace"


def traced(metadata: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Add the headers of W3C Trace Context for the span that is the current one, if there is."""
    trace: Any = sys.modules.get(_TRACE)
    if trace is None:
        return metadata
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return metadata
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    headers = [("traceparent", parent)]
    if context.trace_state:
        headers.append(("tracestate", context.trace_state.to_header()))
    return (*metadata, *headers)
