"""How far a run that streams may be ahead of its caller: what both ends of a channel agree on."""

from __future__ import annotations

from collections import deque

__all__ = ["FILE_BYTES", "MAX_AHEAD_BYTES", "MAX_AHEAD_MESSAGES", "Ahead"]

# Small elements, such as tokens, are to come without a pause for each.
MAX_AHEAD_MESSAGES = 16
# Larger ones are sent one at a time.
MAX_AHEAD_BYTES = 1024 * 1024
# What a file counts that a message refers to: each is an open descriptor in the daemon.
FILE_BYTES = 16 * 1024


class Ahead:
    """The messages that have been sent and not been taken."""

    def __init__(self) -> None:
        self._sizes: deque[int] = deque()
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether another one has to wait."""
        return len(self._sizes) >= MAX_AHEAD_MESSAGES or self._bytes > MAX_AHEAD_BYTES

    def sent(self, size: int, files: int) -> None:
        """Count a message of so many bytes that refers to so many files."""
        size += files * FILE_BYTES
        self._sizes.append(size)
        self._bytes += size

    def taken(self, messages: int) -> None:
        """Count so many messages no more, the oldest first."""
        for _ in range(min(messages, len(self._sizes))):
            self._bytes -= self._sizes.popleft()
