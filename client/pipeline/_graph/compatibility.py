"""Whether a value of one wire type can be given where another is expected."""

from __future__ import annotations

from pipelined_api.v1.schema_pb2 import Type

__all__ = ["compatible"]


def compatible(source: Type, target: Type) -> bool:
    """Whether some value of type ``source`` is one of type ``target``.

    Where that depends on the value, as with Optional, the answer is yes.
    """
    if Type.KIND_ANY in (source.kind, target.kind):
        return True
    if source.kind == Type.KIND_UNION:
        return any(compatible(alternative, target) for alternative in source.arguments)
    if target.kind == Type.KIND_UNION:
        return any(compatible(source, alternative) for alternative in target.arguments)
    if source.kind == Type.KIND_INT and target.kind == Type.KIND_FLOAT:
        return True
    if source.kind != target.kind:
        return False
    if source.kind == Type.KIND_OBJECT:
        known = {field.name for field in source.fields}
        return all(field.name in known for field in target.fields)
    if source.kind == Type.KIND_TUPLE and not source.variadic and not target.variadic:
        return len(source.arguments) == len(target.arguments) and all(
            map(compatible, source.arguments, target.arguments)
        )
    # An element type that is not told fits every other.
    return all(map(compatible, source.arguments, target.arguments))
