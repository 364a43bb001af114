"""Where the daemon's secrets are: said by the settings, else given by systemd, else the default.

systemd puts credentials (``LoadCredential=tokens:/etc/pipelined/tokens``) into
``$CREDENTIALS_DIRECTORY``, by these names: ``tokens``, ``tls-cert``, ``tls-key`` and
``tls-client-ca``. Those of a folder (``LoadCredential=pipelined:FOLDER``, as in our unit) begin
with ``pipelined_``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelined.settings import Settings

DIRECTORY = "CREDENTIALS_DIRECTORY"
TOKENS = "tokens"
_OF_FOLDER = "pipelined_"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of the listeners.

    Attributes:
        cert: The daemon's certificate, and those between it and its authority.
        key: Its private key.
        client_ca: Of the authorities that clients have to have certificates from; None if clients
            need none.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where they are.

    Attributes:
        tokens: The file of tokens.
        tokens_private: Whether it has to be for its owner alone; see ``store/tokens.py``.
        tls: None if there is none.
        directory: Of systemd's credentials; None if there are none.
    """

    tokens: Path
    tokens_private: bool
    tls: TlsFiles | None
    directory: Path | None

    def secret_paths(self) -> tuple[Path, ...]:
        """Files and folders that user code has no business with, besides the state directory."""
        paths = [self.tokens]
        if self.tls is not None:
            paths.append(self.tls.key)
        if self.directory is not None:
            paths.append(self.directory)
        return tuple(paths)


def find_credentials(
    settings: Settings, environment: Mapping[str, str] | None = None
) -> Credentials:
    """Return where the credentials of a daemon with these settings are."""
    environment = os.environ if environment is None else environment
    given = environment.get(DIRECTORY)
    directory = Path(given).absolute() if given else None

    def credential(name: str) -> Path | None:
        if directory is None:
            return None
        candidates = (directory / name, directory / f"{_OF_FOLDER}{name}")
        return next((path for path in candidates if path.exists()), None)

    tls = None
    cert = settings.tls.cert or credential("tls-cert")
    key = settings.tls.key or credential("tls-key")
    if cert is not None and key is not None:
        tls = TlsFiles(cert, key, settings.tls.client_ca or credential("tls-client-ca"))
    if settings.tokens.file is not None:
        return Credentials(settings.tokens.file, True, tls, directory)
    from_systemd = credential(TOKENS)
    if from_systemd is not None:
        return Credentials(from_systemd, False, tls, directory)
    return Credentials(settings.daemon.state_directory / TOKENS, True, tls, directory)
