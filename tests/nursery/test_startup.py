"""Startups in real workers: stages, failures, and trying again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]  # it has no types
import pytest
import torch
from safetensors.torch import save_file

from pipeline import Graph, Pipeline, Variable, entity, pipe
from pipelined.core.errors import Exit, StartupFailed
from pipelined.core.stages import Stage, StageKind
from tests.nursery.launching import Launching, call, graph_of
from tests.nursery.user_code import identity

pytestmark = pytest.mark.asyncio(loop_scope="module")


def starting(load: Callable[..., Any], argument: str) -> Graph:
    """A graph whose startup node gets the argument, and whose run returns what it returned."""

    @entity
    class Model:
        @pipe(on_startup=True, run_once=True)
        def load(self) -> None:
            self.loaded = load(argument)

        @pipe
        def predict(self, number: int) -> Any:
            return [self.loaded, number]

    with Pipeline() as builder:
        model = Model()
        model.load()
        builder.output(model.predict(Variable(int)))
    return builder.get_pipeline()


def of_kind(launching: Launching, kind: StageKind) -> list[Stage]:
    return [stage for stage in launching.stages if stage.kind is kind]


def sum_of_file(path: str) -> float:
    from safetensors.torch import load_file

    return float(load_file(path)["weight"].sum())


async def test_every_stage_of_a_startup_is_reported(shared: Launching, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(1000, 3)}, path)
    worker = await shared.start(starting(sum_of_file, str(path)))
    kinds = [stage.kind for stage in shared.stages]
    assert kinds[:3] == [StageKind.QUEUE, StageKind.FORK, StageKind.CODE]
    assert kinds[-1] is StageKind.READY
    (node,) = of_kind(shared, StageKind.NODE)
    assert node.name == "Model.load"
    (weights,) = of_kind(shared, StageKind.WEIGHTS)
    assert (weights.name, weights.bytes) == ("model.safetensors", 12_000)
    assert await call(worker, 7) == [3000.0, 7]


def import_outer(folder: str) -> str:
    import importlib
    import sys

    sys.path.insert(0, folder)
    return importlib.import_module("outer").__name__


async def test_imports_that_were_not_preloaded_are_timed(shared: Launching, tmp_path: Path) -> None:
    (tmp_path / "outer.py").write_text("import inner")
    (tmp_path / "inner.py").write_text("import json")
    worker = await shared.start(starting(import_outer, str(tmp_path)))
    (imports,) = of_kind(shared, StageKind.IMPORTS)
    assert imports.name == "outer"
    assert imports.seconds > 0
    assert await call(worker, 1) == ["outer", 1]


async def failure(launching: Launching, graph: Graph | bytes) -> tuple[StartupFailed, Exit | None]:
    """How the startup failed, and how the worker ended, if it did."""
    worker = await launching.launch()
    with pytest.raises(StartupFailed) as caught:
        await launching.start_on(worker, graph)
    if caught.value.cause == "node":
        return caught.value, None
    return caught.value, await worker.exited


def resume(path: str) -> str:
    from pathlib import Path

    if not Path(path).exists():
        raise FileNotFoundError("the weights are not there")
    return "resumed"


async def test_a_node_that_failed_is_tried_again_in_the_same_worker(
    shared: Launching, tmp_path: Path
) -> None:
    path = tmp_path / "weights"
    graph = starting(resume, str(path))
    worker = await shared.launch()
    for _ in range(2):
        with pytest.raises(StartupFailed, match="the weights are not there") as caught:
            await shared.start_on(worker, graph)
        assert caught.value.cause == "node"
        assert caught.value.failure.type == "FileNotFoundError"
        assert caught.value.failure.node == "Model.load"
    path.touch()
    await shared.start_on(worker, graph)
    assert await call(worker, 1) == ["resumed", 1]


def exit_python(argument: str) -> None:
    raise SystemExit(argument)


async def test_a_node_that_exits_has_failed(shared: Launching) -> None:
    error, _ = await failure(shared, starting(exit_python, "enough"))
    assert (error.cause, error.failure.type, error.failure.node) == (
        "node",
        "SystemExit",
        "Model.load",
    )


async def test_malformed_weights_are_told_apart(shared: Launching, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((10**9).to_bytes(8, "little") + b"{}")
    error, exit_ = await failure(shared, starting(sum_of_file, str(path)))
    assert (error.cause, error.failure.node) == ("weights", "Model.load")
    assert exit_ == Exit(exit_code=1)


async def test_code_that_is_no_graph_is_refused(shared: Launching) -> None:
    error, exit_ = await failure(shared, b"this is no graph")
    assert error.cause == "code"
    assert exit_ == Exit(exit_code=1)


class Absent:
    """Pickles as something out of a module that is not there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return __import__, ("a_module_that_is_not_there",)


async def test_a_missing_import_is_named(shared: Launching) -> None:
    graph = graph_of(identity, int).dumps()
    head, _, _ = graph.partition(b"\n")
    error, exit_ = await failure(shared, head + b"\n" + cloudpickle.dumps(Absent()))
    assert (error.cause, error.subject) == ("missing_import", "a_module_that_is_not_there")
    assert exit_ == Exit(exit_code=1)
