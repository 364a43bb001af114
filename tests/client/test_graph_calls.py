from __future__ import annotations

import json
import operator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import Pipeline, Variable, pipe
from pipeline.errors import GraphError
from tests.client.pipes import Model, NoEntity, Options, Other, half, join, length, prepare, size_of


def _build(make: Any) -> None:
    with Pipeline() as builder:
        text = Variable(str)
        number = Variable(int)
        options = Variable(Options)
        make(text, number, options)
        builder.output(text)


# The same pipes, hidden from the type checker, which finds these mistakes too.
wrong: Any = SimpleNamespace(
    join=join, length=length, half=half, size_of=size_of, prepare=prepare, Model=Model
)
WRONG_CALLS: list[tuple[Any, str]] = [
    (lambda t, n, o: wrong.join(), r"pipe 'join'.*missing a required argument: 'first'"),
    (lambda t, n, o: wrong.length(t, t), r"pipe 'length'.*too many positional arguments"),
    (
        lambda t, n, o: wrong.length(t, text=t),
        r"pipe 'length'.*multiple values for argument 'text'",
    ),
    (lambda t, n, o: wrong.half(y=n), r"pipe 'half'"),
    (
        lambda t, n, o: wrong.length(n),
        r"'length': parameter 'text' is annotated str, but .*int",
    ),
    (lambda t, n, o: wrong.join(t, sep=n), r"parameter 'sep' is annotated str"),
    (lambda t, n, o: wrong.join(t, t, n), r"parameter 'rest' is annotated str"),
    (lambda t, n, o: wrong.join(t, also=n), r"parameter 'more' is annotated str"),
    (lambda t, n, o: wrong.length(3), r"parameter 'text' is annotated str: .*got int"),
    (lambda t, n, o: wrong.half("x"), r"parameter 'x' is annotated float"),
    (lambda t, n, o: wrong.half(True), r"parameter 'x' is annotated float: .*got bool"),
    (lambda t, n, o: wrong.length(wrong.half(n)), r"parameter 'text' is annotated str"),
    (lambda t, n, o: wrong.size_of(n), r"parameter 'options' is annotated Options"),
    (lambda t, n, o: wrong.size_of(Variable(Other)), r"parameter 'options' is annotated Options"),
    (
        lambda t, n, o: wrong.size_of({"size": "big"}),
        r"'options' is annotated Options: .*size",
    ),
    (lambda t, n, o: wrong.prepare(t), r"pipe 'prepare': parameter 'word': .*runs on startup"),
    (lambda t, n, o: wrong.prepare("a", [{"k": t}]), r"parameter 'extra': .*runs on startup"),
    (
        lambda t, n, o: wrong.prepare(wrong.join("a")),
        r"pipe 'prepare': parameter 'word': .*runs on startup",
    ),
    (lambda t, n, o: NoEntity().method(n), r"pipe 'NoEntity.method' is a method.*@entity"),
    (lambda t, n, o: wrong.Model.predict(n), r"pipe 'Model.predict'.*@entity"),
]


@pytest.mark.parametrize(("make", "message"), WRONG_CALLS)
def test_a_wrong_call_names_pipe_parameter_and_line(make: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message) as caught:
        _build(make)
    line = make.__code__.co_firstlineno
    assert str(caught.value).startswith(f"{__file__}:{line}: ")


def test_literals_that_fit_are_accepted() -> None:
    @pipe
    def every(
        a: float,
        b: str | None,
        c: list[int],
        d: Options,
        e: str = None,  # type: ignore[assignment]  # noqa: RUF013
    ) -> list[Any]:
        return [a, b, c, type(d).__name__, d.size, e]

    with Pipeline() as builder:
        builder.output(every(1, None, [2], {"size": 3}, None))  # type: ignore[arg-type]
        builder.output(every(1, "x", [2], Options(), "e"))
    assert builder.get_pipeline().run() == [
        [1, None, [2], "Options", 3, None],
        [1, "x", [2], "Options", 8, "e"],
    ]


@pytest.mark.parametrize(
    "use",
    [
        bool,
        len,
        list,
        str,
        lambda v: v == "a",
        lambda v: v + "a",
        lambda v: f"{v}",
        lambda v: v[0],
        lambda v: v.upper(),
        lambda v: v(),
        lambda v: "a" in v,
        lambda v: v < 3,
        lambda v: 2**v,
        lambda v: v // 2,
        lambda v: -v,
        lambda v: abs(v),
        lambda v: range(v),
        lambda v: v @ v,
        lambda v: 1 << v,
        lambda v: "%s" % v,  # noqa: UP031  # that is the test
        lambda v: operator.setitem(v, 0, 1),
        lambda v: Path(v),
        lambda v: json.dumps({"a": v.x}),
    ],
)
def test_a_variable_has_no_value_while_the_graph_is_built(use: Any) -> None:
    with Pipeline():
        prompt = Variable(str)
        with pytest.raises(GraphError, match="has no value while the graph is built"):
            use(prompt)
