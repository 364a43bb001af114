"""A web server on the loopback interface, for tests of files by their URL."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Mapping
from types import TracebackType


class WebServer:
    """Serves contents by their path; closes each connection.

    Attributes:
        contents: by path; bytes, a URL to redirect to, or the number of an error.
        asked: the paths that were asked for, in order.
    """

    def __init__(self, contents: Mapping[str, bytes | str | int]) -> None:
        self.contents = dict(contents)
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                content = outer.contents.get(self.path, 404)
                if isinstance(content, int):
                    self.send_error(content)
                elif isinstance(content, str):
                    self.send_response(302)
                    self.send_header("Location", content)
                    self.end_headers()
                else:
                    self.send_response(200)
                    cut = self.path.endswith(".cut")
                    self.send_header("Content-Length", str(len(content) + cut))
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def url(self, path: str, host: str = "localhost") -> str:
        return f"http://{host}:{self.port}{path}"

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
