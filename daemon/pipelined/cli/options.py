"""Values of options that are not just numbers and texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import typer

from pipelined.units import parse_duration, parse_pinned_size, parse_size
from pipelined_api.address import Address, parse_address

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


address: Callable[[object], Address] = parser(parse_address)
duration: Callable[[object], float] = parser(parse_duration)
size: Callable[[object], int] = parser(parse_size)
pinned_size: Callable[[object], int] = parser(parse_pinned_size)
