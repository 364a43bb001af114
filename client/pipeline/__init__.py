"""Write pipelines in plain Python, deploy them to a ``pipelined`` daemon, run them warm.

from pipeline import Client, Pipeline, Variable, entity, pipe

@entity
class Model:
    @pipe(on_startup=True)
    def load(self) -> None: ...

    @pipe
    def predict(self, prompt: str) -> str: ...

with Pipeline() as builder:
    prompt = Variable(str)
    model = Model()
    model.load()
    builder.output(model.predict(prompt))

graph = builder.get_pipeline()
graph.run("here, without a daemon")
with Client() as client:
    client.deploy(graph, "model")
    client.run("model", "there, already loaded")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pipeline import errors
from pipeline._graph.builder import Pipeline
from pipeline._graph.decorators import entity, pipe
from pipeline._graph.graph import Graph
from pipeline._graph.input_schema import InputField, InputSchema
from pipeline._graph.streams import Stream
from pipeline._graph.variables import Variable
from pipeline.objects.directories import Directory
from pipeline.objects.files import File

if TYPE_CHECKING:
    from pipeline.async_client import AsyncClient as AsyncClient
    from pipeline.client import Client as Client

__all__ = [
    "AsyncClient",
    "Client",
    "Directory",
    "File",
    "Graph",
    "InputField",
    "InputSchema",
    "Pipeline",
    "Stream",
    "Variable",
    "entity",
    "errors",
    "pipe",
]


# Building and running a graph needs no gRPC; importing it would double the time of an import.
_LAZY = {"AsyncClient": "pipeline.async_client", "Client": "pipeline.client"}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
