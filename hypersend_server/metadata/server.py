"""Records about the deployment itself: its identity, leases, the audit trail."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """server_id: made once, stays for ever. epoch: renewed when counters may have been set back (restore)."""

    server_id: str
    epoch: str


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing an administrator did. actor_id None: the operator's command line. at: Unix milliseconds."""

    id: str
    at: int
    actor_id: str | None
    action: str
    target: str
    detail: str


class ServerRecords(Protocol):
    async def identity(self) -> Identity:
        """Who this deployment is; made at the first call."""

    async def renew_epoch(self) -> Identity:
        """Tell every client to start its sync anew."""

    async def take_lease(self, name: str, holder: str, now_ms: int, ttl_ms: int) -> bool:
        """Take or extend the lease; False while another holder's has not expired."""

    async def release_lease(self, name: str, holder: str) -> None: ...

    async def lease_expiry(self, name: str, now_ms: int) -> int | None:
        """When the lease ends (Unix ms), or None where nobody holds it."""

    async def leases(self, prefix: str) -> list[tuple[str, int]]:
        """(name, when it ends in Unix ms) of all leases whose name begins so; those that ended, too, unless
        their holder released them."""

    async def forget_lease(self, name: str, ends_ms: int) -> None:
        """Remove a lease of which this is written as its end, as `leases` told; another one stays."""

    async def get_mark(self, name: str) -> str:
        """How far a walk through everything has come, as it noted it; '' where there is none."""

    async def set_mark(self, name: str, value: str) -> None:
        """Note it; '' forgets it."""

    async def add_audit(self, entry: AuditEntry) -> None: ...

    async def list_audit(self, before_id: str | None, limit: int) -> list[AuditEntry]:
        """Newest first."""

    async def ping(self) -> None:
        """Raises: HyperSendError `metadata_unavailable` where the database does not answer."""
