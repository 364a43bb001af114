"""MLServer: one process, without its workers, whose hop it would have to pay as well."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

import open_inference
import serving


class Echo(MLModel):  # type: ignore[misc]
    async def predict(self, payload: InferenceRequest) -> Any:
        array = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("y", array)
        return InferenceResponse(model_name=self.name, outputs=[output])


def main() -> None:
    folder = serving.folder()
    port = serving.free_port()
    settings = Settings(
        host="127.0.0.1",
        http_port=serving.free_port(),
        grpc_port=port,
        metrics_endpoint=None,
        parallel_workers=0,
        grpc_max_message_length=-1,
        logging_settings=None,
        debug=False,
    )
    from mlserver.grpc import dataplane_pb2

    open_inference.requests(folder, dataplane_pb2)
    threading.Thread(target=open_inference.tell, args=(folder, port), daemon=True).start()
    server = MLServer(settings)
    asyncio.run(server.start([ModelSettings(name="echo", implementation=Echo)]))


if __name__ == "__main__":
    main()
