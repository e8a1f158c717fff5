"""Which stores a server opens, and when: the one for new files, and each one that records name.

A store that cannot be reached does not keep the server from starting: its files answer 503 `storage_unavailable`
until it is there. One that records name and no setting describes is reported in the log, and the rest goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from urllib.parse import urlsplit

from hypersend_server.errors import HyperSendError
from hypersend_server.settings import Settings
from hypersend_storage import NamedFirst, Presigned, Store, make_store
from hypersend_storage.base import chunk_size_for
from hypersend_storage.errors import StorageError, StorageUnavailable

RETRY_S = 5.0
CHECK_S = 5.0
log = logging.getLogger(__name__)


class Stores:
    """open: the stores that can be used, by name; the others join it later, so share it, don't copy it.

    named: asks for the names that records carry. make: a store that is not open yet, by its name.
    """

    def __init__(
        self, settings: Settings, named: Callable[[], Awaitable[Collection[str]]], *,
        make: Callable[[Settings, str], Store] | None = None, retry_s: float = RETRY_S,
    ) -> None:
        self.open: dict[str, Store] = {}
        self._settings = settings
        self._named = named
        self._make = make or make_configured
        self._retry_s = retry_s
        self._absent: dict[str, str] = {}
        self._all: list[Store] = []
        self._retrying: asyncio.Task[None] | None = None

    async def start(self, *, must: Collection[str] = ()) -> None:
        """Open what is wanted. must: names without which nothing shall begin; the local store always is one, but with
        MongoDB and object storage it is left out unless records name it: then DATA_ROOT need not be there at all.

        Raises: StorageError with a sentence for the operator.
        """
        wanted = {self._settings.storage_backend, *must, *await self._named()}
        if not self._settings.mongodb_uri:
            wanted.add("local")  # DATA_ROOT is there for the database
        if self._settings.s3_endpoint:
            wanted.add("s3")
        for name in sorted(wanted):
            problem = await self._try(name)
            if problem and (name == "local" or name in must):
                raise StorageUnavailable(problem)

    def keep_trying(self) -> None:
        """Open in the background what could not be opened."""
        self._retrying = asyncio.create_task(self._retry())

    async def check(self) -> None:
        """Raises: `storage_unavailable` where a store that is wanted does not answer."""
        if self._absent:
            raise HyperSendError("storage_unavailable", next(iter(self._absent.values())))
        for store in list(self.open.values()):
            try:
                async with asyncio.timeout(CHECK_S):
                    await store.free_bytes()
                    if isinstance(store, NamedFirst):  # which says nothing of what is free: ask for what is not there
                        await store.size(store.reserve("probe").removesuffix("?"))
            except (StorageError, TimeoutError) as error:
                raise HyperSendError("storage_unavailable") from error

    def direct_origins(self) -> list[str]:
        """Of the URLs that clients are sent to: their browsers must be let go there."""
        if not self._settings.s3_endpoint or not self._settings.s3_direct:
            return []
        found = [self._settings.s3_public_endpoint or self._settings.s3_endpoint]
        store = self.open.get("s3")
        if store is not None and isinstance(store, Presigned) and isinstance(store, NamedFirst):
            # Some stores are addressed by a host of each bucket's own.
            signed = store.sign_read(store.reserve("probe").removesuffix("?"), disposition="", mime="", expires_s=1)
            found.append(signed.url)
        return sorted({f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, found)})

    async def close(self) -> None:
        if self._retrying is not None:
            self._retrying.cancel()
            with suppress(asyncio.CancelledError):
                await self._retrying
        for store in self._all:
            await store.close()

    async def _try(self, name: str) -> str:
        """Why it is not open, or ''."""
        if name in self.open:
            return ""
        try:
            store = self._make(self._settings, name)
        except (StorageError, ImportError, KeyError, ValueError) as error:
            return self._note(name, f"files, or bytes that wait for their removal, are on the storage '{name}', "
                              f"which cannot be opened: {error}")
        try:
            await store.open()
        except StorageError as error:
            await store.close()
            return self._note(name, str(error))
        self._all.append(store)
        self.open[name] = store
        if self._absent.pop(name, None) is not None:
            log.info("the storage '%s' is there now", name)
        return ""

    def _note(self, name: str, problem: str) -> str:
        if self._absent.get(name) != problem:  # once, not at every try
            log.error("%s", problem)
        self._absent[name] = problem
        return problem

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(self._retry_s)
            for name in list(self._absent):
                await self._try(name)


def make_configured(settings: Settings, name: str) -> Store:
    """A store by the settings, not open yet.

    Raises: StorageUnavailable where the settings do not describe it; KeyError; ImportError; ValueError.
    """
    if name == "local":
        return make_store("local", root=settings.data_root)
    if name == "s3":
        if not settings.s3_endpoint:
            raise StorageUnavailable("S3_ENDPOINT, S3_BUCKET, S3_ACCESS_KEY and S3_SECRET_KEY are not set")
        try:
            return make_store(
                "s3", endpoint=settings.s3_endpoint, public_endpoint=settings.s3_public_endpoint,
                bucket=settings.s3_bucket, access_key=settings.s3_access_key, secret_key=settings.s3_secret_key,
                region=settings.s3_region, direct=settings.s3_direct, buffer_bytes=settings.s3_buffer_bytes,
                largest_chunk=chunk_size_for(settings.max_file_size))
        except ImportError as error:
            raise ImportError(f"pip install 'hypersend[s3]' ({error})") from error
    return make_store(name)
