"""What is deployed under a name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelined.core.errors import CodeTooLarge, InvalidRequest
from pipelined.core.options import Options, validate_options
from pipelined.core.references import NAME, NAME_RULE

# Name of the wire's CodeFormat for the archive of a folder.
BUNDLE = "CODE_FORMAT_BUNDLE"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
MAX_TARGET_LENGTH = 1000
# With the environment they go to the worker in the header of one frame.
MAX_TOPOLOGY_BYTES = 2**20
MAX_SCHEMA_BYTES = 2**20
MAX_CODE_BYTES = 256 * 2**20
# Of the environment and the secrets together.
MAX_ENVIRONMENT_BYTES = 64 * 2**10


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
        name: With the version the key of everything.
        version: 1, 2, …
        digest: Of topology, constants and code, made by the client.
        schema: The serialised ``pipelined.v1.Schema``; opaque here.
        code: Where the code is.
        environment: Variables of the worker.
        created_at: Seconds since the epoch.
        options: How many workers it has, and what each may take.
        secrets: Variables of the worker, too, whose values nothing but the worker's environment and
            the store ever has.
    """

    name: str
    version: int
    digest: str
    schema: bytes
    code: Code
    environment: Mapping[str, str]
    created_at: float
    options: Options = Options()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def same_as(self, other: Specification) -> bool:
        """Whether deploying the other over this one would change nothing."""
        return (self.digest, dict(self.environment), dict(self.secrets), self.options) == (
            other.digest,
            dict(other.environment),
            dict(other.secrets),
            other.options,
        )


def validate(specification: Specification) -> None:
    """Check what a caller wants deployed, before any of its code is received.

    Raises:
        InvalidRequest: A field is out of its bounds; names it and the bound.
        CodeTooLarge: The announced code exceeds the limit.
    """
    if not NAME.fullmatch(specification.name):
        raise InvalidRequest("name", f"{specification.name[:200]!r} {NAME_RULE}")
    if not re.fullmatch(r"[0-9a-f]{16,128}", specification.digest):
        raise InvalidRequest("digest", "has to be 16 to 128 hexadecimal digits")
    validate_options(specification.options)
    _validate_variables(specification)
    code = specification.code
    if code.format == BUNDLE and (
        len(code.target) > MAX_TARGET_LENGTH or not TARGET.fullmatch(code.target)
    ):
        raise InvalidRequest("target", f"{code.target[:200]!r} is not of the form module:variable")
    # Each line has a few bytes of its own on the wire.
    if sum(len(line.encode()) + 4 for line in code.topology) > MAX_TOPOLOGY_BYTES:
        raise InvalidRequest("topology", f"has more than {MAX_TOPOLOGY_BYTES} bytes")
    if specification.code.size > MAX_CODE_BYTES:
        raise CodeTooLarge(specification.code.size, MAX_CODE_BYTES)
    if specification.code.size < 1:
        raise InvalidRequest("code_size", "there is no code")


def _validate_variables(specification: Specification) -> None:
    size = 0
    kinds = (("environment", specification.environment), ("secrets", specification.secrets))
    for kind, variables in kinds:
        for name, value in variables.items():
            if not VARIABLE.fullmatch(name):
                # A value, and not a name, may have been given by mistake.
                shown = f"{name!r}" if kind == "environment" else "one of them"
                raise InvalidRequest(kind, f"{shown} is not the name of a variable")
            if "\0" in value:
                raise InvalidRequest(f"{kind}.{name}", "contains a NUL character")
            size += len(name) + len(value)
    if size > MAX_ENVIRONMENT_BYTES:
        there = "environment and secrets" if specification.secrets else "environment"
        raise InvalidRequest(there, f"{size} characters are more than {MAX_ENVIRONMENT_BYTES}")
    if both := sorted(specification.environment.keys() & specification.secrets.keys()):
        raise InvalidRequest(f"secrets.{both[0]}", "is in the environment, too")
