"""What a graph does here it does in a daemon: outputs, streams, errors, state from run to run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from pipeline import Client, Graph, Stream
from pipeline.errors import PipelineError
from tests.conftest import QUICK_PRELOAD
from tests.e2e.random_graphs import graphs, inputs
from tests.running_daemon import RunningDaemon

EXAMPLES = 200

_numbers = itertools.count()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    running = RunningDaemon(tmp_path_factory.mktemp("parity"), options=QUICK_PRELOAD)
    with running.client() as made:
        yield made
    running.close()


def outcome(call: Any, given_: dict[str, Any]) -> tuple[Any, ...]:
    """What a run gave, or the facts of its error that do not depend on where it ran."""
    try:
        return ("gave", *call(**given_))
    except PipelineError as error:
        facts = {name: getattr(error, name, None) for name in ("field", "bound", "node")}
        return ("raised", type(error).__name__, facts)


def rows(stream: Any, given_: dict[str, Any]) -> tuple[Any, ...]:
    """The same of a run that streams, with what came before the error."""
    came: list[Any] = []

    def read(**named: Any) -> list[Any]:
        with stream(**named) as opened:
            assert isinstance(opened, Stream)
            came.extend(opened)
        return []

    return (*outcome(read, given_), came)


def described(graph: Graph) -> str:
    nodes = [f"{node.name}(*{node.args}, **{dict(node.kwargs)})" for node in graph.nodes]
    return "\n".join([*nodes, *(repr(each.reference) for each in graph.outputs)])


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(graph=graphs(), runs=st.lists(inputs(), min_size=1, max_size=3), streams=st.booleans())
def test_a_random_graph_does_the_same_here_and_in_a_daemon(
    client: Client, graph: Graph, runs: list[dict[str, Any]], streams: bool
) -> None:
    note(described(graph))
    name = f"random-{next(_numbers)}"
    client.deploy(graph, name)
    try:
        for given_ in runs:
            if streams:
                here = rows(graph.stream, given_)
                there = rows(lambda **named: client.stream(name, **named), given_)
            else:
                here = outcome(graph.run, given_)
                there = outcome(lambda **named: client.run(name, **named), given_)
            note(f"{given_}: {here}")
            assert repr(there) == repr(here)
    finally:
        client.delete(name)
