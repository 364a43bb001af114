"""KServe: one worker process of its model server, which executes the model itself."""

from __future__ import annotations

import threading
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.protocol.grpc import grpc_predict_v2_pb2

import open_inference
import serving


class Echo(Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("echo")
        self.ready = True

    async def predict(self, payload: InferRequest, *_: object, **__: object) -> Any:
        array = payload.inputs[0].as_numpy()
        output = InferOutput(name="y", shape=list(array.shape), datatype="FP32")
        output.set_data_from_numpy(array, binary_data=True)
        return InferResponse(payload.id, self.name, [output])


def main() -> None:
    folder = serving.folder()
    port = serving.free_port()
    open_inference.requests(folder, grpc_predict_v2_pb2)
    threading.Thread(target=open_inference.tell, args=(folder, port), daemon=True).start()
    ModelServer(
        http_port=serving.free_port(),
        grpc_port=port,
        workers=1,
        enable_latency_logging=False,
        access_log_format=None,
    ).start([Echo()])


if __name__ == "__main__":
    main()
