"""Files on the server: what is there, links, removal. Sending and fetching bytes: `uploads`, `downloads`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from hypersend_client.sdk.models import Direct, File, Page, Ticket
from hypersend_client.sdk.pages import page_of, read
from hypersend_client.sdk.transport import Transport


class Files:
    def __init__(self, transport: Transport) -> None:
        self._http = transport

    async def page(
        self,
        *,
        chat_id: str | None = None,
        state: str | None = None,
        text: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[File]:
        """One's own, or a chat's. text: part of the name."""
        return page_of(
            File,
            await self._http.call(
                "GET",
                "/files",
                query={"chat_id": chat_id, "state": state, "q": text, "limit": limit, "cursor": cursor},
            ),
        )

    async def get(self, file_id: str, *, digests: bool = False) -> File:
        """digests: with `chunk_sha256`, the digest of every chunk."""
        return read(
            File,
            await self._http.call("GET", file_path(file_id), query={"digests": True} if digests else None),
        )

    async def delete(self, file_id: str) -> None:
        """Abort the upload, or remove the file for everyone."""
        await self._http.call("DELETE", file_path(file_id))

    async def init(self, body: dict[str, Any], *, idempotency_key: str) -> File:
        """Begin an upload; the same key again answers the same file.

        body: `name, size, mime?, sha256?, chat_id?, width?, height?, duration_s?, preview?`.
        Raises: ApiError `file_too_large`, `quota_exceeded`, `storage_full`.
        """
        return read(
            File,
            await self._http.call(
                "POST",
                "/files/init",
                json=body,
                headers={"Idempotency-Key": idempotency_key},
                idempotent=True,
            ),
        )

    async def parts(self, file_id: str, parts: Sequence[tuple[int, str]]) -> Direct:
        """URLs of an object store for these (index, sha256) of parts, at most 200."""
        body = {"parts": [{"index": index, "sha256": digest} for index, digest in parts]}
        return read(Direct, await self._http.call("POST", file_path(file_id, "/parts"), json=body, idempotent=True))

    async def complete(self, file_id: str) -> File | None:
        """None where the object store needs more time: ask again.

        Raises: ApiError `chunks_missing` (extra `missing`), `verifying`, `upload_expired`, `upload_lost`.
        """
        answer = await self._http.call("POST", file_path(file_id, "/complete"), idempotent=True)
        file = read(File, answer)
        return file if answer.status != 202 and file.state == "complete" else None

    async def ticket(self, file_id: str, *, expires_in: int | None = None) -> Ticket:
        """A download link that needs no token. expires_in: seconds, by default a day."""
        body = {} if expires_in is None else {"expires_in": expires_in}
        return read(Ticket, await self._http.call("POST", file_path(file_id, "/ticket"), json=body, idempotent=True))

    async def upload_ticket(self, *, chat_id: str | None = None) -> Ticket:
        """A link to the upload page for a browser; it is good for files that it begins itself."""
        body = {} if chat_id is None else {"chat_id": chat_id}
        return read(Ticket, await self._http.call("POST", "/files/upload-ticket", json=body, idempotent=True))


def file_path(file_id: str, rest: str = "") -> str:
    return f"/files/{quote(file_id, safe='')}{rest}"
