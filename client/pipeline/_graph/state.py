"""Copies of entities and constants, so that each graph has its own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace as with_changes
from typing import Any

from pipeline._graph.nodes import EntityRef, InputRef, Node, ResultRef, replace
from pipeline.errors import GraphError

__all__ = ["copies", "snapshot"]


def snapshot(entities: Sequence[Any], nodes: Sequence[Node]) -> tuple[list[Any], list[Node]]:
    """Copy the entities and the constants among the nodes' arguments as they are now.

    What cannot be copied, such as a lock or an open connection, is shared with the original.

    Raises:
        GraphError: a Variable is kept in one of them.

    """
    memo: dict[int, Any] = {}
    own = _copies(entities, memo)

    def constant(value: Any) -> Any:
        if isinstance(value, (InputRef, ResultRef, EntityRef)):
            return value
        return _copy(value, memo)

    return own, [
        with_changes(
            node, args=replace(node.args, constant), kwargs=replace(dict(node.kwargs), constant)
        )
        for node in nodes
    ]


def copies(entities: Sequence[Any]) -> list[Any]:
    """Copy entities that may refer to each other."""
    return _copies(entities, {})


def _copies(entities: Sequence[Any], memo: dict[int, Any]) -> list[Any]:
    # All of them first, so that an entity that holds another one holds its copy.
    plain = [entity for entity in entities if _is_plain(entity)]
    for entity in plain:
        memo[id(entity)] = object.__new__(type(entity))
    for entity in plain:
        own = memo[id(entity)]
        for name, value in vars(entity).items():
            vars(own)[name] = _copy(value, memo)
    return [_copy(entity, memo) for entity in entities]


def _is_plain(entity: Any) -> bool:
    """Whether an instance's state is its ``__dict__``, and its class has no say in copying."""
    cls: Any = type(entity)
    return (
        hasattr(entity, "__dict__")
        and not any(hasattr(cls, name) for name in ("__deepcopy__", "__setstate__"))
        and all(
            getattr(cls, name, None) is getattr(object, name, None)
            for name in ("__new__", "__reduce_ex__", "__reduce__", "__getstate__")
        )
        and not any(vars(base).get("__slots__") for base in cls.__mro__)
    )


def _copy(value: Any, memo: dict[int, Any]) -> Any:
    # Of its own, so that what a failed copy leaves half made is not found later.
    trial = dict(memo)
    try:
        result = copy.deepcopy(value, trial)
    except GraphError:
        raise
    except Exception:
        # Modules, locks and connections have no copy, and raise what they like.
        return value
    memo.update(trial)
    # deepcopy files what it must keep alive under the id of its memo, which has to stay taken.
    memo.setdefault(id(memo), []).append(trial)
    return result
