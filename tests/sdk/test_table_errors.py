"""The semantics of the library: one class per row of the table that defines them.

The row on errors.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import AsyncClient, Client, File, InputSchema, Variable, errors, pipe
from pipeline.errors import InvalidInput, RunFailed
from pipelined.core.shared_limits import QUEUE_LENGTH
from tests.e2e.test_crashes import wait_until
from tests.sdk.pipes import same, scaled
from tests.sdk.places import Here, InDaemon, Place, graph_of


class Options(InputSchema):
    steps: int = 1


@pipe
def waits(ready: str, go: str) -> None:
    Path(ready).touch()
    while not Path(go).exists():
        time.sleep(0.005)


class TestErrors:
    """errors"""

    def test_one_tree_drawn_at_the_top_of_its_module(self) -> None:
        drawn = set(re.findall(r"[├└]─ (\w+)", errors.__doc__ or ""))
        raised = {
            name
            for name, cls in vars(errors).items()
            if inspect.isclass(cls) and issubclass(cls, errors.PipelineError)
        }
        assert drawn == raised - {"PipelineError"}

    def test_bad_input_names_the_field(self, place: Place) -> None:
        with pytest.raises(InvalidInput) as caught:
            place.start(graph_of(lambda: scaled(Variable(int, title="x")))).run(True)
        assert caught.value.field == "x"

    def test_a_failed_run_names_its_node_and_has_the_remote_traceback(
        self, in_daemon: InDaemon
    ) -> None:
        @pipe
        def divides(x: int) -> float:
            return 1 / x

        graph = graph_of(lambda: divides(Variable(int)))
        for place in (Here(), in_daemon):
            with pytest.raises(RunFailed, match="ZeroDivisionError") as caught:
                place.start(graph).run(0)
            assert caught.value.node.endswith("divides")
        assert "return 1 / x" in caught.value.remote_traceback

    @pytest.mark.parametrize(
        ("value", "called"),
        [
            (np.int64(2), "a numpy scalar"),
            (np.zeros(2), "a numpy array"),
            (File.from_bytes(b"", name="a"), "a File"),
        ],
    )
    def test_bad_input_is_called_what_its_user_calls_it(
        self, place: Place, value: object, called: str
    ) -> None:
        started = place.start(graph_of(lambda: same(Variable(Options, title="options"))))
        with pytest.raises(InvalidInput) as caught:
            started.run({"steps": value})
        expected = f"options.steps: Input should be a valid integer, got {called}"
        assert caught.value.message == expected

    def test_of_several_bad_inputs_the_first_is_named(self, place: Place) -> None:
        def make() -> Any:
            return (
                same(Variable(int, title="first")),
                same(Variable(int, title="second")),
                same(Variable(Options, title="third")),
            )

        started = place.start(graph_of(make))
        opaque, large = object(), 2**63
        cases: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
            ((opaque, "x", {}), {}, "first"),
            (("x", opaque, {}), {}, "first"),
            ((1, large, {"steps": opaque}), {}, "second"),
            ((opaque,), {"unknown": 1}, "unknown"),
            ((opaque, opaque, {}, opaque), {}, "inputs[3]"),
            ((opaque, opaque), {"first": 1}, "first"),
            ((), {"third": opaque, "second": 1}, "first"),
            ((1, 2, {"other": large, "steps": "x"}), {}, "third.steps"),
        ]
        for given, named, field in cases:
            with pytest.raises(InvalidInput) as caught:
                started.run(*given, **named)
            assert caught.value.field == field

    def test_not_found_and_unavailable(self, in_daemon: InDaemon) -> None:
        for call in (
            lambda: in_daemon.client.run("missing"),
            lambda: in_daemon.client.deployment("missing"),
            lambda: in_daemon.client.get_run("missing").result(),
        ):
            with pytest.raises(errors.NotFound, match="missing"):
                call()
        with Client("unix:/nonexistent/s") as client, pytest.raises(errors.Unavailable):
            client.run("name")

    def test_deadline_cancelled_and_a_worker_that_died(
        self, in_daemon: InDaemon, tmp_path: Path
    ) -> None:
        client, ready, go = in_daemon.client, tmp_path / "ready", tmp_path / "go"
        started = in_daemon.start(graph_of(lambda: waits(Variable(str), Variable(str))))
        run = client.submit(started.name, str(ready), str(tmp_path / "never"))
        wait_until(ready.exists)
        # Behind one that is busy, so that neither begins.
        with pytest.raises(errors.DeadlineExceeded):
            client.run(started.name, str(ready), str(go), timeout=0.1)
        queued = client.submit(started.name, str(ready), str(go))
        assert queued.cancel().state == "cancelled"
        with pytest.raises(errors.Cancelled):
            queued.result()
        [pid] = client.deployment(started.name).worker_pids
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(errors.WorkerDied) as caught:
            run.result()
        assert caught.value.signal == "SIGKILL"

    def test_overloaded_says_when_to_try_again(self, in_daemon: InDaemon, tmp_path: Path) -> None:
        ready, go = tmp_path / "ready", tmp_path / "go"
        started = in_daemon.start(graph_of(lambda: waits(Variable(str), Variable(str))))

        async def crowd() -> errors.Overloaded:
            async with AsyncClient(in_daemon.client.address) as client:
                first = await client.submit(started.name, str(ready), str(go))
                wait_until(ready.exists)
                # One more than may wait.
                tasks = [
                    asyncio.create_task(client.run(started.name, str(ready), str(go)))
                    for _ in range(QUEUE_LENGTH + 1)
                ]
                done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
                await first.cancel()
                [refused] = done
                error = refused.exception()
                assert isinstance(error, errors.Overloaded)
                return error

        try:
            refused = asyncio.run(crowd())
        finally:
            go.touch()
        assert refused.retry_after is not None
        assert refused.retry_after > 0
