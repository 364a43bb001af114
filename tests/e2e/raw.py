"""Messages that no client would send, with answers as a client takes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline._transport import BlockingTransport


@contextmanager
def transport(address: str) -> Iterator[BlockingTransport]:
    """A channel of a client's, to be driven with ``pipeline._transport.drive``."""
    made = BlockingTransport(address)
    try:
        yield made
    finally:
        made.close()
