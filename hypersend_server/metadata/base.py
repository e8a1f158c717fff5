"""The contract of a metadata backend: one small protocol a room, gathered here.

Every backend passes `hypersend_server.metadata.conformance`. Each method is one atomic change or one consistent
read; rules that must hold under concurrency (membership, order, quotas, receipts) are inside the methods, not
in their callers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hypersend_server.metadata.accounts import Accounts
from hypersend_server.metadata.chats import Chats
from hypersend_server.metadata.files import Files
from hypersend_server.metadata.releases import Releases
from hypersend_server.metadata.server import ServerRecords
from hypersend_server.metadata.transfers import Transfers


class Metadata(Protocol):
    @property
    def accounts(self) -> Accounts: ...

    @property
    def chats(self) -> Chats: ...

    @property
    def files(self) -> Files: ...

    @property
    def transfers(self) -> Transfers: ...

    @property
    def releases(self) -> Releases: ...

    @property
    def server(self) -> ServerRecords: ...

    async def open(self) -> None:
        """Connect, bring the schema up to date. Raises: MetadataError with a sentence for the operator."""

    async def close(self) -> None: ...

    @property
    def waiting(self) -> int:
        """Writes that wait for their turn, for metrics."""

    def on_unheard(self, listener: Callable[[], None]) -> None:
        """`listener()` is called once writes succeed again after one whose writer was told that it failed, though it
        was made, or may have been: nobody has told of it whom it concerns."""

    @property
    def has_room(self) -> bool:
        """False while the database's disk is full: then only what makes it no larger is to be accepted."""
