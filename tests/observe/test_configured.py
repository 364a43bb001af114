"""What is configured, what is missing, and what is not even imported."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from prometheus_client import generate_latest

from pipelined.core.ports import Observer
from pipelined.core.reports import DaemonReport
from pipelined.observe.errors import MetricsError, TracesError
from pipelined.observe.from_loop import ask
from pipelined.observe.http import MetricsServer
from pipelined.observe.metrics import DaemonCollector, registry_of
from pipelined.observe.observation import observing
from pipelined.settings import Settings
from pipelined_api.address import Address

EXPORTER = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"
LOOPBACK = Address(host="127.0.0.1", port=0)


def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra were not installed."""
    monkeypatch.delitem(sys.modules, "pipelined.observe.traces", raising=False)
    monkeypatch.setitem(sys.modules, EXPORTER, None)


async def test_traces_without_their_packages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch)
    settings = Settings.model_validate({"traces": {"endpoint": "http://127.0.0.1:4317"}})
    with pytest.raises(TracesError, match=r"pip install 'pipelined\[otel\]'"):
        async with observing(settings, "1.0"):
            pass


async def test_variables_without_the_packages_are_no_reason_to_refuse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing(monkeypatch)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    async with observing(Settings(), "1.0") as observation:
        observer: Observer = observation.observer
        observer.deployment_changed("name", exists=True)
        assert list(observation.activity.tallies) == ["name"]
        assert observation.around is None


async def test_the_variable_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody listens there: the end does not wait for long.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1")
    async with observing(Settings(), "1.0") as observation:
        assert observation.around is not None


def test_what_is_not_configured_is_not_imported() -> None:
    script = (
        "import sys, pipelined.app, pipeline.client;"
        "print({'opentelemetry', 'prometheus_client'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.stdout, result.returncode) == ("set()\n", 0), result.stderr


def collector(*, broken: bool = False) -> DaemonCollector:
    def take() -> None:
        if broken:
            raise ZeroDivisionError

    def unused(report: DaemonReport) -> DaemonReport:
        raise AssertionError

    return DaemonCollector("1.0", take, unused)


def test_a_loop_that_does_not_answer_is_told_of() -> None:
    text = generate_latest(registry_of(collector())).decode()
    assert "pipelined_event_loop_responsive 0.0" in text
    assert "process_open_fds" in text
    assert "pipelined_serving" not in text


def test_loops_are_asked_for_a_while() -> None:
    loop = asyncio.new_event_loop()
    # It does not run.
    assert ask(loop, lambda: True, seconds=0.01) is None
    loop.close()
    assert ask(loop, lambda: True) is None


async def test_a_running_loop_answers() -> None:
    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(ask, loop, lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(ask, loop, lambda: 1 / 0)


def test_not_serving_and_broken_are_told_by_the_status() -> None:
    server = MetricsServer(LOOPBACK, registry_of(collector(broken=True)), lambda: False)
    try:
        for path, status in (("/healthz", 503), ("/metrics", 500)):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"http://{server.address}{path}", timeout=30)
            with caught.value as answer:
                assert answer.code == status
        with pytest.raises(MetricsError, match=str(server.address)):
            MetricsServer(server.address, registry_of(collector()), lambda: True)
    finally:
        server.close()
