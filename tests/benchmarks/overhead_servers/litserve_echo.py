"""LitServe: one worker process; HTTP with JSON, which is what it serves."""

from __future__ import annotations

import json
import threading
from array import array
from typing import Any

import litserve

import serving


class Echo(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        pass

    # An annotation would be taken for what FastAPI is to make of the request.
    def decode_request(self, request, **_):  # type: ignore[no-untyped-def]
        return array("f", request["x"])

    def predict(self, x: Any, **_: object) -> Any:
        return x

    def encode_response(self, output: Any, **_: object) -> dict[str, Any]:
        return {"y": output.tolist()}


def main() -> None:
    folder = serving.folder()
    port = serving.free_port()
    numbers = array("f", serving.data(serving.SMALL)).tolist()
    serving.leave(folder, serving.SMALL, json.dumps({"x": numbers}).encode())

    def tell() -> None:
        serving.wait_until_open(port)
        serving.ready(folder, "http", f"127.0.0.1:{port}", "/predict")

    threading.Thread(target=tell, daemon=True).start()
    server = litserve.LitServer(Echo(), accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        port=port,
        host="127.0.0.1",
        num_api_servers=1,
        generate_client_file=False,
        log_level="error",
    )


if __name__ == "__main__":
    main()
