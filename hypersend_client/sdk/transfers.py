"""All uploads and downloads of one account on this device.

    transfers = Transfers(hs, state_folder() / "transfers.sqlite")
    upload = await transfers.upload("big.iso", chat_id=chat.id)
    path = await (await transfers.download(file_id)).wait()
    await transfers.resume()        # after a restart: go on with whatever was not finished
    await transfers.close()

The same call with the same file goes on with what is there. Give `transfers` to `HyperSend.uploads` before
`hs.start()`, and messages in the outbox wait for their files: `attach` answers the reference for
`hs.outbox.put(local_files=[…])`.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hypersend_client.sdk.client import HyperSend
from hypersend_client.sdk.downloads import Check, Download
from hypersend_client.sdk.errors import ApiError, SignedOut
from hypersend_client.sdk.events import Event, StateChanged
from hypersend_client.sdk.journal import DownloadRow, Identity, Journal, UploadRow
from hypersend_client.sdk.models import File
from hypersend_client.sdk.places import downloads_folder, safe_name
from hypersend_client.sdk.retry import Backoff
from hypersend_client.sdk.source import Source, Window
from hypersend_client.sdk.transfer import RateLimit
from hypersend_client.sdk.transfer_errors import RemoteFileGone, UploadRemoved
from hypersend_client.sdk.uploads import CLAIM_BYTES, Upload, init_body

OUTBOX, SEND, P2P = "outbox:", "send:", "p2p:"
"""Jobs of uploads that a message waits for."""
PEER = "p2p-"
"""Ids of downloads that `hs.p2p` begins, checks and goes on with."""


class Transfers:
    """journal: its path, or one that is shared. folder: where downloads go, by default the platform's Downloads.

    parallel: requests at once of one transfer. max_active: transfers at once. give_up_s: as `Transfer`'s.
    """

    def __init__(
        self,
        hs: HyperSend,
        journal: Journal | str | os.PathLike[str],
        *,
        folder: Path | None = None,
        parallel: int = 4,
        max_active: int = 3,
        give_up_s: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.journal = journal if isinstance(journal, Journal) else Journal(journal)
        self.folder = folder
        self.upload_limit = RateLimit(monotonic=monotonic)
        self.download_limit = RateLimit(monotonic=monotonic)
        self.uploads: dict[str, Upload] = {}
        self.downloads: dict[str, Download] = {}
        self._hs = hs
        self._pool = ThreadPoolExecutor(max_active * parallel, thread_name_prefix="hypersend transfer")
        # Theirs are blocked for as long as bytes move, so the disk has threads of its own.
        self._bulk = ThreadPoolExecutor(2 * max_active * parallel, thread_name_prefix="hypersend bulk")
        self._adding = asyncio.Lock()
        self._common: dict[str, Any] = {
            "transport": hs.transport,
            "files": hs.files,
            "journal": self.journal,
            "pool": self._pool,
            "bulk": self._bulk,
            "parallel": parallel,
            "backoff": self._backoff,
            "give_up_s": give_up_s,
            "monotonic": monotonic,
        }
        self._up_turn = asyncio.Semaphore(max_active)
        self._down_turn = asyncio.Semaphore(max_active)
        self._unsubscribe = hs.connection.on(self._on_event)
        hs.attach_transfers(self)

    async def close(self) -> None:
        """Stop all for now."""
        self._unsubscribe()
        await self._hs.detach_transfers()
        await asyncio.gather(*(transfer.stop() for transfer in self.all))
        await self.journal.close()
        self._pool.shutdown()
        self._bulk.shutdown()

    @property
    def all(self) -> list[Upload | Download]:
        """Those of this run, ended ones too."""
        return [*self.uploads.values(), *self.downloads.values()]

    async def upload(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        chat_id: str | None = None,
        job: str = "",
        keep: bool = False,
        **extra: Any,
    ) -> Upload:
        """Begin an upload, or go on with the one of this file for this job. It is started.

        job: what it is for, where the same file may be uploaded twice; by default the chat. keep: as `Upload`'s.
        extra: further fields of init, such as `width`, `height`, `preview`. An empty `name` is the file's own.
        Raises: FileUnreadable, SignedOut.
        """
        account = await self.account()
        full = await asyncio.to_thread(os.path.realpath, path)
        job = job or (f"chat:{chat_id}" if chat_id else "")
        async with self._adding:
            source = Source(full, self._pool)
            try:
                identity = await source.open()
                row = await self.journal.find_upload(account, full, job)
                if row is not None and not identity.is_content_of(row.identity):
                    await self.abandon(row)  # of what the file was before
                    row = None
                if row is None:
                    sha256 = await source.sha256(0, identity.size, Window()) if identity.size <= CLAIM_BYTES else None
                    body = init_body(name or Path(path).name, identity, chat_id, sha256, extra)
                    row = await self.journal.add_upload(account, full, identity, job, body)
            finally:
                await source.close()
            upload = self._upload(row, account, keep=keep)
        upload.start()
        return upload

    async def attach(self, path: str | os.PathLike[str], *, chat_id: str, name: str | None = None, **extra: Any) -> str:
        """Upload a file for a message in the outbox; the reference for `local_files`."""
        job = OUTBOX + uuid.uuid4().hex
        return (await self.upload(path, name=name, chat_id=chat_id, job=job, keep=True, **extra)).row.id

    async def ready(self, ref: str) -> str:
        """The file's id, once it is complete; what the outbox asks."""
        row = await self.journal.upload(ref)
        if row is None:
            raise UploadRemoved(ref)
        upload = self._upload(row, await self.account(), keep=True)
        upload.start()
        return (await upload.wait()).id

    async def download(
        self,
        file: File | str,
        *,
        folder: str | os.PathLike[str] | None = None,
        to: str | os.PathLike[str] | None = None,
        check: Check | None = None,
    ) -> Download:
        """Begin a download, or go on with it. It is started.

        to: the path to be made; by default the file's own name, made safe, in `folder`. check: asked about the whole
        file before it takes its name; what it raises ends the download. Whoever gives one goes on with it after a
        restart, since `resume` cannot.
        Raises: RemoteFileGone, SignedOut.
        """
        account = await self.account()
        if to is None:
            known = file if isinstance(file, File) else await self._file(file)
            file = known
            to = Path(folder or self.folder or downloads_folder()) / safe_name(known.name)
        size = file.size if isinstance(file, File) else 0
        file_id = file.id if isinstance(file, File) else file
        prefix = "" if check is None else PEER
        row = await self.journal.add_download(account, file_id, str(Path.cwd() / to), prefix=prefix)
        download = self._download(row, account, size)
        download.check = check or download.check
        download.start()
        return download

    async def resume(self) -> list[Upload | Download]:
        """Go on with all that was not finished when the program ended."""
        account = await self.account()
        found: list[Upload | Download] = [
            self._upload(row, account, keep=row.job.startswith((OUTBOX, SEND)))
            for row in await self.journal.uploads(account)
            if not row.done and not row.job.startswith(P2P)  # those are gone on with by `hs.p2p.resume`
        ]
        found += [
            self._download(row, account, 0) for row in await self.journal.downloads(account)
            if not row.id.startswith(PEER)]
        for transfer in found:
            transfer.start()
        return found

    def network_changed(self) -> None:
        """The device has another network, or woke up: try at once what waits."""
        for transfer in self.all:
            transfer.network_changed()

    # The journal

    async def account(self) -> tuple[str, str]:
        """(server_id, user_id) of whoever is signed in. Raises: SignedOut."""
        if self._hs.account is None:
            await self._hs.connect()  # the server may have moved: its account is known by `server_id`
        if self._hs.account is None:
            raise SignedOut
        return self._hs.account.key

    async def identify(self, path: str | os.PathLike[str]) -> tuple[str, Identity]:
        """A local file's full path, and what tells its content apart. Raises: FileUnreadable."""
        full = await asyncio.to_thread(os.path.realpath, path)
        source = Source(full, self._pool)
        try:
            return full, await source.open()
        finally:
            await source.close()

    async def abandon(self, row: UploadRow) -> None:
        """Call off an upload of the journal."""
        await self._upload(row, await self.account(), keep=False).cancel()
        self.uploads.pop(row.id, None)

    # Inside

    async def _file(self, file_id: str) -> File:
        try:
            return await self._hs.files.get(file_id)
        except ApiError as error:
            if error.status == 404:
                raise RemoteFileGone(file_id) from error
            raise

    def _upload(self, row: UploadRow, account: tuple[str, str], *, keep: bool) -> Upload:
        upload = self.uploads.get(row.id)
        if upload is None:
            upload = self.uploads[row.id] = Upload(
                row, account, keep=keep, turn=self._up_turn, limits=(self.upload_limit,), **self._common
            )
        return upload

    def _download(self, row: DownloadRow, account: tuple[str, str], size_bytes: int) -> Download:
        download = self.downloads.get(row.id)
        if download is None:
            download = self.downloads[row.id] = Download(
                row, account, size_bytes=size_bytes, turn=self._down_turn, limits=(self.download_limit,), **self._common
            )
        return download

    def _backoff(self) -> Backoff:
        return self._hs.transport.backoff()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, StateChanged) and event.state == "online":
            self.network_changed()
