"""Outputs and lines that come one at a time, for programs on asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["AsyncStream"]

T = TypeVar("T")


class AsyncStream(Generic[T]):
    """An asynchronous iterator that can be closed, which ends whatever makes its elements."""

    def __init__(self, elements: AsyncGenerator[T, None]) -> None:
        self._elements = elements

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        return await anext(self._elements)

    async def aclose(self) -> None:
        """Ask for no more elements: a generator's ``finally`` is executed. May be called again."""
        await self._elements.aclose()

    async def __aenter__(self) -> AsyncStream[T]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
