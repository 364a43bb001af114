"""TLS of the listeners, with certificates that can be replaced while they serve."""

from __future__ import annotations

import ssl

import grpc

from pipelined.credentials import TlsFiles
from pipelined.rpc.listener import ListenError


class Tls:
    """The certificates that new connections get.

    Args:
        files: Where they are.

    Raises:
        ListenError: They cannot be read, or do not belong together.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._configuration = self._load()
        # gRPC asks at each handshake, on a thread of its own.
        self.credentials = grpc.dynamic_ssl_server_credentials(
            self._configuration,
            lambda: self._configuration,
            require_client_authentication=files.client_ca is not None,
        )

    def reload(self) -> None:
        """Read the files again: new connections get what is in them, the others stay as they are.

        Raises:
            ListenError: They cannot be used; those that were read before stay in use.
        """
        self._configuration = self._load()

    def _load(self) -> grpc.ServerCertificateConfiguration:
        files = self._files
        try:
            # gRPC would find out at the first handshake, and say nothing.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files.cert, files.key, password=_no_password)
            authorities = None
            if files.client_ca is not None:
                context.load_verify_locations(files.client_ca)
                authorities = files.client_ca.read_bytes()
            pair = (files.key.read_bytes(), files.cert.read_bytes())
        except (OSError, ValueError) as error:
            # ssl.SSLError is an OSError, too.
            reason = _reason(files, error)
            raise ListenError(
                f"the certificate {str(files.cert)!r} cannot be used with the key "
                f"{str(files.key)!r}"
                + (f" and the authorities {str(files.client_ca)!r}" if files.client_ca else "")
                + f": {reason}"
            ) from None
        return grpc.ssl_server_certificate_configuration([pair], authorities)


def _reason(files: TlsFiles, error: OSError | ValueError) -> str:
    """What is wrong, in words; OpenSSL names neither the file nor what it wanted of it."""
    for path in filter(None, (files.cert, files.key, files.client_ca)):
        try:
            content = path.read_bytes()
        except OSError as unreadable:
            return f"{str(path)!r}: {unreadable.strerror}"
        if b"-----BEGIN " not in content:
            return f"{str(path)!r} is no PEM file"
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return "the key is that of another certificate"
    return str(reason or getattr(error, "strerror", None) or error)


def _no_password() -> str:
    raise ValueError("the key wants a password")
