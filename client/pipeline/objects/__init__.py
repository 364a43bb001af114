"""The objects that pipelines are made of and handle."""

from pipeline._graph.builder import Pipeline
from pipeline._graph.decorators import entity, pipe
from pipeline._graph.graph import Graph
from pipeline._graph.streams import Stream
from pipeline._graph.variables import Variable
from pipeline.objects.directories import Directory
from pipeline.objects.files import File

__all__ = ["Directory", "File", "Graph", "Pipeline", "Stream", "Variable", "entity", "pipe"]
