"""Graphs, and what describes their inputs."""

from pipeline._graph.graph import Graph
from pipeline._graph.input_schema import InputField, InputSchema
from pipeline._graph.observer import Observer
from pipeline._graph.streams import ABSENT, Absent, Stream
from pipeline._graph.variables import Variable

__all__ = [
    "ABSENT",
    "Absent",
    "Graph",
    "InputField",
    "InputSchema",
    "Observer",
    "Stream",
    "Variable",
]
