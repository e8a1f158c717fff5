"""A message with local files, said twice and sent once.

    sending = await send(transfers, hs, chat.id, "Here it is", ["big.iso"])
    message = await sending.message()

The `client_id` stands in the journal until the server has the message, so the same call after a Ctrl-C or
a `kill -9`, at whatever moment, goes on with the uploads and makes one message.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypersend_client.sdk.client import HyperSend
from hypersend_client.sdk.errors import HyperSendError
from hypersend_client.sdk.models import Message
from hypersend_client.sdk.transfer_errors import TransferStalled
from hypersend_client.sdk.transfers import SEND, Transfers
from hypersend_client.sdk.uploads import Upload

MAX_FILES = 10


@dataclass(frozen=True, slots=True)
class Sending:
    """uploads: of its files, running."""

    hs: HyperSend
    transfers: Transfers
    chat_id: str
    text: str
    uploads: Sequence[Upload]
    job: str
    client_id: str
    give_up_s: float | None = None
    monotonic: Callable[[], float] = time.monotonic

    async def message(self) -> Message:
        """Wait for the files and send it.

        Raises: what ended an upload; TransferStalled; ApiError, `storage_full` at once, as with uploads.
        """
        files = [await upload.wait() for upload in self.uploads]
        backoff = self.hs.transport.backoff()
        began = self.monotonic()
        while True:
            try:
                message = await self.hs.messages.send(
                    self.chat_id, self.text, file_ids=[file.id for file in files], client_id=self.client_id
                )
                break
            except HyperSendError as error:
                if not error.retryable or error.code == "storage_full":
                    raise
                idle_s = self.monotonic() - began
                if self.give_up_s is not None and idle_s > self.give_up_s:
                    raise TransferStalled(idle_s, error) from error
                await backoff.wait(error)
        await self.transfers.journal.drop_job(await self.transfers.account(), self.job)
        return message


async def send(
    transfers: Transfers,
    hs: HyperSend,
    chat_id: str,
    text: str,
    paths: Sequence[str | os.PathLike[str]] = (),
    *,
    give_up_s: float | None = None,
) -> Sending:
    """Begin, or go on with, this very message. Raises: FileUnreadable, SignedOut."""
    account = await transfers.account()
    described = []
    for path in paths:
        full, identity = await transfers.identify(path)
        described.append((full, identity.size, identity.mtime_ns))
        for row in await transfers.journal.uploads(account):
            if row.path == full and row.job.startswith(SEND) and not identity.is_content_of(row.identity):
                await transfers.abandon(row)  # of what the file was before
    job = SEND + hashlib.sha256(repr((chat_id, text, described)).encode()).hexdigest()[:32]
    client_id = await transfers.journal.client_id(account, job)
    uploads = [
        await transfers.upload(full, name=os.path.basename(os.fspath(path)), chat_id=chat_id, job=job, keep=True)
        for path, (full, _, _) in zip(paths, described, strict=True)
    ]
    return Sending(hs, transfers, chat_id, text, uploads, job, client_id, give_up_s)
