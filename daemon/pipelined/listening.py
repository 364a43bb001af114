"""Addresses to listen on, with what is let in there: ``unix:/path,role=run,mode=0660,group=ml``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipelined.core.access import InvalidRole, Role, parse_role
from pipelined_api.address import Address, InvalidAddress, parse_address

# Owner and group may connect.
SOCKET_MODE = 0o660
_MOST_MODE = 0o777
_OPTIONS = re.compile(r"(?P<address>.*?)(?P<options>(,(role|mode|group)=[^,]*)*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address to listen on.

    Attributes:
        address: Where.
        role: The highest that callers have who come in there.
        mode: Of the socket.
        group: That the socket belongs to, a name or a number; empty for the daemon's own.
    """

    address: Address
    role: Role = Role.ADMIN
    mode: int = SOCKET_MODE
    group: str = ""

    def __str__(self) -> str:
        return str(self.address)


def parse_listen_address(text: str) -> ListenAddress:
    """Read an address with options after it; see ``pipelined_api.address`` for the address.

    Raises:
        InvalidAddress: It is none; the text says why.
    """
    found = _OPTIONS.fullmatch(text)
    assert found is not None  # it matches everything
    address = parse_address(found["address"])
    given: dict[str, str] = {}
    for option in filter(None, found["options"].split(",")):
        key, _, value = option.partition("=")
        if key in given:
            raise InvalidAddress(f"address {text!r} has two options {key}")
        given[key] = value
    if address.path is None and (wrong := given.keys() & {"mode", "group"}):
        raise InvalidAddress(f"address {text!r}: only unix sockets have a {sorted(wrong)[0]}")
    try:
        role = parse_role(given["role"]) if "role" in given else Role.ADMIN
    except InvalidRole as error:
        raise InvalidAddress(f"address {text!r}: {error}") from None
    mode = SOCKET_MODE
    if "mode" in given:
        digits = given["mode"]
        if re.fullmatch("[0-7]{1,4}", digits) is None or int(digits, 8) > _MOST_MODE:
            raise InvalidAddress(f"address {text!r}: the mode has to be like 0660")
        mode = int(digits, 8)
    if given.get("group") == "":
        raise InvalidAddress(f"address {text!r} names no group")
    return ListenAddress(address, role, mode, given.get("group", ""))
