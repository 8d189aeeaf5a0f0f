"""The store in a thread of its own: its calls wait for the disk, which the server's other requests must not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from latentshift.study.store import Store

P = ParamSpec("P")
R = TypeVar("R")


class StoreThread:
    """Calls methods of one store, one after the other, in the thread that opened it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "study-store")
        self._store: Store | None = None

    async def open(self) -> None:
        """Open the store.

        Raises:
            FileNotFoundError, ValueError: where the folder holds no study.
        """
        self._store = await self._run(lambda: Store(self._folder))

    async def close(self) -> None:
        """Close the store, when the calls before this one are done."""
        await self._run(self._opened().close)
        self._thread.shutdown()

    async def call(self, method: Callable[Concatenate[Store, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """``method(store, …)``; it runs to its end, also where whoever asked has gone."""
        store = self._opened()
        return await self._run(lambda: method(store, *args, **kwargs))

    async def _run(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _opened(self) -> Store:
        assert self._store is not None
        return self._store
