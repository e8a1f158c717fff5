"""When a transfer is put on the server instead: the sender's device vouches for the file, and the receiver's checks it.

The server says that this happened, and of which file. A device that has accepted a sealed transfer does not take its
word for that: the file has the name, the size and the owner that were offered, and the sender's device vouches for
what is in it, with a key that only the two devices have. Without that it gets no name here.

    vouch = HMAC-SHA256(HKDF-SHA256(key, salt = none, "hypersend-p2p-1", "stored"; 32 bytes), tag, name, size)

key, tag: those of the whole file (`p2p_seal`). The tag itself stays secret, since Poly1305 serves for one message.
Source: RFC 2104, RFC 5869.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hypersend_client.sdk.errors import ApiError, HyperSendError
from hypersend_client.sdk.journal import Identity
from hypersend_client.sdk.models import File, Message
from hypersend_client.sdk.p2p_calls import PeerCalls, PeerTransfer
from hypersend_client.sdk.p2p_digest import RunningTag
from hypersend_client.sdk.p2p_journal import PeerJournal, PeerRow
from hypersend_client.sdk.p2p_seal import PROTOCOL, decode_key, encode_key, file_key
from hypersend_client.sdk.parts import Part
from hypersend_client.sdk.source import Source, Window
from hypersend_client.sdk.transfer_errors import PeerAway, SourceChanged, Tampered
from hypersend_client.sdk.transfers import P2P, Transfers
from hypersend_client.sdk.uploads import Upload, init_body

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from hypersend_client.sdk.client import HyperSend
    from hypersend_client.sdk.p2p_receiver import PeerReceiver

log = logging.getLogger(__name__)


def vouch_of(key: bytes, tag: str, name: str, size: int) -> str:
    """64 hex digits. key: `p2p_seal.file_key`. tag: of the whole file, 32 hex digits."""
    own = HKDF(SHA256(), 32, salt=None, info=_joined(PROTOCOL, b"stored")).derive(key)
    return hmac.digest(own, _joined(tag.encode(), name.encode(), str(size).encode()), "sha256").hex()


def _joined(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


async def tag_of(
    path: str, key: bytes, pool: ThreadPoolExecutor, size: int, identity: Identity | None = None
) -> str:
    """Of a whole file on this disk, read once. identity: of what it has to be. Raises: FileUnreadable, SourceChanged.
    """
    source, window = Source(path, pool), Window()
    try:
        found = await source.open()
        if found.size != size or not (identity is None or found.is_content_of(identity)):
            raise SourceChanged(path)
        running = RunningTag(key, lambda start, length: source.read(start, length, window), pool)
        try:
            tag = await running.whole(size)
        finally:
            await running.stop()
        await source.check()
        return tag
    finally:
        await source.close()


class StoredInstead:
    """Both sides of it, for one account. Raises, where it says nothing else: HyperSendError."""

    def __init__(
        self, hs: HyperSend, calls: PeerCalls, transfers: Transfers, journal: PeerJournal, pool: ThreadPoolExecutor
    ) -> None:
        self._hs = hs
        self._calls = calls
        self._transfers = transfers
        self._journal = journal
        self._pool = pool
        self._posting: dict[str, asyncio.Task[Message | None]] = {}

    async def close(self) -> None:
        tasks = list(self._posting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # The sender's side

    async def upload(
        self, row: PeerRow, info: PeerTransfer, device: X25519PrivateKey, account: tuple[str, str]
    ) -> Upload:
        """Bring the file to the server, vouch for it, and post the message that shows it. info: as `store` answered."""
        job = P2P + info.id
        transfers = self._transfers
        upload_row = await transfers.journal.find_upload(account, row.path, job)
        if upload_row is None:
            body = init_body(row.name, row.identity, info.chat_id, None, {})
            upload_row = await transfers.journal.add_upload(account, row.path, row.identity, job, body)
            await transfers.journal.note_upload(upload_row.id, info.file_id or "", done=False)
        upload = await transfers.upload(row.path, name=row.name, chat_id=info.chat_id, job=job, keep=True)
        if info.id not in self._posting:
            posting = self._posting[info.id] = asyncio.create_task(self._post(upload, info, row, device, account))
            posting.add_done_callback(lambda _: self._posting.pop(info.id))
        return upload

    async def posted(self, transfer_id: str) -> Message | None:
        """Wait for the message that shows the file; None where it is out already, or the upload came to nothing."""
        posting = self._posting.get(transfer_id)
        return None if posting is None else await asyncio.shield(posting)

    async def _post(
        self, upload: Upload, info: PeerTransfer, row: PeerRow, device: X25519PrivateKey, account: tuple[str, str]
    ) -> Message | None:
        """The sender's word first: whoever sees the message finds it. Each once, also when this is done again."""
        try:
            file = await upload.wait()
        except HyperSendError:
            return None  # the upload says so itself; `resume` goes on
        vouch = await self._vouch(info, row, device)
        backoff = self._hs.transport.backoff()
        while True:
            try:
                if vouch is not None:
                    await self._calls.vouch(info.id, vouch)
                message = await self._hs.messages.send(
                    info.chat_id, "", file_ids=[file.id], client_id=f"stored-{info.id}")
                break
            except HyperSendError as error:
                if not error.retryable:
                    raise
                await backoff.wait(error)
        await self._transfers.journal.drop_job(account, P2P + info.id)
        await self._journal.drop(row.key)
        return message

    async def _vouch(self, info: PeerTransfer, row: PeerRow, device: X25519PrivateKey) -> str | None:
        """None where nobody had accepted it, and where this is not the device any more that offered it."""
        if not info.receiver_key:
            return None
        try:
            if info.sender_key != encode_key(device.public_key().public_bytes_raw()):
                return None
            if await self._journal.first_key(row.key, info.receiver_key) != info.receiver_key:
                raise Tampered("the server tells another key for the other device than before")
            key = file_key(device, decode_key(info.receiver_key), info.id)
            tag = await tag_of(row.path, key, self._pool, row.identity.size, row.identity)
        except HyperSendError as error:  # the file is there for all in the chat nevertheless
            log.warning("this device cannot vouch for what it stored for %s: %s", info.id, error)
            return None
        return vouch_of(key, tag, row.name, row.identity.size)

    # The receiver's side

    async def receive(self, end: PeerReceiver, file_id: str, device: X25519PrivateKey) -> Path:
        """Wait until the file is on the server, fetch what is missing, and check the whole before it gets its name.

        Raises: Tampered.
        """
        end.came_through_server = True
        known_key = await self._journal.known_key(end.row.key)  # '' where nothing was accepted on this device
        vouch: str | None = None
        backoff = self._hs.transport.backoff(most_s=5.0)
        while True:
            try:
                file = await self._hs.files.get(file_id, digests=True)
                info = await self._calls.get(end.info.id)
                if file.state == "complete":
                    _require_same(file, end.info)
                    vouch = info.vouch
                    if vouch is not None or known_key is None:
                        break
                    if self._hs.account is None or file.owner_id != self._hs.account.user_id:
                        raise Tampered("the device that sent it does not vouch for the file on the server")
                error: HyperSendError = PeerAway()  # of one's own, which one sees before it is vouched for
            except ApiError as refused:
                if not refused.retryable and refused.status != 404:
                    raise
                error = refused if refused.retryable else PeerAway()  # the message that shows it is still to come
            except HyperSendError as failed:
                if not failed.retryable:
                    raise
                error = failed
            await end.wait_for(error, backoff)

        async def check(path: Path) -> None:
            if known_key is None:
                return
            key = file_key(device, decode_key(known_key), end.info.id)
            tag = await tag_of(str(path), key, self._pool, file.size)
            if not hmac.compare_digest(vouch_of(key, tag, end.info.name, file.size), str(vouch)):
                raise Tampered("the file on the server is not the one that its sender put there")
            end.is_vouched = True

        await self._adopt(end, file)
        download = await self._transfers.download(file, to=end.target, check=check)
        follow = download.on_progress(end.show)
        try:
            path = await download.wait()
        finally:
            follow()
        if not end.is_vouched:
            await check(path)  # it had its name already when this program began
        return path

    async def _adopt(self, end: PeerReceiver, file: File) -> None:
        old = end.part()
        new = Part(end.target, file, (await self._transfers.account())[0], self._pool)

        def work() -> None:
            if old.path.exists() and not new.path.exists():
                new.adopt(old.path, end.verified_bytes)
            old.journal_path.unlink(missing_ok=True)

        await new.do(work)


def _require_same(file: File, info: PeerTransfer) -> None:
    if (file.size, file.name, file.owner_id) != (info.size, info.name, info.sender_id):
        raise Tampered("the file on the server is another one than was offered")
