"""Random small graphs of pipes of many kinds, and inputs for them, some of which do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Optional, Tuple  # noqa: UP035  # users write these

from hypothesis import strategies as st

from pipeline import Graph, InputField, InputSchema, Pipeline, Stream, Variable, entity, pipe


class Options(InputSchema):
    height: int = InputField(default=8, ge=8, multiple_of=8)
    label: Optional[str] = InputField(max_length=2)  # noqa: UP045


@pipe
def add(a: int, b: int = 1, *, c: int = 0) -> int:
    return a + b + c


@pipe
def quotient(a: int, /, b: int) -> float:
    return a / b


@pipe
def positive(x: int) -> int:
    if x < 0:
        raise ValueError(f"{x} is negative")
    return x


@pipe
def total(*items: int) -> int:
    return sum(items)


@pipe
def table(**values: int) -> dict[str, int]:
    return values


@pipe
def looked_up(values: dict[str, int], key: str) -> int:
    return values[key]


@pipe
def pair(x: int) -> Tuple[int, str]:  # noqa: UP006
    return -x, str(x)


@pipe
def joined(parts: list[str], end: tuple[str, int] = (".", 1)) -> str:
    return "+".join(parts) + end[0] * end[1]


@pipe
def grown(items: list[int]) -> list[int]:
    items.append(len(items))
    return items


@pipe
def encoded(text: str) -> bytes:
    return text.encode()


@pipe
def nothing(value: object) -> None:
    return None


@pipe
def height(options: Options) -> int:
    return options.height + len(options.label or "")


@pipe
def nested(x: int) -> list[dict[str, Any]]:
    # Pipes that pipes call are plain functions.
    return [{"sum": add(x, c=2), "pair": pair(x), "bytes": encoded("ü"), "none": None}]


@pipe(run_once=True)
def once(x: int) -> list[int]:
    return [x]


@pipe(on_startup=True)
def loaded(x: int) -> list[int]:
    return [x, x]


@pipe(on_startup=True)
def loaded_after(items: list[int], x: int = 1) -> int:
    return sum(items) // x


@pipe
def upto(n: int) -> Iterator[int]:
    yield from range(min(abs(n), 4))


@pipe
def breaks_off(n: int) -> Iterator[int]:
    yield n
    raise KeyError(n)


@pipe
def doubled(numbers: Iterator[int]) -> Stream[int]:
    return Stream(2 * number for number in numbers)


@pipe
def drained(numbers: Iterator[int]) -> int:
    return sum(numbers)


@pipe(run_once=True)
def stream_once(n: int) -> Iterator[int]:
    yield from (n, n + 1)


@entity
class Account:
    def __init__(self, balance: int) -> None:
        self.balance = balance
        self.history: list[int] = []

    @pipe(on_startup=True)
    def open(self, bonus: int) -> int:
        self.balance += bonus
        return self.balance

    @pipe
    def deposit(self, amount: int) -> list[int]:
        self.balance += amount
        self.history.append(self.balance)
        return self.history

    @pipe
    def compare(self, other: Account) -> int:
        return self.balance - other.balance


class Savings(Account):
    @pipe
    def deposit(self, amount: int) -> list[int]:
        return super().deposit(2 * amount)


def opened(account: Account, bonus: int) -> int:
    return account.open(bonus)


def deposited(account: Account, amount: int) -> list[int]:
    return account.deposit(amount)


def compared(one: Account, other: Account) -> int:
    return one.compare(other)


Values = dict[str, list[Any]]
"""What a graph has so far, by type; ``startup int`` and ``startup ints`` may go to startup."""

# Result type, pipe, and how its arguments are drawn.
Step = tuple[str, Callable[..., Any], Callable[["Drawing"], tuple[tuple[Any, ...], dict[str, Any]]]]

STEPS: list[Step] = [
    ("int", add, lambda d: ((d.int(),), {"c": d.int()})),
    ("int", add, lambda d: ((), {"b": d.int(), "a": d.int()})),
    ("float", quotient, lambda d: ((d.int(),), {"b": d.int()})),
    ("int", positive, lambda d: ((d.int(),), {})),
    ("int", total, lambda d: ((d.int(), d.int(), d.int()), {})),
    ("table", table, lambda d: ((), {"a": d.int(), "self": d.int()})),
    ("int", looked_up, lambda d: (({"a": d.int(), "b": 1}, "a"), {})),
    ("int str", pair, lambda d: ((d.int(),), {})),
    ("str", joined, lambda d: (([d.str(), d.str()],), {})),
    ("str", joined, lambda d: (([d.str()], (d.str(), 2)), {})),
    ("ints", grown, lambda d: ((d.ints(),), {})),
    ("bytes", encoded, lambda d: ((d.str(),), {})),
    ("none", nothing, lambda d: (([d.int(), {"a": (d.str(),)}],), {})),
    ("int", height, lambda d: ((d.options(),), {})),
    ("nested", nested, lambda d: ((d.int(),), {})),
    ("ints", once, lambda d: ((d.int(),), {})),
    ("startup ints", loaded, lambda d: ((d.startup_int(),), {})),
    ("startup int", loaded_after, lambda d: ((d.startup_ints(),), {"x": d.startup_int()})),
    ("stream", upto, lambda d: ((d.int(),), {})),
    ("stream", breaks_off, lambda d: ((d.int(),), {})),
    ("stream", doubled, lambda d: ((d.stream(),), {})),
    ("int", drained, lambda d: ((d.stream(),), {})),
    ("stream", stream_once, lambda d: ((d.int(),), {})),
    ("startup int", opened, lambda d: ((d.account(), d.startup_int()), {})),
    ("ints", deposited, lambda d: ((d.account(), d.int()), {})),
    ("int", compared, lambda d: ((d.account(), d.account()), {})),
]  # fmt: skip


@dataclass
class Drawing:
    """Draws the arguments of one graph's pipes from what it has so far, and literals."""

    draw: st.DrawFn
    values: Values

    def add(self, kind: str, value: Any) -> None:
        """Note a result; a tuple is one for each of the kinds."""
        kinds = kind.split() if kind == "int str" else [kind]
        for each, part in zip(kinds, value if len(kinds) > 1 else [value], strict=True):
            self.values[each].append(part)

    def _one(self, kinds: list[str], literal: st.SearchStrategy[Any]) -> Any:
        some = [value for kind in kinds for value in self.values[kind]]
        # A number and not a value: Variables cannot be compared.
        index = self.draw(st.integers(0, len(some)))
        return some[index - 1] if index else self.draw(literal)

    def int(self) -> Any:
        return self._one(["int", "startup int"], st.integers(-3, 9))

    def startup_int(self) -> Any:
        return self._one(["startup int"], st.integers(-1, 9))

    def str(self) -> Any:
        return self._one(["str"], st.sampled_from(["", "ä", "xyz"]))

    def ints(self) -> Any:
        return self._one(["ints", "startup ints"], st.lists(st.integers(0, 3), max_size=2))

    def startup_ints(self) -> Any:
        return self._one(["startup ints"], st.lists(st.integers(0, 3), max_size=2))

    def options(self) -> Any:
        return self._one(["options"], st.just({"height": 16}))

    def account(self) -> Any:
        accounts = self.values["account"]
        return accounts[self.draw(st.integers(0, len(accounts) - 1))]

    def stream(self) -> Any:
        # Read once only: what was drawn is gone.
        streams = self.values["stream"]
        return streams.pop(self.draw(st.integers(0, len(streams) - 1))) if streams else upto(3)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A graph of up to eight calls that takes ``x``, ``text``, ``items``, ``maybe`` and ``kwargs``.

    Its outputs are some of everything that was made, by kind.
    """
    kinds = ["int", "float", "table", "str", "ints", "bytes", "none", "nested", "stream"]
    kinds += ["startup int", "startup ints", "options", "maybe", "account"]
    with Pipeline() as builder:
        drawing = Drawing(draw, {kind: [] for kind in kinds})
        x = Variable(int, default=2, ge=-5)
        text = Variable(str, max_length=4)
        items = Variable(list[int], default=[1])
        maybe = Variable(int | None)
        kwargs = Variable(Options, default=Options())
        for kind, value in (("int", x), ("str", text), ("ints", items), ("options", kwargs)):
            drawing.add(kind, value)
        drawing.add("maybe", maybe)
        drawing.values["account"] = [Account(10), Account(10), Savings(0)]
        for index in draw(st.lists(st.integers(0, len(STEPS) - 1), min_size=1, max_size=8)):
            kind, call, arguments = STEPS[index]
            args, kwargs_ = arguments(drawing)
            drawing.add(kind, call(*args, **kwargs_))
        made = [value for kind in kinds if kind != "account" for value in drawing.values[kind]]
        # Later ones depend on earlier ones, and shrink away first.
        chosen = draw(st.lists(st.integers(0, len(made) - 1), min_size=1, max_size=4, unique=True))
        builder.output(*(made[index] for index in chosen))
    return builder.get_pipeline()


# One at a time: of several mistakes either may be named first.
_MISFITS: list[dict[str, Any]] = [
    *({"x": value} for value in (-6, True, 1.5, "1", 2**63, None)),
    *({"kwargs": value} for value in ({"height": 9}, {"label": "abc"}, {"depth": 1}, 3)),
    {"text": "too long"},
    {"items": [1, "a"]},
    {"maybe": False},
    {"unknown": 1},
]


def inputs() -> st.SearchStrategy[dict[str, Any]]:
    """Named inputs, most of which fit."""
    fitting = st.fixed_dictionaries(
        {"text": st.text("aü", max_size=4)},
        optional={
            "x": st.integers(-5, 5),
            "items": st.lists(st.integers(0, 3), max_size=2),
            "maybe": st.none() | st.integers(0, 3),
            "kwargs": st.sampled_from([{}, {"height": 16}, {"label": None}, Options(label="ab")]),
        },
    )
    misfits = st.sampled_from(_MISFITS)
    return st.one_of(fitting, fitting, fitting, st.tuples(fitting, misfits).map(_merged))


def _merged(both: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return both[0] | both[1]
