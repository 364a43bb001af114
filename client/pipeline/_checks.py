"""What callers of the client may get wrong whatever the daemon: types, and bounds of this side.

Pure. The daemon checks what it is sent again, and knows the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

from pipeline import errors
from pipelined_api.limits import LEAST_PRIORITY, MOST_PRIORITY

__all__ = [
    "check_name",
    "check_plain_name",
    "check_priority",
    "check_requirements",
    "check_run_timeout",
    "check_seconds",
    "check_text",
    "check_variables",
    "check_whole",
]


def check_name(name: object) -> None:
    """Check that a name of a deployment is one at all; the daemon knows which there are.

    Raises:
        errors.InvalidInput: it is no str.

    """
    check_text(name, "name", "the name of a deployment")


def check_plain_name(name: object) -> None:
    """Check that a name is that of a deployment, and not a reference to one of its versions.

    Raises:
        errors.InvalidInput: it is no str, or a reference such as ``NAME:v3``.

    """
    check_name(name)
    if ":" in str(name):
        plain = str(name).partition(":")[0]
        raise errors.InvalidInput(
            f"{name!r} is a reference; what is asked for here is of all versions: give {plain!r}",
            field="name",
        )


def check_text(value: object, field: str, what: str) -> None:
    """Check that something is a text that can be sent.

    Raises:
        errors.InvalidInput: it is no str.

    """
    if not isinstance(value, str):
        raise errors.InvalidInput(f"{what} has to be a str, not {_kind(value)}", field=field)


def check_whole(value: object, field: str) -> None:
    """Check that something is a whole number.

    Raises:
        errors.InvalidInput: it is no int.

    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise errors.InvalidInput(
            f"{field} has to be a whole number, not {_kind(value)}", field=field
        )


def check_priority(priority: object) -> None:
    """Check a priority.

    Raises:
        errors.InvalidInput: it is no int, or out of its bounds.

    """
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise errors.InvalidInput(
            f"the priority has to be an int, not {_kind(priority)}; an input of that name is given "
            "by its position",
            field="priority",
        )
    if not LEAST_PRIORITY <= priority <= MOST_PRIORITY:
        raise errors.InvalidInput(
            f"priority {priority} is not between {LEAST_PRIORITY} and {MOST_PRIORITY}",
            field="priority",
            bound=f"le={MOST_PRIORITY}" if priority > 0 else f"ge={LEAST_PRIORITY}",
        )


def check_run_timeout(seconds: object) -> None:
    """Check the timeout of a run, whose inputs may have that name, too.

    Raises:
        errors.InvalidInput: it is neither None nor a number.

    """
    check_seconds(seconds, "timeout", "; an input of that name is given by its position")


def check_seconds(seconds: object, field: str = "timeout", hint: str = "") -> None:
    """Check a time.

    Raises:
        errors.InvalidInput: it is neither None nor a number.

    """
    if isinstance(seconds, bool) or not (seconds is None or isinstance(seconds, Real)):
        raise errors.InvalidInput(
            f"{field} has to be a number of seconds, not {_kind(seconds)}{hint}", field=field
        )
    if seconds is not None and math.isnan(float(seconds)):
        raise errors.InvalidInput(f"{field} is no number of seconds but nan", field=field)


def check_variables(variables: object, field: str) -> None:
    """Check variables of workers; no error shows a value.

    Raises:
        errors.InvalidInput: they are no mapping of str to str.

    """
    if not isinstance(variables, Mapping):
        raise errors.InvalidInput(
            f"{field} has to be a mapping, not {_kind(variables)}", field=field
        )
    for name, value in variables.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise errors.InvalidInput(
                f"{field} has to have names and values that are str", field=field
            )


def check_requirements(requirements: object) -> None:
    """Check that requirements are several texts, not one.

    Raises:
        errors.InvalidInput: they are none.

    """
    if isinstance(requirements, str):
        raise errors.InvalidInput(
            "requirements has to be a list of requirements, not a str", field="requirements"
        )


def _kind(value: object) -> str:
    return type(value).__name__
