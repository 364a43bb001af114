"""``Graph``: what a builder makes; runs here, and can be sent."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline._arguments import bind, reviver, without_schemas
from pipeline._graph import pickled
from pipeline._graph.execution import Execution
from pipeline._graph.nodes import GraphInput, GraphOutput, Node
from pipeline._graph.observer import Observer
from pipeline._graph.streams import Stream
from pipeline._values import decode
from pipelined_api.schema import InputsValidator
from pipelined_api.v1.schema_pb2 import Schema

if TYPE_CHECKING:
    from pipeline._graph.packages import Package

__all__ = ["Graph"]


class Graph:
    """A graph of pipes, made by ``Pipeline.get_pipeline()``.

    What was built never changes; what startup and runs leave behind is this object's own, is not
    saved, and is not sent. Thread-safe.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[GraphInput],
        nodes: Sequence[Node],
        outputs: Sequence[GraphOutput],
        entities: Sequence[Any],
    ) -> None:
        self._inputs = tuple(inputs)
        self._nodes = tuple(nodes)
        self._outputs = tuple(outputs)
        self._entities = tuple(entities)
        self._set_up()

    def _set_up(self) -> None:
        self._schema = Schema(
            inputs=[each.parameter for each in self._inputs],
            outputs=[each.parameter for each in self._outputs],
        )
        self._validator = InputsValidator(self._schema, decode)
        self._revivers = [reviver(each.annotation) for each in self._inputs]
        self._execution = Execution(self._nodes, self._outputs, self._entities)

    @property
    def inputs(self) -> tuple[GraphInput, ...]:
        """Its inputs, in the order of positional ones."""
        return self._inputs

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Its nodes, in the order of execution."""
        return self._nodes

    @property
    def outputs(self) -> tuple[GraphOutput, ...]:
        """Its outputs, in the order in which a run returns them."""
        return self._outputs

    @property
    def entities(self) -> tuple[Any, ...]:
        """Its entities, in their initial state."""
        return self._entities

    def run(self, /, *inputs: Any, **named: Any) -> list[Any]:
        """Execute the graph once in this process, after its startup.

        Args:
            *inputs: values in the order of ``inputs``.
            **named: further values by name.

        Returns:
            One value per output: for one that streams, the list of its elements. Instances of
            InputSchema classes are dicts in them, as in what a daemon returns.

        Raises:
            InvalidInput: the inputs do not fit; nothing has been executed.
            StartupFailed: a node raised during startup; the next call tries again from there.
            RunFailed: a node raised.

        """
        return self.execute(inputs, named)

    def execute(
        self,
        inputs: Sequence[Any],
        named: Mapping[str, Any],
        *,
        observer: Observer | None = None,
    ) -> list[Any]:
        """Do what ``run`` does, for inputs of any name, and tell ``observer`` about each node."""
        return self._run_bound(self._bind(inputs, named), observer)

    # What a worker calls, which has to know what failed: the inputs, or a node.
    def _bind(self, inputs: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        """Return the value of each input of the graph, for ``_run_bound`` and ``_stream_bound``.

        Raises:
            InvalidInput: the inputs do not fit.

        """
        return bind(self._validator, self._revivers, inputs, named)

    def _run_bound(self, values: Sequence[Any], observer: Observer | None = None) -> list[Any]:
        """Do what ``execute`` does, for values of ``_bind``."""
        self._execution.startup(observer)
        return [without_schemas(output) for output in self._execution.run(values, observer)]

    def stream(self, /, *inputs: Any, **named: Any) -> Stream[list[Any]]:
        """Execute the graph once in this process, and give its outputs as they come.

        The first list has the static outputs; there is none if every output streams. After that
        each list has the next element of every stream that has not ended. There is one item per
        output in each; what has nothing to give is ``pipeline.objects.graph.ABSENT``. ::

            for tokens, usage in graph.stream("a prompt"): ...

        The startup, if it is still to be done, and the run begin when the first list is asked for.
        Closing the Stream closes the generators of pipes: their ``finally`` is executed.

        Args:
            *inputs: values in the order of ``inputs``.
            **named: further values by name.

        Raises:
            InvalidInput: the inputs do not fit; nothing has been executed.
            StartupFailed: from the iterator: a node raised during startup.
            RunFailed: from the iterator: a node raised, or gave an element of another type than it
                is annotated with.

        """
        return Stream(self.execute_stream(inputs, named))

    def execute_stream(
        self,
        inputs: Sequence[Any],
        named: Mapping[str, Any],
        *,
        observer: Observer | None = None,
    ) -> Generator[list[Any], None, None]:
        """Do what ``stream`` does, for inputs of any name, and tell ``observer`` about each node.

        A node that streams has finished when it has returned its generator.
        """
        return self._stream_bound(self._bind(inputs, named), observer)

    @property
    def _streams(self) -> bool:
        """Whether any node or output does."""
        return self._execution.streams

    def _stream_bound(
        self, values: Sequence[Any], observer: Observer | None = None
    ) -> Generator[list[Any], None, None]:
        """Do what ``execute_stream`` does, for values of ``_bind``."""
        self._execution.startup(observer)
        with closing(self._execution.stream(values, observer)) as rows:
            for row in rows:
                yield [without_schemas(item) for item in row]

    def startup(self, observer: Observer | None = None) -> None:
        """Execute the startup nodes unless that has been done; concurrent callers share it.

        Raises:
            StartupFailed: a node raised; the next call tries again from there.

        """
        self._execution.startup(observer)

    def schema(self) -> Schema:
        """Describe inputs and outputs as a wire message, which is the caller's to change."""
        copy = Schema()
        copy.CopyFrom(self._schema)
        return copy

    def json_schema(self) -> dict[str, Any]:
        """Return inputs and outputs as JSON Schema: what ``Deployment.schema()`` returns for it."""
        from pipeline.schema import DeploymentSchema

        return DeploymentSchema(self._schema)()

    def digest(self) -> str:
        """Return the hexadecimal SHA-256 of topology, constants, types and code.

        Equal for equal graphs whatever the process, the file or the line they were written in.

        Raises:
            SerialisationError: something in the graph has no content that could be told.

        """
        from pipeline._graph.digest import graph_digest

        return graph_digest(self)

    def required_packages(self) -> list[Package]:
        """Return the installed packages that the graph needs where it is loaded.

        Raises:
            SerialisationError: the graph cannot be pickled.

        """
        from pipeline._graph.pickling import required_packages

        return required_packages(self)

    def dumps(self) -> bytes:
        """Serialise the graph in its initial state.

        Raises:
            SerialisationError: something in it cannot be pickled; ``subject`` names it.

        """
        from pipeline._graph.pickling import dumps

        return dumps(self)

    @classmethod
    def loads(cls, data: bytes) -> Graph:
        """Make a graph of what ``dumps`` returned. That runs code: load what you trust.

        Raises:
            Incompatible: another minor version of Python wrote it.
            ModuleNotFoundError: it needs a package that is not installed.
            SerialisationError: it is damaged, or no graph.

        """
        from pipeline._graph.pickling import loads

        return loads(data)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what ``dumps`` returns to a file."""
        Path(path).write_bytes(self.dumps())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Graph:
        """Read a graph that ``save`` wrote; see ``loads``."""
        return cls.loads(Path(path).read_bytes())

    def __repr__(self) -> str:
        inputs = ", ".join(each.name for each in self._inputs)
        nodes = ", ".join(node.name for node in self._nodes)
        return f"<Graph ({inputs}) -> {len(self._outputs)}: {nodes}>"

    def __reduce__(self) -> tuple[object, ...]:
        return pickled.graph, (), (self._inputs, self._nodes, self._outputs, self._entities)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._inputs, self._nodes, self._outputs, self._entities = state
        self._set_up()
