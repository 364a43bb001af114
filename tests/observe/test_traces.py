"""Traces: a program, the daemon and user code in a worker are in one, with a real receiver."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from pipeline import AsyncClient
from pipeline.errors import RunFailed
from tests.observe.conftest import Observed
from tests.observe.pipelines import failing, traced

RUN = "pipelined.v1.Runs/Run"


def test_three_levels_are_one_trace(observed: Observed) -> None:
    tracer = TracerProvider().get_tracer("program")
    with observed.daemon.client() as client, tracer.start_as_current_span("program") as span:
        client.deploy(traced(), "traced")
        [told] = client.run("traced", 1)
    context = span.get_span_context()
    trace_id = f"{context.trace_id:032x}"
    spans = observed.receiver.spans_of(
        *(trace_id, RUN, "queue", "startup", "startup fork", "startup node", "execute"),
        "node Told.trace",
    )
    call, queue, execute = spans[RUN], spans["queue"], spans["execute"]
    assert told == f"{trace_id} {execute.span_id} True"
    assert call.parent_id == f"{context.span_id:016x}"
    assert call.attributes["rpc.grpc.status_code"] == 0
    assert queue.parent_id == execute.parent_id == call.span_id
    assert spans["startup"].parent_id == queue.span_id
    assert spans["startup node"].parent_id == spans["startup"].span_id
    assert spans["startup node"].attributes["pipelined.stage.name"] == "Told.load"
    node = spans["node Told.trace"]
    assert node.parent_id == execute.span_id
    assert call.start <= queue.start <= queue.end <= execute.start
    assert execute.start <= node.start <= node.end <= execute.end <= call.end
    assert {each.service for each in spans.values()} == {"pipelined"}
    assert not any(each.failed for each in spans.values())
    for each in (queue, execute):
        assert each.attributes["pipelined.deployment"] == "traced"
        assert each.attributes["pipelined.run_id"] == call.attributes["pipelined.run_id"]
    # The log has the trace, too.
    [line] = [
        line
        for line in observed.log()
        if line["event"] == "run succeeded" and line.get("trace_id") == trace_id
    ]
    assert line["run_id"] == call.attributes["pipelined.run_id"]


async def test_a_call_in_no_trace_begins_one(observed: Observed) -> None:
    async with AsyncClient(observed.daemon.address) as client:
        await client.deploy(traced(), "untraced")
        [told] = await client.run("untraced", 1)
    trace_id, execute, remote = str(told).split()
    spans = observed.receiver.spans_of(trace_id, RUN, "queue", "execute")
    assert spans[RUN].parent_id == ""
    assert (spans["execute"].span_id, remote) == (execute, "True")


async def test_a_submitted_run_is_in_the_trace_of_its_call(observed: Observed) -> None:
    tracer = TracerProvider().get_tracer("program")
    async with AsyncClient(observed.daemon.address) as client:
        await client.deploy(traced(), "submitted")
        with tracer.start_as_current_span("program") as span:
            run = await client.submit("submitted", 1)
        await run.result()
    trace_id = f"{span.get_span_context().trace_id:032x}"
    submit = "pipelined.v1.Runs/Submit"
    spans = observed.receiver.spans_of(trace_id, submit, "queue", "execute", "node Told.trace")
    assert spans["execute"].parent_id == spans[submit].span_id
    # The deployment was cold, and this run has waited for it.
    assert spans["startup"].parent_id == spans["queue"].span_id


def test_a_streaming_call_has_its_spans(observed: Observed) -> None:
    tracer = TracerProvider().get_tracer("program")
    with observed.daemon.client() as client:
        client.deploy(traced(), "streamed")
        with tracer.start_as_current_span("program") as span:
            assert list(client.stream("streamed", 1))
    trace_id = f"{span.get_span_context().trace_id:032x}"
    stream = "pipelined.v1.Runs/Stream"
    spans = observed.receiver.spans_of(trace_id, stream, "execute", "node Told.trace")
    assert spans["execute"].parent_id == spans[stream].span_id
    assert not spans[stream].failed


def test_a_failure_is_told_without_its_text(observed: Observed) -> None:
    tracer = TracerProvider().get_tracer("program")
    with observed.daemon.client() as client:
        client.deploy(failing(), "failing-trace")
        with tracer.start_as_current_span("program") as span, pytest.raises(RunFailed):
            client.run("failing-trace", 7)
    trace_id = f"{span.get_span_context().trace_id:032x}"
    spans = observed.receiver.spans_of(trace_id, RUN, "queue", "execute")
    assert spans["execute"].failed
    assert spans["execute"].attributes["error.type"] == "RunFailed"
    assert spans[RUN].failed
    assert spans[RUN].attributes["rpc.grpc.status_code"] == 13
    assert "secret" not in str(spans)


def test_what_is_not_sampled_is_not_exported(observed: Observed) -> None:
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("program")
    with observed.daemon.client() as client:
        client.deploy(traced(), "unsampled")
        with trace.use_span(tracer.start_span("program")) as span:
            [told] = client.run("unsampled", 1)
        # The worker knows of it nevertheless.
        trace_id = f"{span.get_span_context().trace_id:032x}"
        assert str(told).split()[0] == trace_id
        # What comes later has come.
        [later] = client.run("unsampled", 1)
    assert observed.receiver.spans_of(str(later).split()[0], RUN, "execute")
    assert observed.receiver.spans_of(trace_id) == {}
