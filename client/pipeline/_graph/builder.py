"""``Pipeline``: collects the inputs, nodes and outputs of a graph while its ``with`` is open."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from pipeline._graph.annotations import lenient_type
from pipeline._graph.calls import check_arguments, result_annotations
from pipeline._graph.context import open_builder, source_line, user_frame
from pipeline._graph.decorators import Pipe, is_entity
from pipeline._graph.graph import Graph
from pipeline._graph.nodes import (
    EntityRef,
    GraphInput,
    GraphOutput,
    InputRef,
    Node,
    ResultRef,
    references,
    replace,
)
from pipeline._graph.state import snapshot
from pipeline._graph.streams import streamed
from pipeline._graph.variables import GraphVariable
from pipeline.errors import GraphError
from pipelined_api.v1.schema_pb2 import Parameter

__all__ = ["Pipeline"]


class Pipeline:
    """Builds a graph: ``with Pipeline() as builder: …``, then ``builder.get_pipeline()``.

    Inside the ``with``, calls of pipes are recorded instead of executed. Builders nest, and each
    thread has its own.
    """

    def __init__(self) -> None:
        self._inputs: list[GraphVariable] = []
        self._results: list[GraphVariable] = []
        self._nodes: list[Node] = []
        self._outputs: list[GraphVariable] = []
        self._entities: list[Any] = []
        self._names: dict[int, str] = {}
        self._outer: Pipeline | None = None
        self._entered = False
        self.is_open = False
        self._failure = ""

    def __enter__(self) -> Pipeline:
        if self._entered:
            raise GraphError(f"{source_line()}: this Pipeline has been built; make another one")
        self._entered = self.is_open = True
        self._outer = open_builder.get()
        open_builder.set(self)
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.is_open = False
        # Another one, if they are closed in another order, or in another context, than opened.
        if open_builder.get() is self:
            open_builder.set(self._outer)
        if exception_type is None:
            self._find_names()
        else:
            self._failure = exception_type.__qualname__

    @property
    def outer(self) -> Pipeline | None:
        """The builder that was open when this one was entered."""
        return self._outer

    def add_input(self, parameter: Parameter, annotation: Any) -> GraphVariable:
        """Add an input. Called by ``Variable``."""
        variable = GraphVariable(
            self, InputRef(len(self._inputs)), parameter, annotation, at_startup=False
        )
        self._inputs.append(variable)
        return variable

    def record(self, pipe: Pipe, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Add a call as a node. Called by pipes.

        Returns:
            What stands for the result: one Variable, or a tuple of them for ``Tuple[A, B]``.

        Raises:
            GraphError: the call does not fit the pipe.

        """
        line = source_line()
        try:
            args, kwargs = check_arguments(pipe, args, kwargs, line)
        except RecursionError:
            raise GraphError(
                f"{line}: pipe {pipe.name!r}: an argument contains itself, or is nested too deeply"
            ) from None

        def reference(value: Any) -> Any:
            return self._reference(value, line)

        annotation, items = result_annotations(pipe.function)
        index = len(self._nodes)
        self._nodes.append(
            Node(
                pipe,
                replace(args, reference),
                replace(dict(kwargs), reference),
                None if items is None else len(items),
                line,
                _streams(annotation, items),
            )
        )
        if items is None:
            return self._add_result(ResultRef(index), annotation, pipe)
        return tuple(
            self._add_result(ResultRef(index, item), part, pipe) for item, part in enumerate(items)
        )

    def _add_result(self, reference: ResultRef, annotation: Any, pipe: Pipe) -> GraphVariable:
        streams, element = streamed(annotation)
        parameter = Parameter(type=lenient_type(element), stream=streams)
        shown = f"result of {pipe.name}" if annotation is inspect.Parameter.empty else annotation
        variable = GraphVariable(self, reference, parameter, shown, at_startup=pipe.on_startup)
        self._results.append(variable)
        return variable

    def _reference(self, value: Any, line: str) -> Any:
        if type(value) is GraphVariable:
            self._check_own(value, line)
            return value.reference
        if is_entity(value):
            for index, known in enumerate(self._entities):
                if known is value:
                    return EntityRef(index)
            self._entities.append(value)
            return EntityRef(len(self._entities) - 1)
        return value

    def _check_own(self, variable: GraphVariable, line: str) -> None:
        if variable.builder is not self:
            raise GraphError(f"{line}: {variable!r} belongs to another Pipeline")

    def output(self, *values: Any) -> None:
        """Make Variables outputs of the graph, in this order, after those of earlier calls.

        A tuple or list of Variables, such as a pipe that returns ``Tuple[A, B]`` gives, makes as
        many outputs.

        Raises:
            GraphError: one is no Variable of this builder.

        """
        line = source_line()
        for value in values:
            if type(value) in (list, tuple):
                self.output(*value)
                continue
            if type(value) is not GraphVariable:
                raise GraphError(f"{line}: an output is what a pipe returned, not {value!r}")
            self._check_own(value, line)
            self._outputs.append(value)

    def get_pipeline(self) -> Graph:
        """Return the graph, with the state that its entities have now.

        Raises:
            GraphError: there is no output, two inputs have one name, an entity keeps a Variable, a
                stream is read twice, or an exception ended the ``with``.

        """
        if self._failure:
            raise GraphError(
                f"{source_line()}: {self._failure} ended the `with Pipeline()`; "
                "what it had built is not all of the graph"
            )
        if not self._outputs:
            raise GraphError(f"{source_line()}: the pipeline has no output; call builder.output()")
        if self.is_open:
            self._find_names()
        self._check_streams()
        entities, nodes = snapshot(self._entities, self._nodes)
        return Graph(
            inputs=[
                GraphInput(_described(variable, name), variable.annotation)
                for variable, name in zip(self._inputs, self._input_names(), strict=True)
            ],
            nodes=nodes,
            outputs=[
                GraphOutput(_promised(variable, name), variable.reference)
                for variable, name in zip(self._outputs, self._output_names(), strict=True)
            ],
            entities=entities,
        )

    def _check_streams(self) -> None:
        """Make sure that each stream is one output, or one argument of one pipe, and no more."""
        readers = [variable.reference for variable in self._outputs]
        for node in self._nodes:
            readers += [
                reference
                for reference in references([*node.args, *node.kwargs.values()])
                if isinstance(reference, ResultRef)
            ]
        for variable in self._results:
            reference = variable.reference
            assert isinstance(reference, ResultRef)
            kept = self._nodes[reference.node].is_kept
            if variable.parameter.stream and not kept and readers.count(reference) > 1:
                raise GraphError(
                    f"{variable!r} is a stream, which can be read only once, but is an output or "
                    "an argument twice; give it to one pipe that returns what both need"
                )

    def _find_names(self) -> None:
        """Note the names that Variables are bound to where the ``with`` stands."""
        frame = user_frame()
        if frame is None:
            return
        own = {id(variable) for variable in (*self._inputs, *self._results)}
        for name, value in frame.f_locals.items():
            if id(value) in own and type(value) is GraphVariable:
                self._names.setdefault(id(value), name)

    def _input_names(self) -> list[str]:
        names: dict[str, GraphVariable] = {}
        for variable in self._inputs:
            name = self._name(variable)
            if name and name in names:
                raise GraphError(f"{names[name]!r} and {variable!r} are both named {name!r}")
            names[name] = variable
        return _distinct([self._name(variable) for variable in self._inputs], "input")

    def _output_names(self) -> list[str]:
        return _distinct([self._name(variable) for variable in self._outputs], "output")

    def _name(self, variable: GraphVariable) -> str:
        return variable.parameter.name or self._names.get(id(variable), "")


def _distinct(names: list[str], kind: str) -> list[str]:
    """Give those that have no name, or one that came before, a name by their place."""
    taken: set[str] = set()
    result = []
    for index, name in enumerate(names):
        if not name or name in taken:
            name = f"{kind}_{index}"
            while name in taken or name in names:
                name += "_"
        taken.add(name)
        result.append(name)
    return result


def _described(variable: GraphVariable, name: str) -> Parameter:
    parameter = Parameter()
    parameter.CopyFrom(variable.parameter)
    parameter.name = name
    return parameter


def _promised(variable: GraphVariable, name: str) -> Parameter:
    parameter = _described(variable, name)
    # What an input demands of callers is no promise about an output.
    parameter.ClearField("default_value")
    parameter.optional = False
    return parameter


def _streams(annotation: Any, items: tuple[Any, ...] | None) -> tuple[bool, ...]:
    each = tuple(streamed(part)[0] for part in ((annotation,) if items is None else items))
    return each if any(each) else ()
