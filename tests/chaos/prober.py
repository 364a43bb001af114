"""Holds the daemon to its word: what it says is SERVING has to execute a run sent right then."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import grpc
from grpc_health.v1 import health_pb2

from tests.chaos.callers import attempt
from tests.chaos.incidents import Incidents
from tests.chaos.loads import Load
from tests.chaos.served import Served
from tests.running_daemon import check_health

PAUSE = 0.3
SERVING = health_pb2.HealthCheckResponse.SERVING


class Prober(threading.Thread):
    """Asks for the health of one deployment after the other.

    Attributes:
        serving: How often the answer was SERVING; each time a run was sent.
        other: How often it was not, or there was none.
    """

    def __init__(self, loads: Mapping[str, Load], served: Served, incidents: Incidents) -> None:
        super().__init__(name="prober", daemon=True)
        self.serving = 0
        self.other = 0
        self._loads = loads
        self._served = served
        self._incidents = incidents
        self._stop_asked = threading.Event()

    def run(self) -> None:
        with (
            grpc.insecure_channel(self._served.address) as channel,
            self._served.client() as client,
        ):
            while True:
                for load in self._loads.values():
                    if self._stop_asked.wait(PAUSE):
                        return
                    if self._says_serving(channel, load.name):
                        self.serving += 1
                        attempt(load, client, self._incidents, "health lied")
                    else:
                        self.other += 1

    @staticmethod
    def _says_serving(channel: grpc.Channel, name: str) -> bool:
        try:
            return check_health(channel, f"deployments/{name}", timeout=2).status == SERVING
        except grpc.RpcError:
            return False

    def stop(self) -> None:
        """Ask it to stop, after the run that it is on."""
        self._stop_asked.set()
