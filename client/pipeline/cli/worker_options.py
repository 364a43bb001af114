"""The options of ``pipeline deploy`` that are about workers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import errors

if TYPE_CHECKING:
    from pipeline._options import DeployOptions

Instances = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Workers that run it at once: both --min-instances and --max-instances.",
        show_default=False,
    ),
]
MinInstances = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Workers that are started at once, and kept. Default: 0, cold until it is asked for.",
        show_default=False,
    ),
]
MaxInstances = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Workers that there may be: more are started while runs wait. Default: 1.",
        show_default=False,
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="What each worker may have of the host's memory, such as 4GiB; one that takes more "
        "is killed.",
        show_default=False,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Of a parallel operation in a worker.", show_default=False
    ),
]
Gpus = Annotated[
    str | None,
    typer.Option(
        metavar="N|IDS",
        help="GPUs that each worker sees: 1 for one that the daemon chooses, 0, for the first, "
        "0,1 for these two; or ids of the driver.",
        show_default=False,
    ),
]
CpuSeconds = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", help="Time on processors that one run may take.", show_default=False
    ),
]
OpenFiles = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="That a worker may have at once.", show_default=False),
]
QueueLength = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Runs that may wait for a worker; more are refused.",
        show_default=False,
    ),
]
ConcurrentRuns = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Runs that are executed at once.", show_default=False),
]
Secret = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="NAME[=@FILE]",
        help="A variable for its workers that is never shown again: from the environment of this "
        "command, or a file; repeatable.",
    ),
]


def collected(
    *, gpus: str | None, secrets: Iterable[str], **others: int | float | str | None
) -> DeployOptions:
    """Return those that were given.

    Raises:
        errors.InvalidInput: one cannot be read.

    """
    found: DeployOptions = {}
    found.update({name: given for name, given in others.items() if given is not None})  # type: ignore[typeddict-item]  # the names are those of the command's parameters
    if gpus is not None:
        found["gpus"] = _gpus(gpus)
    if named := dict(map(_secret, secrets)):
        found["secrets"] = named
    return found


def _gpus(text: str) -> int | list[int | str]:
    if text.isdecimal():
        return int(text)
    return [part.strip() for part in text.split(",") if part.strip()]


def _secret(text: str) -> tuple[str, str]:
    name, separator, source = text.partition("=")
    if not separator:
        if (value := os.environ.get(name)) is None:
            raise errors.InvalidInput(
                f"--secret {name!r} is no variable of this command's environment", field="--secret"
            )
        return name, value
    if not source.startswith("@"):
        # What is part of a command is seen by whoever lists processes, and kept by shells.
        raise errors.InvalidInput(
            f"--secret {name}=… shows its value to others: give {name} alone to take it from the "
            f"environment, or {name}=@FILE",
            field="--secret",
        )
    path = Path(source[1:]).expanduser()
    try:
        return name, path.read_text("utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise errors.InvalidInput(
            f"--secret {name}: {str(path)!r} cannot be read: {reason}", field="--secret"
        ) from None
