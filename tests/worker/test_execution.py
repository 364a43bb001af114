"""One run in the worker: requests in, answers out, whatever user code does."""

from collections.abc import Callable
from typing import Any

import pytest

from pipeline import Graph, InputField, InputSchema, Pipeline, Variable, _values, pipe
from pipelined.worker.execution import Succeeded, execute
from pipelined.worker.failures import MAX_MESSAGE, MAX_TRACEBACK
from pipelined_api.v1 import runs_pb2
from pipelined_api.v1.values_pb2 import MapEntry
from pipelined_api.worker.v1 import worker_pb2

Cause = worker_pb2.RunFailed.Cause


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even its text")


def bottomless(depth: int) -> int:
    return bottomless(depth + 1) + 1


def raise_from_another() -> None:
    try:
        raise KeyError("key")
    except KeyError as error:
        raise ValueError("second") from error


def fail(how: str) -> None:
    if how == "exit":
        raise SystemExit(3)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "recursion":
        bottomless(0)
    if how == "unspeakable":
        raise Unspeakable
    if how == "huge":
        raise ValueError("x" * 10_000_000)
    if how == "noted":
        error = ValueError("no room")
        error.add_note("while loading model.safetensors")
        raise error
    if how == "surrogate":
        raise ValueError("\ud800")
    raise_from_another()


def graph_of(function: Callable[..., Any], *types: Any) -> Graph:
    with Pipeline() as builder:
        inputs = [Variable(type_) for type_ in types]
        builder.output(pipe(function)(*inputs))
    return builder.get_pipeline()


def request(*inputs: object, **named: object) -> bytes:
    message = runs_pb2.RunRequest(
        inputs=[_values.encode(value) for value in inputs],
        named_inputs=[
            MapEntry(key=name, value=_values.encode(value)) for name, value in named.items()
        ],
    )
    return message.SerializeToString()


def failed(answer: Succeeded | worker_pb2.RunFailed) -> worker_pb2.RunFailed:
    assert isinstance(answer, worker_pb2.RunFailed)
    return answer


def run(graph: Graph, *inputs: object, limit: int = 0) -> Succeeded | worker_pb2.RunFailed:
    answer, payload = execute(graph, "run-1", request(*inputs), limit)
    assert isinstance(answer, Succeeded) or payload == b""
    return answer


def failing(how: str) -> worker_pb2.RunFailed:
    def failing_node(how: str) -> str:
        fail(how)
        return how

    answer = failed(run(graph_of(failing_node, str), how))
    assert answer.run_id == "run-1"
    assert answer.cause == Cause.CAUSE_NODE
    return answer


def test_a_run_answers_with_its_outputs_and_its_time() -> None:
    def double(number: int) -> int:
        return 2 * number

    answer, payload = execute(graph_of(double, int), "run-1", request(21))
    response = runs_pb2.RunResponse.FromString(payload)
    assert [_values.decode(output) for output in response.outputs] == [42]
    assert response.run_id == "run-1"
    assert isinstance(answer, Succeeded)
    assert response.execution_seconds == answer.seconds > 0


def test_an_exception_names_its_node_and_shows_the_frames_of_the_user_only() -> None:
    failure = failing("chained").failure
    assert (failure.type, failure.message, failure.node) == ("ValueError", "second", "failing_node")
    assert "raise_from_another" in failure.traceback
    assert "KeyError: 'key'" in failure.traceback
    assert "/pipelined/" not in failure.traceback
    assert "/pipeline/" not in failure.traceback


def test_the_notes_of_an_exception_belong_to_its_text() -> None:
    assert failing("noted").failure.message == "no room\nwhile loading model.safetensors"


@pytest.mark.parametrize(
    ("how", "type_"), [("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt")]
)
def test_what_would_end_a_program_fails_the_run(how: str, type_: str) -> None:
    failure = failing(how).failure
    assert (failure.type, failure.node) == (type_, "failing_node")


def test_a_recursion_that_never_ends_fails_the_run_with_a_short_traceback() -> None:
    failure = failing("recursion").failure
    assert failure.type == "RecursionError"
    assert "more times" in failure.traceback
    assert len(failure.traceback.encode()) <= MAX_TRACEBACK + 100


def test_texts_are_bounded() -> None:
    failure = failing("huge").failure
    assert len(failure.message.encode()) <= MAX_MESSAGE + 100
    assert len(failure.traceback.encode()) <= MAX_TRACEBACK + 100
    assert "bytes left out" in failure.message


def test_an_exception_without_a_text_is_described_all_the_same() -> None:
    assert "Unspeakable" in failing("unspeakable").failure.traceback


def test_a_text_that_is_not_unicode_is_escaped() -> None:
    assert failing("surrogate").failure.message == "\\ud800"


class Settings(InputSchema):
    height: int = InputField(ge=1, le=1024)


@pytest.mark.parametrize(
    ("inputs", "field", "bound"),
    [
        ((), "settings", ""),
        (({"height": 5}, 2), "inputs[1]", ""),
        ((3,), "settings", ""),
        (({"height": 2000},), "settings.height", "le=1024"),
        (({"height": "high"},), "settings.height", ""),
    ],
    ids=["missing", "surplus", "type", "bound", "inner type"],
)
def test_bad_inputs_name_their_field(inputs: tuple[object, ...], field: str, bound: str) -> None:
    def height(settings: Settings) -> int:
        return settings.height

    with Pipeline() as builder:
        settings = Variable(Settings)
        builder.output(pipe(height)(settings))
    answer = failed(run(builder.get_pipeline(), *inputs))
    assert answer.cause == Cause.CAUSE_INVALID_INPUT
    assert (answer.subject, answer.bound) == (field, bound)
    assert not answer.failure.message.startswith(answer.subject)
    assert answer.failure.traceback == ""


def identity(value: str) -> str:
    return value


def test_a_name_that_is_given_twice_is_a_bad_input() -> None:
    twice = MapEntry(key="value", value=_values.encode("x"))
    message = runs_pb2.RunRequest(named_inputs=[twice, twice])
    answer, _ = execute(graph_of(identity, str), "run-1", message.SerializeToString())
    assert failed(answer).cause == Cause.CAUSE_INVALID_INPUT
    assert failed(answer).subject == "value"


def test_a_value_without_a_kind_is_a_bad_input() -> None:
    message = runs_pb2.RunRequest()
    message.inputs.add()
    answer, _ = execute(graph_of(identity, str), "run-1", message.SerializeToString())
    assert failed(answer).cause == Cause.CAUSE_INVALID_INPUT
    assert failed(answer).subject == "inputs[0]"


def test_an_output_that_cannot_be_sent_is_named() -> None:
    def unsendable(number: int) -> Any:
        return {"list": [number, object()]}

    answer = failed(run(graph_of(unsendable, int), 1))
    assert answer.cause == Cause.CAUSE_OUTPUT_TYPE
    assert answer.subject.startswith("outputs[0]")


def test_an_output_beyond_the_limit_is_refused_with_its_size() -> None:
    def many(number: int) -> bytes:
        return bytes(number)

    graph = graph_of(many, int)
    assert isinstance(run(graph, 1000, limit=2000), Succeeded)
    answer = failed(run(graph, 3000, limit=2000))
    assert answer.cause == Cause.CAUSE_OUTPUT_TOO_LARGE
    assert answer.size > 3000


def test_a_request_that_is_no_message_fails_the_run() -> None:
    answer, _ = execute(graph_of(identity, str), "run-1", b"\xff\xff\xff")
    assert isinstance(answer, worker_pb2.RunFailed)
