"""What a client proves itself and knows its daemon by: a token, certificates.

The token is a secret: it is in the metadata of calls, and in nothing that is printed or raised.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from pipeline import errors
from pipeline._checks import check_text
from pipelined_api.address import Address

__all__ = ["Credentials", "read_token"]

_PEM = b"-----BEGIN "
_VARIABLES = {"ca": "PIPELINED_CA", "cert": "PIPELINED_CERT", "key": "PIPELINED_KEY"}


@dataclass(frozen=True)
class Credentials:
    """What is given to a client; what is not comes from the environment.

    Attributes:
        token: sent with every call. None: ``PIPELINED_TOKEN``, else what is in the file that
            ``PIPELINED_TOKEN_FILE`` names, else none.
        tls: TLS with the system's certificates; any of the others means TLS, too.
        ca: PEM file with the authorities to trust. None: ``PIPELINED_CA``.
        cert: PEM file with the client's certificate. None: ``PIPELINED_CERT``.
        key: PEM file with its private key. None: ``PIPELINED_KEY``.

    """

    token: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None

    def for_address(self, address: Address) -> tuple[str | None, grpc.ChannelCredentials | None]:
        """Return the token, and the credentials of the channel, None without TLS.

        Raises:
            errors.InvalidInput: a file cannot be read, or the token would be sent in the clear.

        """
        if self.token is not None:
            check_text(self.token, "token", "the token")
        token = _checked(self.token) or _token_of_environment()
        if address.path is not None:
            # Variables are for whatever daemon is talked to; arguments for this one.
            for name in ("tls", "ca", "cert", "key"):
                if getattr(self, name):
                    raise errors.InvalidInput(
                        f"{address} is a unix socket, which has no TLS", field=name
                    )
            return token, None
        paths = {
            name: getattr(self, name) or os.environ.get(variable) or None
            for name, variable in _VARIABLES.items()
        }
        if (paths["cert"] is None) != (paths["key"] is None):
            missing = "key" if paths["key"] is None else "cert"
            raise errors.InvalidInput(
                f"a certificate and its key belong together: there is no {missing}", field=missing
            )
        if self.tls or any(paths.values()):
            ca, cert, key = (_pem(name, path) for name, path in paths.items())
            return token, grpc.ssl_channel_credentials(ca, key, cert)
        if token is not None and not address.is_loopback:
            raise errors.InvalidInput(
                f"a token for {address} would be sent in the clear: give tls=True or ca=, or set "
                "PIPELINED_CA",
                field="token",
            )
        return token, None


def read_token(path: str | Path) -> str:
    """Return the token in a file.

    Raises:
        errors.InvalidInput: it cannot be read, or there is none in it.

    """
    try:
        text = Path(path).read_text().strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise errors.InvalidInput(
            f"the token in {str(path)!r} cannot be read: {reason}", field="token"
        ) from None
    if not text:
        raise errors.InvalidInput(f"there is no token in {str(path)!r}", field="token")
    return _checked(text, f" in {str(path)!r}") or ""


def _token_of_environment() -> str | None:
    if token := os.environ.get("PIPELINED_TOKEN"):
        return _checked(token.strip())
    if path := os.environ.get("PIPELINED_TOKEN_FILE"):
        return read_token(path)
    return None


def _checked(token: str | None, where: str = "") -> str | None:
    """The token, unless gRPC would complain about it, with the token in its complaint."""
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise errors.InvalidInput(
            f"the token{where} has characters that no token has", field="token"
        )
    return token or None


def _pem(name: str, path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    if not isinstance(path, (str, os.PathLike)):
        raise errors.InvalidInput(
            f"{name} has to be the path of a PEM file, not {type(path).__name__}", field=name
        )
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise errors.InvalidInput(
            f"the file {str(path)!r} cannot be read: {error.strerror}", field=name
        ) from None
    # gRPC would only say at the first call that it cannot make a connection.
    if _PEM not in content:
        raise errors.InvalidInput(f"there is no PEM in the file {str(path)!r}", field=name)
    return content
