"""One daemon with everything that watches it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import QUICK_PRELOAD
from tests.observe.otlp_receiver import Receiver, receiving
from tests.running_daemon import RunningDaemon


@dataclass
class Observed:
    """A daemon, and what watches it."""

    daemon: RunningDaemon
    receiver: Receiver

    def log(self) -> list[dict[str, object]]:
        """The lines of its log."""
        return [json.loads(line) for line in self.daemon.log().splitlines()]

    @property
    def metrics_address(self) -> str:
        """Where its metrics are."""
        [line] = [line for line in self.log() if line["event"] == "metrics served"]
        return str(line["address"])

    def get(self, path: str) -> str:
        """The body of a page of the metrics' port."""
        with urllib.request.urlopen(f"http://{self.metrics_address}{path}", timeout=30) as answer:
            body: bytes = answer.read()
        return body.decode()

    def families(self) -> dict[str, Metric]:
        """The metrics by name."""
        found = text_string_to_metric_families(self.get("/metrics"))
        return {family.name: family for family in found}

    def value(self, sample: str, **labels: str) -> float:
        """The value of the one sample with this name and these labels; 0 if there is none."""
        found = [
            each.value
            for family in self.families().values()
            for each in family.samples
            if each.name == sample and labels.items() <= each.labels.items()
        ]
        assert len(found) <= 1
        return found[0] if found else 0.0


@pytest.fixture(scope="session")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """Shared: use names of your own for deployments."""
    folder = tmp_path_factory.mktemp("observed")
    with receiving() as receiver:
        config = folder / "pipelined.toml"
        config.write_text(
            f"""
            [log]
            format = "json"
            debug = true
            [metrics]
            address = "127.0.0.1:0"
            [traces]
            endpoint = "http://127.0.0.1:{receiver.port}"
            """
        )
        running = RunningDaemon(
            folder,
            options=[f"--config={config}", *QUICK_PRELOAD],
            # Spans are sent soon.
            environment={"OTEL_BSP_SCHEDULE_DELAY": "50"},
        )
        yield Observed(running, receiver)
        running.close()
