"""The content digest of a graph: of what it does, not of how or where it was written down.

Everything is fed to SHA-256 as tagged, length-prefixed pieces. What the user wrote is hashed by its
content: bytecode, constants, defaults, closures, the globals and helpers that it refers to. What is
installed is hashed by its name, and so is what travels as source, once, beside that source's
bytecode. Sets are hashed in the order of their items' digests, so that
nothing depends on PYTHONHASHSEED.
"""

from __future__ import annotations

import copyreg
import hashlib
import types
import typing
from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING, Any

import pydantic
from google.protobuf.message import Message

from pipeline._graph.closures import closure
from pipeline._graph.decorators import Pipe
from pipeline._graph.nodes import EntityRef, GraphInput, GraphOutput, InputRef, Node, ResultRef
from pipeline._graph.packages import is_installed
from pipeline._graph.sources import Sources, function_imports
from pipeline._graph.user_code import class_contents, code_parts, referenced_globals
from pipeline._values import encode
from pipeline.errors import SerialisationError
from pipeline.objects.directories import Directory
from pipeline.objects.files import File

if TYPE_CHECKING:
    from pipeline._graph.graph import Graph

__all__ = ["graph_digest"]


def graph_digest(graph: Graph) -> str:
    """Compute the digest; see ``Graph.digest``."""
    sources = Sources()
    while True:
        digest = _Digest(sources.modules)
        failure: SerialisationError | None = None
        try:
            _feed_graph(digest, graph)
        except SerialisationError as error:
            failure = error
        # What was fed by its content is to be fed by its name then.
        if sources.follow(
            found for function in digest.functions for found in function_imports(function)
        ):
            continue
        if failure is not None:
            raise failure
        for name in sorted(sources.modules):
            digest.feed((name, sources.modules[name].is_package, sources.modules[name].code()))
        return digest.hexdigest()


def _feed_graph(digest: _Digest, graph: Graph) -> None:
    for name, part in (
        ("inputs", graph.inputs),
        ("nodes", graph.nodes),
        ("outputs", graph.outputs),
        ("entities", graph.entities),
    ):
        digest.subject = name
        digest.feed(part)


class _Digest:
    """Feeds objects to one hash. An object met again is fed as the number of its first meeting.

    Args:
        by_name: the user's own modules whose contents are fed by their names.

    Attributes:
        functions: those that were fed by their content.
        subject: what is being fed, for messages.

    """

    def __init__(self, by_name: Container[str]) -> None:
        self._hash = hashlib.sha256()
        self._met: dict[int, int] = {}
        # Ids are unique among living objects only.
        self._alive: list[Any] = []
        self._by_name = by_name
        self.functions: list[types.FunctionType] = []
        self.subject = ""

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def _piece(self, tag: str, content: bytes = b"") -> None:
        self._hash.update(b"%s %d:" % (tag.encode(), len(content)))
        self._hash.update(content)

    def _items(self, tag: str, items: Iterable[Any]) -> None:
        listed = list(items)
        self._piece(tag, str(len(listed)).encode())
        for item in listed:
            self.feed(item)

    def feed(self, value: Any) -> None:
        """Feed one object and, once, all that it consists of."""
        if type(value) in _ATOMS:
            self._piece(type(value).__name__, repr(value).encode())
        elif type(value) is str:
            self._piece("str", value.encode("utf-8", "surrogatepass"))
        elif type(value) in (bytes, bytearray):
            self._piece("bytes", bytes(value))
        elif isinstance(value, _IMMUTABLE) or typing.get_origin(value) is not None:
            # Whether two equal ones are one object is up to the interpreter.
            self._feed_object(value)
        elif id(value) in self._met:
            self._piece("again", str(self._met[id(value)]).encode())
        else:
            self._met[id(value)] = len(self._met)
            self._alive.append(value)
            self._feed_object(value)

    def _feed_object(self, value: Any) -> None:
        exact = _EXACT.get(type(value))
        if exact is not None:
            exact(self, value)
            return
        for cls, method in _FEEDERS:
            if isinstance(value, cls):
                method(self, value)
                return
        if typing.get_origin(value) is not None:
            self._items("generic", (typing.get_origin(value), *typing.get_args(value)))
        elif not self._feed_array(value):
            self._feed_instance(value)

    def _feed_mapping(self, value: dict[Any, Any]) -> None:
        # By the digest of the key: equal dicts may have been filled in another order.
        ordered = sorted(value.items(), key=lambda item: self._alone(item[0]))
        self._items("dict", (part for item in ordered for part in item))

    def _feed_set(self, value: Iterable[Any]) -> None:
        self._piece(type(value).__name__, b"".join(sorted(self._alone(item) for item in value)))

    def _alone(self, value: Any) -> bytes:
        inner = _Digest(self._by_name)
        inner.functions = self.functions
        inner.subject = self.subject
        inner._met = dict(self._met)
        inner.feed(value)
        return inner._hash.digest()

    def _feed_code(self, code: types.CodeType) -> None:
        self._items("code", code_parts(code))

    def _feed_function(self, function: types.FunctionType) -> None:
        if is_installed(function.__module__ or "builtins"):
            self._feed_name("function", function)
            return
        if self._is_by_name(function):
            self._feed_name("function", function)
            return
        if function.__module__ in self._by_name:
            used = {}
        else:
            used = referenced_globals(function, self._by_name)
            self.functions.append(function)
        self._items(
            "function",
            (
                function.__code__,
                function.__defaults__,
                function.__kwdefaults__,
                closure(function),
                used,
            ),
        )

    def _is_by_name(self, value: type | types.FunctionType) -> bool:
        return value.__module__ in self._by_name and "<" not in value.__qualname__

    def _feed_name(self, tag: str, value: Any) -> None:
        name = getattr(value, "__qualname__", None) or value.__name__
        self._items(tag, (str(getattr(value, "__module__", "")), str(name)))

    def _feed_pipe(self, pipe: Pipe) -> None:
        self._items("pipe", (pipe.function, pipe.on_startup, pipe.run_once))

    def _feed_class(self, cls: type) -> None:
        if is_installed(cls.__module__) or self._is_by_name(cls):
            self._feed_name("class", cls)
            return
        self._items("class", (cls.__name__, cls.__bases__, class_contents(cls)))

    def _feed_file(self, file: File) -> None:
        # What is at a URL is not asked for: the graph is the same, whatever it fetches.
        if file.url:
            self._items("file-url", (file.name, file.url, file.has_digest and file.sha256))
        else:
            self._items("file", (file.name, file.sha256))

    def _feed_directory(self, directory: Directory) -> None:
        if directory.archive_file is not None:
            self._items("directory-archive", (directory.name, directory.archive_file))
        else:
            entries = [tuple(entry) for entry in directory.entries()]
            self._items("directory", (directory.name, entries))

    def _feed_array(self, value: Any) -> bool:
        module = type(value).__module__.partition(".")[0]
        if module not in ("numpy", "torch", "PIL"):
            return False
        try:
            wire = encode(value, self.subject)
        except SerialisationError:
            return False
        self._piece("array", wire.SerializeToString(deterministic=True))
        return True

    def _feed_instance(self, value: Any) -> None:
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception as error:
            subject = f"{self.subject}: {type(value).__qualname__}"
            raise SerialisationError(
                f"{subject} has no content that could be told: {error}", subject=subject
            ) from error
        if isinstance(reduced, str):
            # A cached function is known by name only, but is made of one that is not.
            wrapped = getattr(value, "__wrapped__", None)
            self._items("global", (str(getattr(value, "__module__", "")), reduced, wrapped))
            return
        callable_, args, state, items, pairs = (*reduced, *[None] * 5)[:5]
        self._items(
            "instance",
            (
                callable_,
                args,
                state,
                None if items is None else list(items),
                None if pairs is None else dict(pairs),
            ),
        )


_Feeder = Callable[[_Digest, Any], None]
# The first that fits; what comes early is the more special.
_FEEDERS: list[tuple[Any, _Feeder]] = [
    (Pipe, _Digest._feed_pipe),
    (types.CodeType, _Digest._feed_code),
    (types.FunctionType, _Digest._feed_function),
    (
        (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType),
        lambda digest, value: digest._feed_name("builtin", value),
    ),
    (
        types.MethodType,
        lambda digest, value: digest._items("method", (value.__func__, value.__self__)),
    ),
    (
        (staticmethod, classmethod),
        lambda digest, value: digest._items(type(value).__name__, (value.__func__,)),
    ),
    (
        property,
        lambda digest, value: digest._items("property", (value.fget, value.fset, value.fdel)),
    ),
    (
        types.GenericAlias,
        lambda digest, value: digest._items(
            "generic", (typing.get_origin(value), *typing.get_args(value))
        ),
    ),
    (type, _Digest._feed_class),
    (types.ModuleType, lambda digest, value: digest._piece("module", value.__name__.encode())),
    (
        Message,
        lambda digest, value: digest._piece("message", value.SerializeToString(deterministic=True)),
    ),
    (File, _Digest._feed_file),
    (Directory, _Digest._feed_directory),
    (
        Node,
        lambda digest, value: digest._items(
            "node",
            (value.pipe, value.args, dict(value.kwargs), value.items)
            + ((value.streams,) if value.streams else ()),
        ),
    ),
    (GraphInput, lambda digest, value: digest._items("input", (value.parameter, value.annotation))),
    (
        GraphOutput,
        lambda digest, value: digest._items("output", (value.parameter, value.reference)),
    ),
    (InputRef, lambda digest, value: digest._piece("input-ref", str(value.index).encode())),
    (ResultRef, lambda digest, value: digest._items("result-ref", (value.node, value.item))),
    (EntityRef, lambda digest, value: digest._piece("entity-ref", str(value.index).encode())),
    (
        pydantic.BaseModel,
        lambda digest, value: digest._items("model", (type(value), dict(value.__dict__))),
    ),
]
_ATOMS = (type(None), type(Ellipsis), bool, int, float, complex)
_IMMUTABLE = (tuple, frozenset, types.CodeType, Message, InputRef, ResultRef, EntityRef)
_EXACT: dict[type, _Feeder] = {
    list: lambda digest, value: digest._items("list", value),
    tuple: lambda digest, value: digest._items("tuple", value),
    dict: _Digest._feed_mapping,
    set: _Digest._feed_set,
    frozenset: _Digest._feed_set,
    types.MappingProxyType: lambda digest, value: digest._feed_mapping(dict(value)),
}
