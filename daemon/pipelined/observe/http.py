"""The HTTP port for machines that watch the daemon: /metrics and /healthz.

It has threads of its own: neither a slow reader nor a large answer holds up the event loop.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from pipelined.observe.errors import MetricsError
from pipelined_api.address import Address

# Requests that are answered at once; whoever comes beyond that is sent away.
MAX_REQUESTS = 8
# Between two parts of a request.
READ_SECONDS = 5.0
_PLAIN = "text/plain; charset=utf-8"

log = structlog.get_logger()


class MetricsServer:
    """Answers GET /metrics and GET /healthz.

    Args:
        address: Where; port 0 lets the system choose.
        registry: What /metrics has.
        serving: Whether the daemon is healthy; asked in a thread of this server.

    Raises:
        MetricsError: It cannot listen there.
    """

    def __init__(
        self, address: Address, registry: CollectorRegistry, serving: Callable[[], bool]
    ) -> None:
        try:
            self._server = _Server(address, registry, serving)
        except OSError as error:
            reason = error.strerror or str(error)
            raise MetricsError(f"cannot serve metrics on {address}: {reason}") from None
        self.address = Address(host=address.host, port=self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Answer no more; waits for the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Those that still read do not hold up the end.
    block_on_close = False

    def __init__(
        self, address: Address, registry: CollectorRegistry, serving: Callable[[], bool]
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.registry = registry
        self.serving = serving
        self._free = threading.BoundedSemaphore(MAX_REQUESTS)
        super().__init__((address.host, address.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who went away in the middle is nobody's concern."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = READ_SECONDS
    server_version = "pipelined"
    sys_version = ""

    def do_GET(self) -> None:
        try:
            status, content_type, body = self._page()
        except Exception as error:
            log.error("metrics broke", exc_info=error)
            status, content_type, body = HTTPStatus.INTERNAL_SERVER_ERROR, _PLAIN, b""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the log is for what happens to runs."""

    def _page(self) -> tuple[HTTPStatus, str, bytes]:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            return HTTPStatus.OK, content_type, encode(self.server.registry)
        if path == "/healthz":
            if self.server.serving():
                return HTTPStatus.OK, _PLAIN, b"serving\n"
            return HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, b"not serving\n"
        return HTTPStatus.NOT_FOUND, _PLAIN, b"there are /metrics and /healthz\n"
