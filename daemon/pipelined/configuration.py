"""Reads the settings: from the configuration file, and from what the command line says instead."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipelined.settings import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "pipelined.toml"
VARIABLE = "PIPELINED_CONFIG"


class ConfigurationError(Exception):
    """The settings cannot be read; the text names the file, the keys and what is wrong."""


def default_file() -> Path | None:
    """The file that is read if none is named.

    ``$PIPELINED_CONFIG`` (empty for none), else ``pipelined.toml`` in ``$CONFIGURATION_DIRECTORY``
    (set by systemd) or in ``$XDG_CONFIG_HOME/pipelined``, if it is there.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    if systemd := os.environ.get("CONFIGURATION_DIRECTORY"):
        candidate = Path(systemd.split(":")[0]) / FILE
    else:
        home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        candidate = Path(home).expanduser() / "pipelined" / FILE
    return candidate if candidate.exists() else None


def load(file: Path | None, options: Mapping[str, object]) -> Settings:
    """Return the settings of a file, with the options in place of what it says.

    Args:
        file: TOML; None for the defaults.
        options: By "section.key"; None means not given.

    Raises:
        ConfigurationError: The file cannot be read, or a value in it is not valid.
    """
    content = {} if file is None else _read(file)
    for name, value in options.items():
        if value is not None:
            section, key = name.split(".")
            table = content.setdefault(section, {})
            if isinstance(table, dict):
                table[key] = value
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        where = "the options" if file is None else f"configuration file {str(file)!r}"
        problems = "; ".join(_problem(detail) for detail in error.errors(include_url=False))
        raise ConfigurationError(f"{where}: {problems}") from None


def differences(before: Settings, after: Settings) -> list[str]:
    """Names of the settings, "section.key", that are not the same in both."""
    return [
        f"{section}.{key}"
        for section in Settings.model_fields
        for key in type(getattr(before, section)).model_fields
        if getattr(getattr(before, section), key) != getattr(getattr(after, section), key)
    ]


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        # TOMLDecodeError, which says where, and UnicodeDecodeError.
        reason = str(error)
    except RecursionError:
        reason = "its arrays are nested too deeply"
    raise ConfigurationError(f"configuration file {str(file)!r} cannot be read: {reason}")


def _problem(detail: Mapping[str, Any]) -> str:
    location = [str(part) for part in detail["loc"]]
    name = ".".join(location)
    if detail["type"] == "extra_forbidden":
        known = list(_section(location[:-1]).model_fields)
        near = difflib.get_close_matches(location[-1], known, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"
        return f"{name} is not known{meant}"
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] != "value_error":
        message = message[:1].lower() + message[1:]
        message = message.replace("a valid tuple", "a list")
        message = re.sub("a valid dictionary or instance of .*", "a table", message)
        if not isinstance(detail["input"], (dict, list)):
            message += f", not {detail['input']!r}"
    return f"{name}: {message}"


def _section(location: list[str]) -> type[BaseModel]:
    model: type[BaseModel] = Settings
    for part in location:
        field = model.model_fields[part].annotation
        assert isinstance(field, type)  # sections have no other kind
        model = field
    return model
