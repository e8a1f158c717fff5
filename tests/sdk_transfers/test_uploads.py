from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from hypersend_client.sdk import ApiError
from hypersend_client.sdk.sending import send
from hypersend_client.sdk.transfer import Progress
from hypersend_client.sdk.transfer_errors import (
    FileUnreadable,
    SourceChanged,
    TransferBusy,
    TransferCancelled,
    TransferStalled,
    UploadRemoved,
)
from hypersend_client.sdk.uploads import Upload
from tests.harness import Server, SettableClock
from tests.sdk_transfers.device import CHUNK, MIB, Device, device, digest
from tests.sdk_transfers.line import Line, line_to

HEADERS = 64 * 1024  # what requests cost besides the bytes of files


async def stored(server: Server, asha: Device, file_id: str) -> str:
    """The digest of what the server has, asked past the SDK."""
    account = asha.hs.account
    assert account is not None
    answer = await server.get(f"/files/{file_id}/download", headers={"Authorization": f"Bearer {account.access_token}"})
    assert answer.status == 200
    return hashlib.sha256(answer.body).hexdigest()


async def arrived(asha: Device, upload: Upload) -> int:
    """Bytes that the server has of it and that need not be sent again, once it has noted them all."""
    assert upload.file_id is not None
    seen = 0
    async with asyncio.timeout(60):
        while True:
            state = (await asha.hs.files.get(upload.file_id)).upload
            assert state is not None
            have = state.received_bytes + sum(size for _, size in state.partial)
            if have and have == seen:
                return have
            seen = have
            await asyncio.sleep(0.3)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 77])
async def test_what_arrives_is_what_was_sent(server: Server, asha: Device, size: int) -> None:
    path = asha.file("a.bin", size)
    seen: list[Progress] = []
    upload = await asha.transfers.upload(path, name="ä ☃.bin", mime="application/x-thing")
    upload.on_progress(seen.append)
    file = await upload.wait()
    assert (file.name, file.size, file.mime, file.state) == ("ä ☃.bin", size, "application/x-thing", "complete")
    assert await stored(server, asha, file.id) == digest(path)
    assert (seen[-1].state, seen[-1].done_bytes) == ("done", size)
    assert await asha.transfers.journal.uploads(await asha.transfers.account()) == []


async def test_a_name_that_is_no_text_is_sent_as_near_as_can_be(asha: Device) -> None:
    path = asha.file(os.fsdecode(b"caf\xe9.txt"), 10)
    file = await (await asha.transfers.upload(path)).wait()
    assert file.name == "caf\ufffd.txt"
    to = asha.home / os.fsdecode(b"caf\xe8.txt")
    assert await (await asha.transfers.download(file, to=to)).wait() == to


async def test_progress_grows_and_tells_speed_and_time_left(asha: Device) -> None:
    upload = await asha.transfers.upload(asha.file("a.bin", 4 * MIB))
    upload.limit.bytes_per_s = 4 * MIB
    seen = [progress async for progress in upload.updates(0.05)]
    running = [progress for progress in seen if progress.state == "running" and progress.done_bytes]
    assert [p.done_bytes for p in seen] == sorted(p.done_bytes for p in seen)
    assert len(running) > 5
    assert all(0 < p.bytes_per_s < 8 * MIB for p in running[3:])
    assert all(p.left_s is not None for p in running[3:])
    assert seen[-1].state == "done"


async def test_a_cut_chunk_goes_on_where_it_stopped(asha: Device, line: Line, server: Server) -> None:
    path = asha.file("a.bin", 3 * CHUNK)
    line.cut_each = CHUNK * 2 // 5  # no connection ever carries a whole chunk
    file = await (await asha.transfers.upload(path)).wait()
    line.cut_each = None
    assert line.cuts >= 6
    assert await stored(server, asha, file.id) == digest(path)


async def test_a_connection_that_falls_silent_costs_no_chunk(asha: Device, line: Line, server: Server) -> None:
    http = asha.hs.transport
    http.stall_s = http._read_s = 0.4
    await http.close()  # so that the pool is made anew with these times
    path = asha.file("a.bin", 2 * CHUNK)
    line.silent_after = 3 * MIB  # each chunk takes three connections
    file = await (await asha.transfers.upload(path)).wait()
    line.silent_after = None
    assert await stored(server, asha, file.id) == digest(path)


async def test_503_and_a_dead_network_are_waited_out(asha: Device, line: Line, server: Server) -> None:
    path = asha.file("a.bin", 2 * CHUNK)
    line.bytes_per_s = 40 * MIB
    upload = await asha.transfers.upload(path)
    await line.until_bytes(up=4 * MIB)
    line.refusals = 8
    line.cut()
    async for progress in upload.updates(0.01):
        if progress.state == "waiting" and isinstance(progress.error, ApiError):
            break
    line.is_open = False
    line.cut()
    async for progress in upload.updates(0.01):
        if progress.state == "waiting" and progress.error is not None and progress.error.code == "connection_failed":
            break
    line.is_open, line.bytes_per_s, line.refusals = True, None, 0
    file = await upload.wait()
    assert line.refused > 0
    assert await stored(server, asha, file.id) == digest(path)


async def test_pausing_stops_the_bytes_and_resuming_goes_on(asha: Device, line: Line, server: Server) -> None:
    path = asha.file("a.bin", 3 * CHUNK)
    upload = await asha.transfers.upload(path)
    upload.limit.bytes_per_s = 16 * MIB
    await line.until_bytes(up=4 * MIB)
    upload.pause()
    await line.until_still()
    assert upload.progress.state == "paused"
    have, before = await arrived(asha, upload), line.up_bytes
    assert have > 0
    upload.limit.bytes_per_s = None
    upload.resume()
    file = await upload.wait()
    assert line.up_bytes - before < 3 * CHUNK - have + HEADERS
    assert await stored(server, asha, file.id) == digest(path)


async def test_a_cancelled_upload_leaves_nothing_behind(asha: Device, line: Line) -> None:
    upload = await asha.transfers.upload(asha.file("a.bin", 3 * CHUNK))
    upload.limit.bytes_per_s = 8 * MIB
    await line.until_bytes(up=2 * MIB)
    await upload.cancel()
    with pytest.raises(TransferCancelled):
        await upload.wait()
    assert upload.progress.state == "cancelled"
    assert (await asha.hs.files.page()).items == []
    assert await asha.transfers.resume() == []


async def test_the_rate_limit_of_all_holds_for_all_together(asha: Device) -> None:
    loop = asyncio.get_running_loop()
    asha.transfers.upload_limit.bytes_per_s = 6 * MIB
    paths = [asha.file(f"{n}.bin", 2 * MIB) for n in range(3)]
    began = loop.time()
    await asyncio.gather(*[(await asha.transfers.upload(path)).wait() for path in paths])
    assert 0.7 < loop.time() - began < 2.5


@pytest.mark.parametrize("change", ["written", "replaced", "shortened"])
async def test_a_file_that_changes_while_it_is_sent_is_noticed(asha: Device, line: Line, change: str) -> None:
    path = asha.file("a.bin", 3 * CHUNK)
    upload = await asha.transfers.upload(path)
    upload.limit.bytes_per_s = 8 * MIB
    await line.until_bytes(up=2 * MIB)
    if change == "written":
        with path.open("r+b") as file:
            file.seek(2 * CHUNK)
            file.write(b"other")
    elif change == "replaced":
        status = path.stat()
        asha.file("b.bin", 3 * CHUNK).replace(path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        os.truncate(path, CHUNK)
    upload.limit.bytes_per_s = None
    with pytest.raises(SourceChanged, match=r"a\.bin"):
        await upload.wait()
    assert (await asha.hs.files.page()).items == []
    assert (await (await asha.transfers.upload(path)).wait()).size == path.stat().st_size


@pytest.mark.parametrize("trouble", ["missing", "folder", "pipe"])
async def test_a_file_that_cannot_be_read_is_refused_before_anything_is_sent(asha: Device, trouble: str) -> None:
    path = asha.home / "a.bin"
    if trouble == "folder":
        path.mkdir()
    elif trouble == "pipe":
        os.mkfifo(path)
    with pytest.raises(FileUnreadable, match=r"a\.bin"):
        await asha.transfers.upload(path)
    assert (await asha.hs.files.page()).items == []


async def test_a_token_that_expires_in_the_middle_is_renewed(
    asha: Device, line: Line, server: Server, clock: SettableClock
) -> None:
    path = asha.file("a.bin", 3 * CHUNK)
    account = asha.hs.account
    assert account is not None
    upload = await asha.transfers.upload(path)
    upload.limit.bytes_per_s = 12 * MIB
    await line.until_bytes(up=2 * MIB)
    clock.advance(16 * 60)
    file = await upload.wait()
    renewed = asha.hs.account
    assert renewed is not None
    assert renewed.access_token != account.access_token
    assert await stored(server, asha, file.id) == digest(path)


async def test_clocks_that_jump_disturb_nothing(
    asha: Device, line: Line, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = asha.file("a.bin", 2 * CHUNK)
    upload = await asha.transfers.upload(path)
    upload.limit.bytes_per_s = 16 * MIB
    await line.until_bytes(up=MIB)
    clock.advance(-3600)
    monkeypatch.setattr("time.time", lambda: 0.0)
    await line.until_bytes(up=MIB)
    clock.advance(2 * 3600)
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert (await upload.wait()).state == "complete"


async def test_an_upload_that_expired_begins_again_by_itself(
    asha: Device, line: Line, server: Server, clock: SettableClock
) -> None:
    path = asha.file("a.bin", 2 * CHUNK)
    upload = await asha.transfers.upload(path)
    upload.limit.bytes_per_s = 8 * MIB
    await line.until_bytes(up=2 * MIB)
    first = upload.file_id
    upload.pause()
    await asyncio.sleep(0.3)  # the server still notes what arrived, which lengthens the upload's life
    clock.advance(8 * 86400)
    upload.limit.bytes_per_s = None
    upload.resume()
    file = await upload.wait()
    assert file.id != first
    assert await stored(server, asha, file.id) == digest(path)


async def test_an_upload_removed_elsewhere_is_told_and_can_be_begun_again(asha: Device, line: Line) -> None:
    path = asha.file("a.bin", 3 * CHUNK)
    upload = await asha.transfers.upload(path)
    upload.limit.bytes_per_s = 8 * MIB
    await line.until_bytes(up=2 * MIB)
    assert upload.file_id is not None
    await asha.hs.files.delete(upload.file_id)
    upload.limit.bytes_per_s = None
    with pytest.raises(UploadRemoved):
        await upload.wait()
    assert (await (await asha.transfers.upload(path)).wait()).state == "complete"


async def test_a_server_that_moved_is_gone_on_with_at_its_new_address(
    tmp_path: Path, server: Server, asha: Device, line: Line
) -> None:
    path = asha.file("a.bin", 3 * CHUNK)
    upload = await asha.transfers.upload(path)
    upload.limit.bytes_per_s = 16 * MIB
    await line.until_bytes(up=CHUNK)
    await asha.transfers.close()
    line.is_open = False
    line.cut()
    async with line_to(server.url) as other, device(asha.home, other.url) as later:
        have = await arrived(later, upload)
        upload = await later.transfers.upload(path)
        file = await upload.wait()
        assert other.up_bytes < 3 * CHUNK - have + MIB
        assert await stored(server, later, file.id) == digest(path)


async def test_the_same_file_at_the_same_time_is_one_upload(asha: Device, server: Server) -> None:
    path = asha.file("a.bin", CHUNK)
    first, second = await asyncio.gather(asha.transfers.upload(path), asha.transfers.upload(path))
    assert first is second
    assert (await first.wait()).id == (await second.wait()).id


async def test_a_second_program_keeps_its_hands_off(asha: Device, line: Line) -> None:
    path = asha.file("a.bin", 2 * CHUNK)
    upload = await asha.transfers.upload(path)
    upload.limit.bytes_per_s = 4 * MIB
    await line.until_bytes(up=MIB)
    async with device(asha.home, line.url) as other:
        with pytest.raises(TransferBusy, match=r"a\.bin"):
            await (await other.transfers.upload(path)).wait()
    upload.limit.bytes_per_s = None
    assert (await upload.wait()).state == "complete"


async def test_who_does_not_want_to_wait_for_ever_need_not(tmp_path: Path, line: Line) -> None:
    async with device(tmp_path / "asha", line.url, "asha", give_up_s=0.3) as asha:
        path = asha.file("a.bin", CHUNK)
        line.is_open = False
        line.cut()
        with pytest.raises(TransferStalled):
            await (await asha.transfers.upload(path)).wait()
        line.is_open = True
        assert (await (await asha.transfers.upload(path)).wait()).state == "complete"


async def test_a_file_too_large_is_refused_at_once(tmp_path: Path, asha: Device, line: Line) -> None:
    path = asha.home / "a.bin"
    path.touch()
    os.truncate(path, 50 * 1024**3)
    upload = await asha.transfers.upload(path)
    with pytest.raises(ApiError, match="file_too_large"):
        await upload.wait()
    assert upload.progress.state == "failed"
    assert line.up_bytes < HEADERS


async def test_a_message_with_files_is_sent_once_however_often_it_is_begun(asha: Device, line: Line) -> None:
    chat = await asha.hs.chats.create_group("Tea", [])
    paths = [asha.file("a.bin", 2 * CHUNK), asha.file("b.bin", 10)]
    sending = await send(asha.transfers, asha.hs, chat.id, "Here", paths)
    sending.uploads[0].limit.bytes_per_s = 16 * MIB
    await line.until_bytes(up=4 * MIB)
    await asha.transfers.close()
    async with device(asha.home, line.url) as later:
        again = await send(later.transfers, later.hs, chat.id, "Here", paths)
        assert again.client_id == sending.client_id
        # Sent, and killed before that could be written down.
        files = [await upload.wait() for upload in again.uploads]
        first = await later.hs.messages.send(
            chat.id, "Here", file_ids=[file.id for file in files], client_id=again.client_id
        )
    async with device(asha.home, line.url) as last:
        message = await (await send(last.transfers, last.hs, chat.id, "Here", paths)).message()
        assert message.id == first.id
        assert [file.name for file in message.files] == ["a.bin", "b.bin"]
        assert len((await last.hs.messages.page(chat.id, after_seq=0)).items) == message.seq
        assert (await (await send(last.transfers, last.hs, chat.id, "Here", paths)).message()).id != first.id


async def test_a_message_for_which_the_server_has_no_room_says_so_and_goes_out_later(
    asha: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise ApiError("storage_full", status=507, retryable=True)

    chat = await asha.hs.chats.create_group("Tea", [])
    with monkeypatch.context() as full:
        full.setattr(asha.hs.messages, "send", refuse)
        with pytest.raises(ApiError, match="storage_full"):
            await (await send(asha.transfers, asha.hs, chat.id, "Here", give_up_s=0.5)).message()
    assert (await (await send(asha.transfers, asha.hs, chat.id, "Here")).message()).text == "Here"


async def test_a_message_in_the_outbox_goes_out_when_its_file_is_there(asha: Device, line: Line) -> None:
    chat = await asha.hs.chats.create_group("Tea", [])
    path = asha.file("a.bin", 2 * CHUNK)
    asha.hs.uploads = asha.transfers
    await asha.hs.start()
    line.is_open = False
    line.cut()
    entry = await asha.hs.outbox.put(chat.id, "Look", local_files=[await asha.transfers.attach(path, chat_id=chat.id)])
    assert entry.state == "waiting"
    line.is_open = True
    async with asyncio.timeout(20):
        while await asha.hs.outbox.entries():
            await asyncio.sleep(0.02)
    message = (await asha.hs.messages.page(chat.id)).items[-1]
    assert (message.text, [file.name for file in message.files]) == ("Look", ["a.bin"])
