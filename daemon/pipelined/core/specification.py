"""What is deployed under a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Name of the wire's CodeFormat for the archive of a folder.
BUNDLE = "CODE_FORMAT_BUNDLE"


@dataclass(frozen=True, slots=True)
class Code:
    """The code of a graph, kept by its content.

    Attributes:
        format: Name of the wire's CodeFormat, such as "CODE_FORMAT_CLOUDPICKLE".
        size: Bytes.
        sha256: Hexadecimal.
        target: Of a bundle, the variable with the graph: "module:variable". Else empty.
        topology: Of a bundle, what was announced of the graph, line by line; opaque here.
    """

    format: str
    size: int
    sha256: str
    target: str = ""
    topology: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Specification:
    """One version of a deployment: all that is needed to start it again after a restart.

    Attributes:
        name: Unique; the key of everything.
        version: 1, 2, …
        digest: Of topology, constants and code, made by the client.
        schema: The serialised ``pipelined.v1.Schema``; opaque here.
        code: Where the code is.
        environment: Variables of the worker.
        instances: Workers that run it at once.
        created_at: Seconds since the epoch.
    """

    name: str
    version: int
    digest: str
    schema: bytes
    code: Code
    environment: Mapping[str, str]
    instances: int
    created_at: float

    def same_as(self, other: Specification) -> bool:
        """Whether deploying the other over this one would change nothing."""
        return (self.digest, dict(self.environment), self.instances) == (
            other.digest,
            dict(other.environment),
            other.instances,
        )
