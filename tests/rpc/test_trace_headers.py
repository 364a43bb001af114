"""The headers of W3C Trace Context, as the specification has them."""

from __future__ import annotations

import pytest

from pipelined.core.ports import UNTRACED
from pipelined.rpc.trace_headers import trace_context

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_what_is_said_is_taken() -> None:
    assert trace_context([("other", "x"), ("traceparent", PARENT)]) == (PARENT, "")
    state = ("tracestate", "vendor=1")
    assert trace_context([("traceparent", PARENT), state]) == (PARENT, "vendor=1")
    assert trace_context([("traceparent", PARENT), ("tracestate", "x" * 513)]) == (PARENT, "")


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "nonsense",
        PARENT.upper(),
        PARENT[:-1],
        f"{PARENT}\n",
        f"{PARENT}-more",
        PARENT.replace("00-4b", "ff-4b"),
        PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        PARENT.replace("00f067aa0ba902b7", "0" * 16),
    ],
)
def test_what_is_none_counts_as_absent(parent: str) -> None:
    assert trace_context([("traceparent", parent), ("tracestate", "vendor=1")]) is UNTRACED


def test_without_metadata_there_is_none() -> None:
    assert trace_context(None) is UNTRACED
