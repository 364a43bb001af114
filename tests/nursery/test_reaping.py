"""Whose children orphans become."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pipelined.worker.offspring import is_subreaper
from tests.nursery.launching import launching


def test_orphans_are_inherited_as_long_as_there_is_a_nursery(tmp_path: Path) -> None:
    async def main() -> None:
        async with launching(tmp_path, ()):
            assert is_subreaper()

    assert not is_subreaper()
    asyncio.run(main())
    assert not is_subreaper()
