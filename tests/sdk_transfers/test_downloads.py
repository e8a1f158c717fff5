from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hypersend_client.sdk import ApiError, File
from hypersend_client.sdk.transfer_errors import (
    CorruptTransfer,
    DiskFull,
    RemoteFileChanged,
    RemoteFileGone,
    TransferCancelled,
)
from tests.harness import SettableClock
from tests.sdk_transfers.device import CHUNK, MIB, Device, device, digest, leftovers
from tests.sdk_transfers.line import Line, line_to

HEADERS = 128 * 1024


async def given(asha: Device, size: int, name: str = "a.bin") -> tuple[File, Path]:
    """(a file on the server, the local one it was made of)."""
    path = asha.file("source.bin", size)
    return await (await asha.transfers.upload(path, name=name)).wait(), path


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 9 * CHUNK + 77])
async def test_what_is_fetched_is_what_was_sent(asha: Device, size: int) -> None:
    file, source = await given(asha, size, "ä ☃.tar.gz")
    download = await asha.transfers.download(file.id)
    path = await download.wait()
    assert path == asha.home / "Downloads" / "ä ☃.tar.gz"
    assert digest(path) == digest(source)
    assert leftovers(path.parent) == []
    assert download.progress.done_bytes == size
    assert await asha.transfers.resume() == []


async def test_nothing_is_overwritten(asha: Device) -> None:
    file, source = await given(asha, 1000)
    folder = asha.home / "Downloads"
    folder.mkdir()
    (folder / "a.bin").write_text("mine")
    (folder / "a (1).bin").symlink_to("nowhere")
    path = await (await asha.transfers.download(file)).wait()
    assert path.name == "a (2).bin"
    assert digest(path) == digest(source)
    assert (folder / "a.bin").read_text() == "mine"


@pytest.mark.parametrize("name", ["../../../evil", "CON", "a/b\\c:d", "x" * 255, ".", "trailing. "])
async def test_a_name_from_somebody_else_stays_within_the_folder(asha: Device, name: str) -> None:
    file = File((await given(asha, 10))[0].id, name=name, size=10)
    path = await (await asha.transfers.download(file)).wait()
    assert path.parent == asha.home / "Downloads"
    assert [found.name for found in path.parent.iterdir()] == [path.name]


async def test_a_cut_goes_on_where_it_stopped(asha: Device, line: Line) -> None:
    file, source = await given(asha, 3 * CHUNK)
    line.cut_each = CHUNK // 2  # no connection ever carries a whole chunk
    path = await (await asha.transfers.download(file)).wait()
    line.cut_each = None
    assert line.cuts >= 6
    assert digest(path) == digest(source)


async def test_pausing_stops_the_bytes_and_a_new_program_goes_on_at_a_new_address(asha: Device, line: Line) -> None:
    file, source = await given(asha, 6 * CHUNK)
    line.down_bytes = 0
    download = await asha.transfers.download(file)
    download.limit.bytes_per_s = 32 * MIB
    await line.until_bytes(down=3 * CHUNK)
    download.pause()
    await line.until_still()
    have = download.progress.done_bytes
    assert have > 0
    await asha.transfers.close()
    async with line_to(line._target.geturl()) as other, device(asha.home, other.url) as later:
        (resumed,) = await later.transfers.resume()
        path = await resumed.wait()
        assert isinstance(path, Path)
        assert digest(path) == digest(source)
        assert other.down_bytes < 6 * CHUNK - have + MIB


async def test_a_bit_that_was_turned_on_the_way_is_noticed_and_fetched_again(asha: Device, line: Line) -> None:
    file, source = await given(asha, 3 * CHUNK)
    line.flips = [line.down_bytes + CHUNK + 4 * MIB]
    path = await (await asha.transfers.download(file)).wait()
    assert not line.flips
    assert digest(path) == digest(source)


async def test_bytes_that_are_always_wrong_end_it(asha: Device, tmp_path: Path) -> None:
    file, _ = await given(asha, 2 * CHUNK)
    stored = next(
        path for path in (tmp_path / "data" / "files").rglob("*") if path.is_file() and path.stat().st_size == 2 * CHUNK
    )
    with stored.open("r+b") as damaged:
        damaged.seek(CHUNK + 5)
        byte = damaged.read(1)[0]
        damaged.seek(CHUNK + 5)
        damaged.write(bytes([byte ^ 1]))
    with pytest.raises(CorruptTransfer):
        await (await asha.transfers.download(file)).wait()
    assert not (asha.home / "Downloads" / "a.bin").exists()


async def test_after_another_boot_what_was_fetched_is_read_again(asha: Device, line: Line) -> None:
    file, source = await given(asha, 4 * CHUNK)
    download = await asha.transfers.download(file)
    await line.until_bytes(down=3 * CHUNK)
    await download.stop()
    folder = asha.home / "Downloads"
    (journal,) = folder.glob("*.journal")
    head, *lines = journal.read_text().splitlines()
    done = [int(text.split()[1]) for text in lines if text.startswith("d ")]
    assert done
    journal.write_text("\n".join([json.dumps({**json.loads(head), "boot": "another"}), *lines]) + "\nd 9")
    (part,) = folder.glob("*.part")
    with part.open("r+b") as file_:  # a power cut lost it
        file_.seek(done[0] * CHUNK)
        file_.write(bytes(4096))
    path = await (await asha.transfers.download(file)).wait()
    assert digest(path) == digest(source)


async def test_killed_between_renaming_and_forgetting_is_noticed(asha: Device) -> None:
    file, _ = await given(asha, 1000)
    row = await asha.transfers.journal.add_download(
        await asha.transfers.account(), file.id, str(asha.home / "Downloads" / "a.bin")
    )
    path = await (await asha.transfers.download(file)).wait()
    head = {
        "version": 1,
        "server_id": (await asha.transfers.account())[0],
        "file_id": file.id,
        "etag": file.etag,
        "size": file.size,
        "chunk_size": file.chunk_size,
        "boot": "",
    }
    journal = path.with_name(f"a.bin.{file.id}.part.journal")
    journal.write_text(json.dumps(head) + "\nd 0\nn a.bin\n")
    assert await (await asha.transfers.download(file)).wait() == path
    assert [found.name for found in path.parent.iterdir()] == ["a.bin"]
    assert row.file_id == file.id


async def test_a_file_removed_on_the_server_is_told_and_leaves_nothing(asha: Device, line: Line) -> None:
    file, _ = await given(asha, 3 * CHUNK)
    download = await asha.transfers.download(file)
    download.limit.bytes_per_s = 8 * MIB
    await line.until_bytes(down=2 * MIB)
    await asha.hs.files.delete(file.id)
    download.pause()
    download.limit.bytes_per_s = None
    download.resume()
    with pytest.raises(RemoteFileGone):
        await download.wait()
    assert leftovers(asha.home / "Downloads") == []
    with pytest.raises(RemoteFileGone):
        await asha.transfers.download(file.id)


async def test_another_file_under_the_same_id_is_never_mixed_in(asha: Device, line: Line) -> None:
    file, source = await given(asha, 3 * CHUNK)
    download = await asha.transfers.download(file)
    download.limit.bytes_per_s = 8 * MIB
    await line.until_bytes(down=2 * MIB)
    await download.stop()
    (journal,) = (asha.home / "Downloads").glob("*.journal")
    text = journal.read_text()
    assert file.etag is not None
    journal.write_text(text.replace(json.dumps(file.etag), json.dumps('"another"')))
    with pytest.raises(RemoteFileChanged):
        await (await asha.transfers.download(file)).wait()
    assert leftovers(asha.home / "Downloads") == []
    assert digest(await (await asha.transfers.download(file)).wait()) == digest(source)


async def test_a_file_that_is_still_uploading_cannot_be_fetched(asha: Device) -> None:
    file = await asha.hs.files.init({"name": "a", "size": 10}, idempotency_key="k")
    with pytest.raises(ApiError, match="upload_incomplete"):
        await (await asha.transfers.download(file)).wait()


async def test_a_cancelled_download_leaves_nothing(asha: Device, line: Line) -> None:
    file, _ = await given(asha, 3 * CHUNK)
    download = await asha.transfers.download(file)
    download.limit.bytes_per_s = 8 * MIB
    await line.until_bytes(down=2 * MIB)
    await download.cancel()
    with pytest.raises(TransferCancelled):
        await download.wait()
    assert leftovers(asha.home / "Downloads") == []
    assert await asha.transfers.resume() == []


async def test_a_token_that_expires_in_the_middle_is_renewed(asha: Device, line: Line, clock: SettableClock) -> None:
    file, source = await given(asha, 3 * CHUNK)
    download = await asha.transfers.download(file)
    download.limit.bytes_per_s = 16 * MIB
    await line.until_bytes(down=2 * MIB)
    clock.advance(16 * 60)
    line.cut()
    path = await download.wait()
    assert digest(path) == digest(source)


async def test_503_is_waited_out(asha: Device, line: Line) -> None:
    file, source = await given(asha, 2 * CHUNK)
    download = await asha.transfers.download(file)
    download.limit.bytes_per_s = 16 * MIB
    await line.until_bytes(down=2 * MIB)
    line.refusals = 6
    line.cut()
    assert digest(await download.wait()) == digest(source)
    assert line.refused == 6


async def test_a_disk_without_room_is_said_before_anything_is_fetched(
    asha: Device, line: Line, small_disk: Path
) -> None:
    file, _ = await given(asha, 5 * CHUNK)
    line.down_bytes = 0
    with pytest.raises(DiskFull) as caught:
        await (await asha.transfers.download(file, folder=small_disk)).wait()
    assert caught.value.needed == 5 * CHUNK
    assert caught.value.free is not None
    assert caught.value.free < 24 * MIB
    assert line.down_bytes < HEADERS


async def test_a_disk_that_fills_up_stops_it_and_it_goes_on_when_there_is_room(
    asha: Device, line: Line, small_disk: Path
) -> None:
    file, source = await given(asha, 2 * CHUNK)
    line.down_bytes = 0
    download = await asha.transfers.download(file, folder=small_disk)
    download.limit.bytes_per_s = 12 * MIB
    await line.until_bytes(down=4 * MIB)
    status = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(status.f_bavail * status.f_frsize - MIB))
    with pytest.raises(DiskFull):
        await download.wait()
    assert download.progress.state == "failed"
    (small_disk / "filler").unlink()
    await line.until_still()
    have, before = download.progress.done_bytes, line.down_bytes
    assert have > 0
    download.limit.bytes_per_s = None
    download.start()
    path = await download.wait()
    assert digest(path) == digest(source)
    assert line.down_bytes - before < 2 * CHUNK - have + MIB
