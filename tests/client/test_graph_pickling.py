"""Graphs as bytes, and what is said about those that cannot be."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pydantic
import pytest

from pipeline import File, Graph, InputField, InputSchema, Pipeline, Variable, entity, pipe
from pipeline.errors import GraphError, Incompatible, RunFailed, SerialisationError
from tests.client.subprocesses import run_script


def _graph(*nodes: Any) -> Graph:
    with Pipeline() as builder:
        builder.output(*[node() for node in nodes])
    return builder.get_pipeline()


class _Holder:
    def __init__(self, value: object) -> None:
        self.value = value


@entity
class _Model:
    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)

    @pipe
    def predict(self, value: object = None) -> object:
        return value


LOCK = threading.Lock()


@pipe
def uses_a_lock() -> None:
    with LOCK:
        pass


@pytest.mark.parametrize(
    ("make", "subject"),
    [
        (lambda: _Model(lock=LOCK).predict(), "_Model.lock"),
        (
            lambda: _Model(fine=1, inner=_Holder({"a": [LOCK]})).predict(),
            "_Model.inner.value['a'][0]",
        ),
        (lambda: _Model().predict([1, LOCK]), "_Model.predict(value=…)[1]"),
        (lambda: uses_a_lock(), "uses_a_lock: LOCK"),
        (lambda: _Model(lazy=(n for n in [1])).predict(), "_Model.lazy"),
    ],
)
def test_what_cannot_be_pickled_is_named(make: Any, subject: str) -> None:
    graph = _graph(make)
    with pytest.raises(SerialisationError) as caught:
        graph.dumps()
    assert caught.value.subject == subject
    assert str(caught.value).startswith(f"{subject} cannot be pickled: ")
    assert caught.value.__cause__ is not None


def test_a_graph_that_has_run_is_pickled_as_it_was_built() -> None:
    @entity
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        @pipe(on_startup=True)
        def load(self) -> None:
            self.count += 100

        @pipe
        def add(self) -> int:
            self.count += 1
            return self.count

    with Pipeline() as builder:
        counter = Counter()
        counter.load()
        builder.output(counter.add())
    graph = builder.get_pipeline()
    digest = graph.digest()
    assert [graph.run(), graph.run()] == [[101], [102]]
    assert Graph.loads(graph.dumps()).run() == [101]
    assert Graph.loads(graph.dumps()).digest() == graph.digest() == digest


def test_graphs_are_pickled_in_several_threads_at_once() -> None:
    graph = _graph(_Model().predict)
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(graph.dumps())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {Graph.loads(data).digest() for data in results} == {graph.digest()}
    assert len(results) == 4


def test_a_file_travels_with_the_graph(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("as it was")

    @pipe
    def read(file: File) -> str:
        return file.read().decode()

    with Pipeline() as builder:
        builder.output(read(File(path)))
    data = builder.get_pipeline().dumps()
    path.unlink()
    assert Graph.loads(data).run() == ["as it was"]


def test_a_variable_kept_in_a_class_is_an_error() -> None:
    @entity
    class Keeper:
        x: object = None

        @pipe
        def predict(self) -> int:
            return 1

    with Pipeline() as builder:
        Keeper.x = Variable(int)
        builder.output(Keeper().predict())
    with pytest.raises(GraphError, match="cannot be sent"):
        builder.get_pipeline().dumps()


def test_another_minor_version_of_python_is_named_before_anything_is_unpickled() -> None:
    header, _, body = _graph(_Model().predict).dumps().partition(b"\n")
    assert header.endswith(".".join(map(str, sys.version_info[:3])).encode())
    with pytest.raises(Incompatible, match=r"written by Python 3\.7\.1") as caught:
        Graph.loads(b"pipeline-graph 1 python 3.7.1\n" + b"not even a pickle")
    assert (caught.value.subject, caught.value.client_version) == ("python", "3.7.1")
    # The patch level may differ.
    assert Graph.loads(header.rpartition(b".")[0] + b".99\n" + body).run() == [None]


@pytest.mark.parametrize(
    "damage", [lambda d: b"", lambda d: d[:40], lambda d: d[:-3], lambda d: b"x" + d]
)
def test_damaged_bytes_are_a_serialisation_error(damage: Any) -> None:
    with pytest.raises(SerialisationError):
        Graph.loads(damage(_graph(_Model().predict).dumps()))


def test_a_missing_module_is_told_as_python_tells_it(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "gone_tomorrow.py").write_text("def f(): return 1\n")
    source = """
        import sys
        sys.path.append(sys.argv[2])
        from gone_tomorrow import f
        from pipeline import Pipeline, pipe

        @pipe
        def call() -> int:
            return f()

        with Pipeline() as builder:
            builder.output(call())
        builder.get_pipeline().save(sys.argv[1])
        print([package.module for package in builder.get_pipeline().required_packages()])
    """
    target = tmp_path / "graph.bin"
    assert run_script(tmp_path / "s.py", source, str(target), str(site)) == "['gone_tomorrow']"
    with pytest.raises(ModuleNotFoundError) as caught:
        Graph.load(target)
    assert caught.value.name == "gone_tomorrow"


def test_loading_in_a_plain_process_needs_no_script(tmp_path: Path) -> None:
    target = tmp_path / "graph.bin"
    _graph(_Model().predict).save(target)
    program = f"from pipeline import Graph; print(Graph.load({str(target)!r}).run())"
    done = subprocess.run([sys.executable, "-c", program], cwd="/", capture_output=True, check=True)
    assert done.stdout.strip() == b"[None]"


def test_classes_of_inputs_come_back_whole_however_they_refer_to_each_other() -> None:
    class Part(InputSchema):
        size: int = InputField(default=1, ge=1)

        @pydantic.field_validator("size")
        @classmethod
        def odd(cls, size: int) -> int:
            if size % 2 == 0:
                raise ValueError("even")
            return size

    class Whole(InputSchema):
        first: Part
        others: dict[str, Part] = InputField(default_factory=dict)
        label: str = InputField(optional=True)

    @pipe
    def made(n: int) -> Whole:
        return Whole(first=Part(size=n), others={"a": Part()})

    @pipe
    def size(whole: Whole) -> int:
        return whole.first.size

    with Pipeline() as builder:
        whole = made(Variable(int))
        builder.output(whole, size(whole))
    graph = Graph.loads(builder.get_pipeline().dumps())
    assert graph.run(3) == [{"first": {"size": 3}, "others": {"a": {"size": 1}}}, 3]
    for wrong, message in ((0, "greater than or equal to 1"), (2, "even")):
        with pytest.raises(RunFailed, match=rf"Part\.size: .*{message}"):
            graph.run(wrong)
