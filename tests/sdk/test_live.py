"""The SDK against the real server."""

from __future__ import annotations

import asyncio
import io
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from hypersend_client.sdk import ApiError, ConnectionFailed, FileTokenStore, HyperSend, SignedOut, events
from hypersend_client.sdk.cache import Writer
from tests.harness import PASSWORD, Server, running
from tests.process import ServerProcess, command
from tests.sdk.people import current, person, sent, shows, texts, until, user_id
from tests.sdk.proxy import proxied


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path / "server", RATE_LIMITS="off") as server:
        yield server


async def test_two_people_chat_and_see_ticks(server: Server) -> None:
    async with person(server.url, "ann") as ann, person(server.url, "bob") as bob:
        chat = await ann.chats.open_direct(user_id(bob))
        await ann.outbox.put(chat.id, "Hello Bob")
        await shows(bob, chat.id, "Hello Bob")
        mine = await bob.store.chat(chat.id)
        assert mine is not None
        assert (mine.unread, mine.peer and mine.peer.username) == (1, "ann")
        await ann.sync.members(chat.id)

        async def marks() -> dict[str, tuple[int, int]]:
            return {m.user.username or "": (m.delivered_seq, m.read_seq) for m in await ann.store.members(chat.id)}

        async def ticks(delivered: int, read: int) -> bool:
            return (await marks())["bob"] == (delivered, read)

        await until(ann, lambda: ticks(1, 0))
        await bob.sync.mark_read(chat.id, 1)
        mine = await bob.store.chat(chat.id)
        assert mine is not None
        assert mine.unread == 0, "at once, before the server knows"
        await until(ann, lambda: ticks(1, 1))
        await bob.outbox.put(chat.id, "Hello Ann 👋")
        await shows(ann, chat.id, "Hello Bob", "Hello Ann 👋")
        newest = (await ann.store.chats())[0]
        assert newest.last_message is not None
        assert (newest.id, newest.last_message.text, newest.unread) == (chat.id, "Hello Ann 👋", 1)


async def test_edits_reactions_and_deletions_reach_the_other_and_ones_own_screen(server: Server) -> None:
    async with person(server.url, "ann") as ann, person(server.url, "bob") as bob:
        chat = await ann.chats.open_direct(user_id(bob))
        first = await ann.messages.send(chat.id, "tpyo")
        second = await ann.messages.send(chat.id, "wrong chat")
        third = await ann.messages.send(chat.id, "third", reply_to=first.id)
        await shows(bob, chat.id, "tpyo", "wrong chat", "third")
        await ann.messages.edit(chat.id, first.id, "typo")
        await ann.messages.delete(chat.id, second.id, for_everyone=True)
        await bob.messages.react(chat.id, third.id, "👍🏽")
        for hs in (ann, bob):
            await shows(hs, chat.id, "typo", "", "third")

            async def reacted(hs: HyperSend = hs) -> bool:
                message = await hs.store.message(third.id)
                return message is not None and [r.emoji for r in message.reactions] == ["👍🏽"]

            await until(hs, reacted)
        await bob.messages.delete(chat.id, third.id)
        await shows(bob, chat.id, "typo", "")
        await ann.messages.edit(chat.id, third.id, "third, edited")
        await ann.messages.send(chat.id, "fourth")
        await shows(bob, chat.id, "typo", "", "fourth")
        await shows(ann, chat.id, "typo", "", "third, edited", "fourth")


async def test_typing_is_seen_and_not_kept(server: Server) -> None:
    async with person(server.url, "ann") as ann, person(server.url, "bob") as bob:
        chat = await ann.chats.open_direct(user_id(bob))
        await ann.messages.send(chat.id, "hi")
        stream = bob.connection.events()
        assert await ann.connection.tell("typing", chat_id=chat.id)
        async with asyncio.timeout(10):
            async for event in stream:
                if isinstance(event, events.Typing):
                    break
        assert event == events.Typing(chat.id, user_id(ann))


async def test_messages_written_offline_go_out_once_and_in_order(server: Server) -> None:
    async with person(server.url, "bob") as bob, proxied(server.url) as proxy:  # noqa: SIM117
        async with person(proxy.url, "ann") as ann:
            chats = [await ann.chats.open_direct(user_id(bob)), await ann.chats.create_group("Tea", [user_id(bob)])]
            proxy.open = False
            proxy.cut()
            for number in range(10):
                for chat in chats:
                    await ann.outbox.put(chat.id, f"{chat.kind} {number}")
            assert len(await ann.outbox.entries()) == 20
            proxy.open = True
            ann.connection.network_changed()
            await sent(ann)
            for chat in chats:
                wanted = [f"{chat.kind} {number}" for number in range(10)]
                page = await bob.messages.page(chat.id)
                assert [m.text for m in page.items if m.kind == "text"] == wanted
                assert [t for t in await texts(ann, chat.id) if t] == wanted


async def test_cut_lines_lose_and_double_nothing(server: Server) -> None:
    async with person(server.url, "bob") as bob, proxied(server.url) as proxy:  # noqa: SIM117
        async with person(proxy.url, "ann") as ann:
            chat = await ann.chats.open_direct(user_id(bob))

            async def cutting() -> None:
                for _ in range(12):
                    await asyncio.sleep(0.05)
                    proxy.cut()
                    ann.connection.network_changed()

            cutter = asyncio.create_task(cutting())
            wanted = []
            for number in range(60):
                wanted += [f"ann {number}", f"bob {number}"]
                await ann.outbox.put(chat.id, f"ann {number}")
                await bob.outbox.put(chat.id, f"bob {number}")
                await asyncio.sleep(0.01)
            await cutter
            await sent(ann)
            await sent(bob)

            async def all_there() -> bool:
                return sorted(await texts(ann, chat.id)) == sorted(await texts(bob, chat.id)) == sorted(wanted)

            await until(ann, all_there)
            assert await texts(ann, chat.id) == await texts(bob, chat.id)
            for name in ("ann", "bob"):
                assert [t for t in await texts(bob, chat.id) if t.startswith(name)] == [
                    f"{name} {number}" for number in range(60)]


async def test_an_event_that_got_lost_is_noticed_by_its_rev(server: Server) -> None:
    async with person(server.url, "ann") as ann, person(server.url, "bob") as bob:
        chat = await ann.chats.open_direct(user_id(bob))
        await ann.messages.send(chat.id, "one")
        await shows(bob, chat.id, "one")
        take = bob.sync.take

        def lose(event: events.Event) -> None:
            if not (isinstance(event, events.MessageReceived) and event.message.text == "two"):
                take(event)

        listeners = bob.connection._listeners
        listeners[listeners.index(take)] = lose
        await ann.messages.send(chat.id, "two")
        await ann.messages.send(chat.id, "three")
        await shows(bob, chat.id, "one", "two", "three")
        mine = await bob.store.chat(chat.id)
        assert mine is not None
        assert mine.unread == 3


async def test_the_app_opens_with_the_last_known_chats_before_the_network(server: Server, tmp_path: Path) -> None:
    tokens, cache = FileTokenStore(tmp_path / "tokens.json"), tmp_path / "cache"
    async with proxied(server.url) as proxy, person(server.url, "bob") as bob:
        async with person(proxy.url, "ann", tokens=tokens, cache_dir=cache) as ann:
            chat = await ann.chats.open_direct(user_id(bob))
            await ann.messages.send(chat.id, "remember me")
            await shows(ann, chat.id, "remember me")
            await ann.store.set_draft(chat.id, "half a th")
        proxy.open = False
        proxy.cut()
        await bob.messages.send(chat.id, "while you were away")
        async with HyperSend(proxy.url, tokens=tokens, cache_dir=cache, rand=lambda: 0.0) as ann:
            await ann.start()
            assert (await ann.store.chats())[0].title == "Bob"
            assert await texts(ann, chat.id) == ["remember me"]
            assert (await ann.store.drafts())[chat.id].text == "half a th"
            assert ann.sync.state == "stale"
            proxy.open = True
            ann.connection.network_changed()
            await current(ann)
            await shows(ann, chat.id, "remember me", "while you were away")


async def test_history_is_paged_from_the_server_once_and_then_from_the_cache(server: Server) -> None:
    async with person(server.url, "bob") as bob:  # noqa: SIM117
        async with HyperSend(server.url) as ann:
            await ann.register("ann@example.org", "ann", PASSWORD)
            chat = await ann.chats.open_direct(user_id(bob))
            for number in range(230):
                await ann.messages.send(chat.id, str(number))
            await ann.start()
            await current(ann)
            newest = await ann.sync.history(chat.id, limit=100)
            assert [m.text for m in newest] == [str(n) for n in range(130, 230)]
            older = await ann.sync.history(chat.id, before_seq=newest[0].seq, limit=100)
            assert [m.text for m in older] == [str(n) for n in range(30, 130)]
            oldest = await ann.sync.history(chat.id, before_seq=older[0].seq, limit=100)
            assert [m.text for m in oldest] == [str(n) for n in range(30)], "the beginning is reached"
            await ann.connection.stop()
            await ann.transport.close()
            assert len(await ann.sync.history(chat.id, limit=230)) == 230


async def test_another_epoch_loads_everything_anew(server: Server) -> None:
    async with person(server.url, "ann") as ann, person(server.url, "bob") as bob:
        chat = await ann.chats.open_direct(user_id(bob))
        await ann.messages.send(chat.id, "here")
        await shows(ann, chat.id, "here")

        # As it looks after a restore: other counters, and a chat that the server has never heard of.
        def restored(writer: Writer) -> None:
            writer.setting("epoch", "another")
            writer.db.execute("UPDATE chats SET synced_rev = 99, data = json_set(data, '$.rev', 99, '$.title', 'Old')")
            writer.db.execute("INSERT INTO chats SELECT 'ghost', json_set(data, '$.id', 'ghost'), 0, 0, updated_at,"
                              " NULL, 1, 1, 0 FROM chats LIMIT 1")

        await ann.store.write(restored)
        await ann.connection.stop()
        ann.connection.start()

        async def anew() -> bool:
            chats = {c.id: c for c in await ann.store.chats()}
            return "ghost" not in chats and chats[chat.id].rev == 1 and chats[chat.id].title == "Bob"

        await until(ann, anew)
        await shows(ann, chat.id, "here")


async def test_who_is_removed_from_a_group_loses_it_and_what_was_to_be_sent_there_fails(server: Server) -> None:
    async with person(server.url, "ann") as ann, proxied(server.url) as proxy, person(proxy.url, "bob") as bob:
        group = await ann.chats.create_group("Tea", [user_id(bob)])

        async def there() -> bool:
            return await bob.store.chat(group.id) is not None

        await until(bob, there)
        other = await bob.chats.open_direct(user_id(ann))
        proxy.open = False
        proxy.cut()
        lost = await bob.outbox.put(group.id, "too late")
        await bob.outbox.put(other.id, "this one is fine")
        await ann.chats.remove_member(group.id, user_id(bob))
        proxy.open = True
        bob.connection.network_changed()
        await sent(bob)
        failed = await bob.outbox.entries()
        assert [(e.client_id, e.state, e.code) for e in failed] == [(lost.client_id, "failed", "not_found")]
        await shows(ann, other.id, "this one is fine")

        async def gone() -> bool:
            return await bob.store.chat(group.id) is None

        await until(bob, gone)
        assert await bob.outbox.discard(lost.client_id)
        assert await bob.outbox.entries() == []


async def test_what_the_server_refuses_for_good_is_kept_until_it_is_retried(server: Server) -> None:
    async with person(server.url, "ann") as ann, person(server.url, "bob") as bob:
        chat = await ann.chats.open_direct(user_id(bob))
        await bob.me.block(user_id(ann))
        entry = await ann.outbox.put(chat.id, "please")
        await ann.outbox.put(chat.id, "x" * 100_000)
        await sent(ann)
        assert [e.code for e in await ann.outbox.entries()] == ["blocked", "validation_failed"]
        await bob.me.unblock(user_id(ann))
        await ann.outbox.retry(entry.client_id)
        await shows(bob, chat.id, "please")


async def test_a_message_waits_for_its_upload_and_holds_nobody_up(server: Server) -> None:
    class Uploads:
        def __init__(self) -> None:
            self.done = asyncio.Event()
            self.file_id = ""
            self.asked: list[str] = []

        async def ready(self, ref: str) -> str:
            self.asked.append(ref)
            if ref == "gone.txt":
                raise ApiError("upload_lost", status=410)
            await self.done.wait()
            if self.asked.count(ref) == 1:
                raise ConnectionFailed("cut")
            return self.file_id

    uploads = Uploads()
    async with person(server.url, "ann", uploads=uploads) as ann, person(server.url, "bob") as bob:
        chat = await ann.chats.open_direct(user_id(bob))
        await ann.outbox.put(chat.id, "look", local_files=["photo.jpg"])
        await ann.outbox.put(chat.id, "lost", local_files=["gone.txt"])
        await ann.outbox.put(chat.id, "it is on its way")
        await shows(bob, chat.id, "it is on its way")
        empty = await ann.files.init({"name": "photo.jpg", "size": 0}, idempotency_key="k1")
        done = await ann.files.complete(empty.id)
        assert done is not None
        uploads.file_id = done.id
        uploads.done.set()
        await shows(bob, chat.id, "it is on its way", "look")
        message = (await bob.store.messages(chat.id))[-1]
        assert [(f.id, f.name) for f in message.files] == [(done.id, "photo.jpg")]
        assert [(e.text, e.code) for e in await ann.outbox.entries()] == [("lost", "upload_lost")]


OFFLINE = """
import asyncio, os, signal, sys
from hypersend_client.sdk import FileTokenStore, HyperSend

async def main():
    async with HyperSend(sys.argv[1], tokens=FileTokenStore(sys.argv[2] + "/tokens.json"), cache_dir=sys.argv[2]) as hs:
        await hs.start()
        for number in range(5):
            await hs.outbox.put(sys.argv[3], f"message {number}")
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize("reachable", [False, True])
async def test_the_outbox_survives_kill_9(server: Server, tmp_path: Path, reachable: bool) -> None:
    tokens = FileTokenStore(tmp_path / "tokens.json")
    async with person(server.url, "bob") as bob, proxied(server.url) as proxy:
        async with person(proxy.url, "ann", tokens=tokens, cache_dir=tmp_path) as ann:
            chat = await ann.chats.open_direct(user_id(bob))
        proxy.open = reachable
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OFFLINE, proxy.url, str(tmp_path), chat.id)
        assert await process.wait() == -signal.SIGKILL
        proxy.open = True
        async with HyperSend(proxy.url, tokens=tokens, cache_dir=tmp_path) as ann:
            await ann.start()
            await sent(ann)
            await shows(bob, chat.id, *(f"message {number}" for number in range(5)))


async def test_a_killed_server_that_comes_back_is_found_again(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "server", RATE_LIMITS="off") as process:
        async with person(process.url, "ann") as ann, person(process.url, "bob") as bob:
            chat = await ann.chats.open_direct(user_id(bob))
            await ann.outbox.put(chat.id, "before")
            await shows(bob, chat.id, "before")
            process.kill()
            await ann.outbox.put(chat.id, "while it was away")
            await asyncio.to_thread(process.start)
            await ann.outbox.put(chat.id, "after")
            await shows(bob, chat.id, "before", "while it was away", "after")
            await shows(ann, chat.id, "before", "while it was away", "after")


async def test_signing_out_elsewhere_ends_this_session_at_once(server: Server) -> None:
    async with person(server.url, "ann") as ann, HyperSend(server.url, device="Phone") as phone:
        await phone.login("ann@example.org", PASSWORD)
        devices = await ann.me.devices()
        assert sorted(d.device for d in devices) == ["", "Phone"]
        await phone.start()
        await current(phone)
        stream = phone.connection.events()
        await ann.me.end_device(next(d.id for d in devices if d.device == "Phone"))
        async with asyncio.timeout(10):
            async for event in stream:
                if isinstance(event, events.StateChanged) and event.state == "signed_out":
                    break
        with pytest.raises(SignedOut):
            await phone.me.get()


async def test_accounts_people_and_blocks(server: Server) -> None:
    async with HyperSend(server.url) as ann, HyperSend(server.url) as bob:
        me = await ann.register("ann@example.org", "ann", PASSWORD, display_name="Ann")
        other = await bob.register("bob@example.org", "bob", PASSWORD)
        assert (me.username, me.email) == ("ann", "ann@example.org")
        assert (await ann.me.update(about="Tea.")).about == "Tea."
        assert (await ann.me.get()).display_name == "Ann", "what was not named stays"
        picture = io.BytesIO()
        Image.new("RGB", (64, 64), "red").save(picture, "PNG")
        await ann.me.set_avatar(picture.getvalue())
        avatar = (await ann.me.get()).avatar_url
        assert avatar is not None
        async with ann.transport.stream("GET", avatar, auth=False) as response:
            assert response.status == 200
        await ann.me.remove_avatar()
        assert (await ann.me.get()).avatar_url is None
        assert [u.id for u in (await ann.users.find("bo")).items] == [other.id]
        assert (await ann.users.get(other.id)).username == "bob"
        await ann.me.block(other.id)
        assert [u.id for u in await ann.me.blocks()] == [other.id]
        await ann.me.unblock(other.id)
        assert await ann.me.blocks() == []
        assert (await ann.me.storage()).used_bytes == 0
        await ann.me.set_password(PASSWORD, "another good password")
        with pytest.raises(ApiError) as caught:
            await bob.login("ann@example.org", PASSWORD)
        assert caught.value.code == "credentials_invalid"
        with pytest.raises(ApiError) as caught:
            await ann.me.delete("wrong password")
        assert caught.value.code == "password_wrong"
        await ann.me.delete("another good password")
        with pytest.raises(SignedOut):
            await ann.me.get()


async def test_groups_search_and_files(server: Server) -> None:
    async with HyperSend(server.url) as ann, HyperSend(server.url) as bob:
        await ann.register("ann@example.org", "ann", PASSWORD)
        other = await bob.register("bob@example.org", "bob", PASSWORD)
        group = await ann.chats.create_group("Tea", [])
        await ann.chats.add_members(group.id, [other.id])
        await ann.chats.set_role(group.id, other.id, "admin")
        assert {m.user.username: m.role for m in await ann.chats.members(group.id)} == {"ann": "owner", "bob": "admin"}
        assert (await ann.chats.update(group.id, title="Tea & Cake")).title == "Tea & Cake"
        await ann.chats.update_mine(group.id, pinned=True)
        assert (await ann.chats.get(group.id)).pinned
        assert (await ann.chats.page()).items[0].id == group.id
        first = await ann.messages.send(group.id, "scones at four")
        again = await ann.messages.send(group.id, "scones at four", client_id=first.client_id)
        assert again.id == first.id
        found = (await bob.messages.search("scon")).items
        assert [(m.id, bool(m.snippet)) for m in found] == [(first.id, True)]
        forwarded = await bob.messages.send(
            (await bob.chats.open_direct(ann.account.user_id if ann.account else "")).id, forward=(group.id, first.id))
        assert forwarded.text == "scones at four"
        file = await ann.files.init({"name": "a.txt", "size": 10}, idempotency_key="k")
        assert file.upload is not None
        assert (await ann.files.init({"name": "a.txt", "size": 10}, idempotency_key="k")).id == file.id
        with pytest.raises(ApiError) as caught:
            await ann.files.complete(file.id)
        assert (caught.value.code, caught.value.extra["missing"]) == ("chunks_missing", [[0, 0]])

        async def body() -> AsyncIterator[bytes]:
            yield b"0123456789"

        async with ann.transport.stream(
                "PUT", f"/files/{file.id}/chunk", query={"index": 0}, body=body, length=10) as response:
            assert (await ann.transport.read_json(response))["received_bytes"] == 10
        done = await ann.files.complete(file.id)
        assert done is not None
        assert done.state == "complete"
        assert len((await ann.files.get(file.id, digests=True)).chunk_sha256 or []) == 1
        ticket = await ann.files.ticket(file.id)
        async with ann.transport.stream("GET", ticket.url, auth=False) as response:
            assert await response.read() == b"0123456789"
        assert (await ann.files.upload_ticket()).url
        assert [f.id for f in (await ann.files.page()).items] == [file.id]
        await ann.files.delete(file.id)
        with pytest.raises(ApiError) as caught:
            await ann.files.get(file.id)
        assert caught.value.status == 404
        await bob.chats.remove_member(group.id, other.id)
        await ann.chats.delete(group.id)


async def test_administration(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "server") as process:
        added = await asyncio.to_thread(
            command, process.data_root, "user", "add", "root@example.org", "--username", "root", "--admin",
            stdin=PASSWORD + "\n")
        assert added.returncode == 0, added.stderr
        async with HyperSend(process.url) as root, HyperSend(process.url) as guest:
            await root.login("root@example.org", PASSWORD)
            invite = await root.admin.make_invite(max_uses=2, expires_in=3600)
            assert invite.code
            user = await guest.register("g@example.org", "guest", PASSWORD, invite=invite.code)
            assert [i.id for i in await root.admin.invites() if i.id == invite.id]
            assert (await root.admin.update_user(user.id, quota_bytes=1000)).quota_bytes == 1000
            assert {u.username for u in (await root.admin.users()).items} == {"root", "guest"}
            assert (await root.admin.stats())
            assert (await root.admin.audit()).items
            with pytest.raises(ApiError) as caught:
                await guest.admin.stats()
            assert caught.value.code == "not_allowed"
            await root.admin.update_user(user.id, disabled=True)
            with pytest.raises(SignedOut):
                await guest.me.get()
            await root.admin.delete_invite(invite.id)
            await root.admin.delete_user(user.id)


async def test_an_empty_chat_that_somebody_looks_at_gets_all_that_came_while_offline(
    server: Server, tmp_path: Path
) -> None:
    tokens = FileTokenStore(tmp_path / "accounts.json")
    async with person(server.url, "alice") as alice:
        async with person(server.url, "bob", tokens=tokens, cache_dir=tmp_path) as bob:
            chat_id = (await bob.chats.open_direct(user_id(alice))).id
            await until(bob, lambda: bob.store.chat(chat_id))  # and no /sync has told of it yet
        for text in ("one", "two", "three"):
            await alice.messages.send(chat_id, text)
        async with HyperSend(server.url, tokens=tokens, cache_dir=tmp_path) as bob:
            await bob.start()
            await current(bob)
            assert await texts(bob, chat_id) == ["one", "two", "three"]
