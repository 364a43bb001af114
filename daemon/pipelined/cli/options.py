"""Values of options that are not just numbers and texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import typer

from pipelined.listening import ListenAddress, parse_listen_address
from pipelined.units import parse_duration, parse_pinned_size
from pipelined_api.sizes import parse_size

Value = TypeVar("Value")


def parser(parse: Callable[[str], Value]) -> Callable[[object], Value]:
    """Make of a function that raises ValueError what typer takes as a ``parser``."""

    def parsed(text: object) -> Value:
        try:
            # A default is a value already.
            return parse(str(text))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parsed


def path(value: Path | None) -> str | None:
    """A path as the settings take it."""
    return None if value is None else str(value)


address: Callable[[object], ListenAddress] = parser(parse_listen_address)
duration: Callable[[object], float] = parser(parse_duration)
size: Callable[[object], int] = parser(parse_size)
pinned_size: Callable[[object], int] = parser(parse_pinned_size)
