"""Devices that sync at random moments, in pages of random sizes, against a simple model of what they must know."""

from __future__ import annotations

import asyncio
import copy
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import hypersend_server.metadata.sqlite.chats_sync as chats_sync
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import Draft, MemberRecord, MessageRecord, SyncPosition
from hypersend_server.metadata.sqlite.accounts import SqliteAccounts
from hypersend_server.metadata.sqlite.engine import Engine
from hypersend_server.metadata.words import fold, has_terms, terms_of
from tests.chats.world import World, prepare
from tests.fuzz.profile import times

PEOPLE = ("alice", "bob", "carol")
DEVICES = ("alice phone", "bob phone", "bob laptop", "carol phone")
SMALL_BEHIND = 5  # instead of 5,000, so that random walks meet it


@dataclass
class Said:
    seq: int
    rev: int
    sender: str | None
    text: str
    deleted: bool = False
    reactions: dict[str, list[str]] = field(default_factory=dict)

    def seen(self) -> tuple[Any, ...]:
        return (
            self.seq,
            self.rev,
            self.sender,
            self.text,
            self.deleted,
            tuple((emoji, tuple(users)) for emoji, users in self.reactions.items()),
        )


@dataclass
class Part:
    """A member: what the model knows of one."""

    role: str
    first_seq: int
    joined: int
    read: int
    delivered: int
    pinned: bool = False

    def seen(self) -> tuple[Any, ...]:
        return (self.role, self.first_seq, self.delivered, self.read)


@dataclass
class Talk:
    """A chat in the model."""

    kind: str
    history: str = "all"
    seq: int = 0
    rev: int = 0
    parts: dict[str, Part] = field(default_factory=dict)
    closed: dict[str, Part] = field(default_factory=dict)  # sides of a direct chat that were deleted
    said: dict[str, Said] = field(default_factory=dict)
    hidden: set[tuple[str, str]] = field(default_factory=set)

    def add(self, message_id: str, sender: str | None, text: str) -> None:
        self.seq += 1
        self.rev += 1
        self.said[message_id] = Said(self.seq, self.rev, sender, text)

    def touch(self, message_id: str) -> Said:
        self.rev += 1
        said = self.said[message_id]
        said.rev = self.rev
        return said

    def visible(self, user: str) -> dict[str, Said]:
        return {
            message_id: said
            for message_id, said in self.said.items()
            if said.seq >= self.parts[user].first_seq and (user, message_id) not in self.hidden
        }

    def unread(self, user: str) -> int:
        return sum(
            said.seq > self.parts[user].read and said.sender not in (None, user) and not said.deleted
            for said in self.visible(user).values()
        )


@dataclass
class Held:
    """A chat as a device holds it."""

    view: tuple[Any, ...] = ()
    messages: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    members: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    synced_rev: int = 0
    reset_in: int = 0  # the round in which it was told as reset


class Device:
    def __init__(self, user: str) -> None:
        self.user = user
        self.held: dict[str, Held] = {}
        self.names: dict[str, str] = {}
        self.position = SyncPosition("", user, 0)
        self.round = 0
        self.kept: tuple[Any, ...] | None = None  # what it knew when it was last copied


def said_of(message: MessageRecord) -> tuple[Any, ...]:
    return (
        message.seq,
        message.rev,
        message.sender_id,
        message.text,
        message.deleted_at is not None,
        tuple((r.emoji, r.user_ids) for r in message.extra.reactions),
    )


def part_of(member: MemberRecord) -> tuple[Any, ...]:
    return (member.role, member.first_seq, member.delivered_seq, member.read_seq)


class SyncMachine(RuleBasedStateMachine):
    template: Path

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(self.template, self.folder / "db")
        self.runner = asyncio.Runner()
        self.engine = Engine(self.folder / "db")
        self.run(self.engine.open())
        self.world = World(self.engine)
        self.chats = self.world.chats
        self.accounts: Any = SqliteAccounts(self.engine)
        self.talks: dict[str, Talk] = {}
        self.names = {name: name for name in PEOPLE}
        self.devices = {name: Device(name.split()[0]) for name in DEVICES}
        self.now = 1000
        self.count = 0
        # Something to begin with, so that every walk is about more than empty rooms.
        for history in ("all", "since_join"):
            self.begin_group("alice", {"bob", "carol"}, history)
        self.begin_direct(("alice", "bob"))
        for chat_id in list(self.talks):
            for user in list(self.talks[chat_id].parts):
                self.say(chat_id, user)
        self.sync_to_the_end("alice phone", 8)
        self.sync_to_the_end("bob phone", 3)

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.run(self.engine.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def run(self, awaitable: Any) -> Any:
        async def wait() -> Any:
            return await awaitable

        return self.runner.run(wait())

    def fresh(self, kind: str) -> str:
        self.count += 1
        self.now += 1
        return f"{kind}{self.count:06d}"

    def pick(self, data: st.DataObject, things: Any) -> Any:
        return data.draw(st.sampled_from(sorted(things)))

    def a_place(
        self, data: st.DataObject, kinds: tuple[str, ...] = ("group", "direct")
    ) -> tuple[str, Talk, str] | None:
        """A chat and somebody who is in it."""
        places = [(chat_id, user) for chat_id, talk in self.talks.items() if talk.kind in kinds for user in talk.parts]
        if not places:
            return None
        chat_id, user = self.pick(data, places)
        return chat_id, self.talks[chat_id], user

    # What people do

    @rule(
        owner=st.sampled_from(PEOPLE),
        others=st.sets(st.sampled_from(PEOPLE)),
        history=st.sampled_from(["all", "since_join"]),
    )
    @precondition(lambda self: sum(talk.kind == "group" for talk in self.talks.values()) < 4)
    def begin_group(self, owner: str, others: set[str], history: str) -> None:
        chat_id, message_id = self.fresh("c"), self.fresh("m")
        self.run(self.chats.create_group(owner, sorted(others), "t", history, chat_id, message_id, self.now))  # type: ignore[arg-type]
        talk = self.talks[chat_id] = Talk("group", history)
        for user in {owner, *others}:
            talk.parts[user] = Part("owner" if user == owner else "member", 1, self.now, 0, 0)
        talk.add(message_id, None, "")

    @rule(pair=st.sampled_from([("alice", "bob"), ("bob", "alice"), ("carol", "bob")]))
    @precondition(
        lambda self: (
            any(t.closed for t in self.talks.values()) or sum(t.kind == "direct" for t in self.talks.values()) < 2
        )
    )
    def begin_direct(self, pair: tuple[str, str]) -> None:
        chat_id, made, _ = self.run(self.chats.create_direct(*pair, self.fresh("c"), self.now))
        assert made == (chat_id not in self.talks)
        talk = self.talks.setdefault(chat_id, Talk("direct"))
        for user in pair if made else pair[:1]:
            if user not in talk.parts:
                talk.parts[user] = talk.closed.pop(user) if user in talk.closed else Part("member", 1, self.now, 0, 0)

    @rule(data=st.data(), times=st.integers(1, 8))
    def post(self, data: st.DataObject, times: int) -> None:
        place = self.a_place(data)
        if place is None:
            return
        chat_id, _, user = place
        for _ in range(times):
            self.say(chat_id, user)

    def say(self, chat_id: str, user: str) -> None:
        talk, message_id = self.talks[chat_id], self.fresh("m")
        draft = Draft(
            id=message_id, chat_id=chat_id, sender_id=user, client_id=message_id, text=message_id, now=self.now
        )
        posted = self.run(self.chats.append(draft, -1))
        for closed in list(talk.closed):
            talk.parts[closed] = talk.closed.pop(closed)
        talk.add(message_id, user, message_id)
        assert (posted.message.seq, posted.message.rev) == (talk.seq, talk.rev)
        again = self.run(self.chats.append(draft, -1))
        assert not again.created
        assert again.message.id == message_id

    def a_message(self, data: st.DataObject, own: bool = False) -> tuple[str, Talk, str, str] | None:
        place = self.a_place(data)
        if place is None:
            return None
        chat_id, talk, user = place
        found = [
            m
            for m, said in talk.visible(user).items()
            if said.sender is not None and not said.deleted and (not own or said.sender == user)
        ]
        # One of the newest, so that what happens to messages happens to the same ones.
        return (chat_id, talk, user, self.pick(data, sorted(found)[-2:])) if found else None

    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        if found := self.a_message(data, own=True):
            chat_id, talk, user, message_id = found
            text = self.fresh("edited ")
            self.run(self.chats.edit(chat_id, message_id, user, text, self.now))
            talk.touch(message_id).text = text

    @rule(data=st.data())
    def delete_for_everyone(self, data: st.DataObject) -> None:
        if found := self.a_message(data, own=True):
            chat_id, talk, user, message_id = found
            self.run(self.chats.delete_message(chat_id, message_id, user, self.now))
            said = talk.touch(message_id)
            said.text, said.deleted, said.reactions = "", True, {}

    @rule(data=st.data())
    def hide(self, data: st.DataObject) -> None:
        if found := self.a_message(data):
            chat_id, talk, user, message_id = found
            assert self.run(self.chats.hide(chat_id, message_id, user))
            assert not self.run(self.chats.hide(chat_id, message_id, user))
            talk.hidden.add((user, message_id))

    @rule(data=st.data(), emoji=st.sampled_from("👍🎉"))
    def react(self, data: st.DataObject, emoji: str) -> None:
        if found := self.a_message(data):
            chat_id, talk, user, message_id = found
            users = talk.said[message_id].reactions.get(emoji, [])
            present = user not in users
            self.run(self.chats.react(chat_id, message_id, user, emoji, present))
            reactions = talk.touch(message_id).reactions
            reactions[emoji] = [*users, user] if present else [u for u in users if u != user]
            if not reactions[emoji]:
                del reactions[emoji]

    @rule(data=st.data(), seq=st.integers(0, 40), read=st.booleans())
    def mark(self, data: st.DataObject, seq: int, read: bool) -> None:
        if place := self.a_place(data):
            chat_id, talk, user = place
            self.run(self.chats.set_marks(chat_id, user, seq, seq if read else 0, -1))
            part, seq = talk.parts[user], min(seq, talk.seq)
            part.delivered = max(part.delivered, seq)
            part.read = max(part.read, seq if read else 0)

    @rule(data=st.data(), pinned=st.booleans())
    def pin(self, data: st.DataObject, pinned: bool) -> None:
        if place := self.a_place(data):
            chat_id, talk, user = place
            self.run(self.chats.set_own(chat_id, user, {"pinned": pinned}))
            talk.parts[user].pinned = pinned

    @rule(name=st.sampled_from(PEOPLE))
    def rename(self, name: str) -> None:
        self.names[name] = self.fresh("name")
        self.run(self.world.rename(name, self.names[name]))

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if place := self.a_place(data, ("group",)):
            chat_id, talk, user = place
            message_id = self.fresh("m")
            self.run(self.chats.remove_member(chat_id, user, user, message_id, self.now))
            self.without(chat_id, talk, user, message_id)

    def without(self, chat_id: str, talk: Talk, user: str, message_id: str) -> None:
        part = talk.parts.pop(user)
        if not talk.parts:
            del self.talks[chat_id]
            return
        if part.role == "owner":
            heir = min(talk.parts, key=lambda u: (talk.parts[u].role != "admin", talk.parts[u].joined, u))
            talk.parts[heir].role = "owner"
        talk.add(message_id, None, "")

    @rule(data=st.data(), removes=st.booleans())
    def owner_changes_members(self, data: st.DataObject, removes: bool) -> None:
        place = self.a_place(data, ("group",))
        if place is None:
            return
        chat_id, talk, _ = place
        owner = next(user for user, part in talk.parts.items() if part.role == "owner")
        message_id = self.fresh("m")
        if removes:
            if others := sorted(set(talk.parts) - {owner}):
                user = self.pick(data, others)
                self.run(self.chats.remove_member(chat_id, owner, user, message_id, self.now))
                self.without(chat_id, talk, user, message_id)
        elif missing := sorted(set(PEOPLE) - set(talk.parts)):
            self.run(self.chats.add_members(chat_id, owner, missing, message_id, self.now))
            first = 1 if talk.history == "all" else talk.seq + 1
            for user in missing:
                talk.parts[user] = Part("member", first, self.now, talk.seq, talk.seq)
            talk.add(message_id, None, "")

    @rule(data=st.data(), role=st.sampled_from(["owner", "admin", "member"]))
    def change_role(self, data: st.DataObject, role: str) -> None:
        place = self.a_place(data, ("group",))
        if place is None:
            return
        chat_id, talk, user = place
        owner = next(u for u, part in talk.parts.items() if part.role == "owner")
        if user == owner:
            return
        message_id = self.fresh("m")
        self.run(self.chats.set_role(chat_id, owner, user, role, message_id, self.now))  # type: ignore[arg-type]
        if talk.parts[user].role != role:
            talk.parts[user].role = role
            if role == "owner":
                talk.parts[owner].role = "admin"
            talk.add(message_id, None, "")

    @rule(data=st.data())
    def delete_chat(self, data: st.DataObject) -> None:
        place = self.a_place(data)
        if place is None:
            return
        chat_id, talk, user = place
        if talk.kind == "direct":
            self.run(self.chats.delete_chat(chat_id, user, self.now))
            part = talk.parts.pop(user)
            part.first_seq, part.read, part.delivered, part.pinned = talk.seq + 1, talk.seq, talk.seq, False
            talk.closed[user] = part
        elif talk.parts[user].role == "owner":
            self.run(self.chats.delete_chat(chat_id, user, self.now))
            del self.talks[chat_id]

    @rule(data=st.data())
    def send_again_what_was_sent(self, data: st.DataObject) -> None:
        """Late, under another id, whatever became of it since: it is there once."""
        if place := self.a_place(data):
            chat_id, talk, user = place
            sent = sorted(m for m, said in talk.visible(user).items() if said.sender == user)
            if sent:
                first = self.pick(data, sent)
                draft = Draft(id=self.fresh("m"), chat_id=chat_id, sender_id=user, client_id=first, text="again",
                              now=self.now)
                posted = self.run(self.chats.append(draft, -1))
                assert not posted.created
                assert said_of(posted.message) == talk.said[first].seen()

    @rule(data=st.data())
    def search(self, data: st.DataObject) -> None:
        if place := self.a_place(data):
            chat_id, talk, user = place
            texts = sorted({said.text for said in talk.said.values() if said.text} | {"edited", "m0", "nothing"})
            query = self.pick(data, texts)
            terms = [fold(term) for term in terms_of(query)]
            wanted = {m: said.seq for m, said in talk.visible(user).items() if has_terms(said.text, terms)}
            found = self.run(self.chats.search(user, query, chat_id, None, 100))
            assert [hit.message.id for hit in found] == sorted(wanted, key=lambda m: -wanted[m])

    @rule(pair=st.permutations(PEOPLE), data=st.data())
    def be_blocked_for_a_while(self, pair: list[str], data: st.DataObject) -> None:
        """Whoever is blocked neither writes to the other nor takes them into a group; and nothing changes by that."""
        other, user = pair[:2]
        self.run(self.accounts.block(other, user, now_ms=self.now))
        assert self.refusal(self.chats.create_group(
            user, [other], "t", "all", self.fresh("c"), self.fresh("m"), self.now)) == "blocked"
        for chat_id, talk in self.talks.items():
            if talk.kind == "direct" and {*talk.parts, *talk.closed} == {other, user} and user in talk.parts:
                draft = Draft(id=self.fresh("m"), chat_id=chat_id, sender_id=user, client_id=self.fresh("m"), text="x",
                              now=self.now)
                assert self.refusal(self.chats.append(draft, -1)) == "blocked"
                # A reaction that is there already changes nothing, and is no new one.
                if seen := sorted(m for m, said in talk.visible(user).items()
                                  if not said.deleted and user not in said.reactions.get("👍", [])):
                    assert self.refusal(
                        self.chats.react(chat_id, self.pick(data, seen), user, "👍", True)) == "blocked"
        self.run(self.accounts.unblock(other, user))

    def refusal(self, call: Any) -> str:
        try:
            self.run(call)
        except HyperSendError as error:
            return error.code
        raise AssertionError("not refused")

    # What devices do

    @rule(name=st.sampled_from(DEVICES))
    def copy(self, name: str) -> None:
        device = self.devices[name]
        device.kept = copy.deepcopy((device.held, device.names, device.position, device.round))

    @rule(name=st.sampled_from(DEVICES))
    @precondition(lambda self: any(device.kept for device in self.devices.values()))
    def put_the_copy_back(self, name: str) -> None:
        """It comes with a token from long ago, and with what it knew then."""
        device = self.devices[name]
        if device.kept is not None:
            device.held, device.names, device.position, device.round = copy.deepcopy(device.kept)

    @rule(name=st.sampled_from(DEVICES), limit=st.integers(1, 4))
    def sync_one_page(self, name: str, limit: int) -> None:
        self.page(self.devices[name], limit)

    @rule(name=st.sampled_from(DEVICES))
    def start_anew(self, name: str) -> None:
        """The device lost its token, not its chats."""
        device = self.devices[name]
        device.position = SyncPosition("", device.user, 0)

    @rule(name=st.sampled_from(DEVICES), limit=st.integers(1, 8))
    def sync_to_the_end(self, name: str, limit: int) -> None:
        device = self.devices[name]
        for _ in range(2):  # the round that is under way, and a whole one
            while self.page(device, limit):
                pass
        mine = {chat_id: talk for chat_id, talk in self.talks.items() if device.user in talk.parts}
        assert set(device.held) == set(mine)
        for chat_id, talk in mine.items():
            held, part = device.held[chat_id], talk.parts[device.user]
            visible = talk.visible(device.user)
            assert held.messages == {message_id: said.seen() for message_id, said in visible.items()}
            assert held.members == {user: other.seen() for user, other in talk.parts.items()}
            last = max(visible, key=lambda m: visible[m].seq, default=None)
            assert held.view == (talk.seq, talk.rev, talk.unread(device.user), part.read, part.pinned, part.role, last)
            for user in talk.parts:
                assert device.names[user] == self.names[user]
        self.look_again(device, limit)

    def look_again(self, device: Device, limit: int) -> None:
        """Nothing is left to say."""
        assert not self.page(device, limit)

    def page(self, device: Device, limit: int) -> bool:
        device.round += device.position.upto == 0
        page = self.run(self.chats.sync(device.position, limit))
        if page.full:
            device.held.clear()
        for chat_id in page.gone:
            device.held.pop(chat_id, None)
        for chat_id in page.reset:
            device.held[chat_id] = Held(reset_in=device.round)
        for view in page.chats:
            last = view.last_message
            device.held[view.chat.id].view = (
                view.chat.seq,
                view.chat.rev,
                view.unread,
                view.me.read_seq,
                view.me.pinned,
                view.me.role,
                None if last is None else last.id,
            )
        for chat_id in page.reset:
            self.load(device, chat_id)
        for member in page.members:
            assert member.chat_id not in page.reset
            if member.left_at is None:
                device.held[member.chat_id].members[member.user_id] = part_of(member)
            else:
                device.held[member.chat_id].members.pop(member.user_id, None)
            device.names[member.user_id] = self.names[member.user_id]
        for user_id in page.user_ids:
            device.names[user_id] = self.names[user_id]
        for message in page.messages:
            held = device.held[message.chat_id]
            assert message.rev > held.synced_rev, "a rev came twice, or after a later one"
            held.synced_rev = message.rev
            assert held.reset_in != device.round, "a chat is told as reset, or change by change, not both"
            held.messages[message.id] = said_of(message)
        for chat_id, message_id in page.hidden:
            device.held[chat_id].messages.pop(message_id, None)
        assert page.more or len(page.messages) <= max(limit, 1)
        device.position = page.position
        return bool(page.more)

    def load(self, device: Device, chat_id: str) -> None:
        """What a client does with a chat that is told as reset, when it opens it."""
        held = device.held[chat_id]
        messages = self.run(self.chats.messages_by_seq(chat_id, device.user, 200)).messages
        held.messages = {message.id: said_of(message) for message in messages}
        members = self.run(self.chats.list_members(chat_id, device.user, "", 200))
        held.members = {member.user_id: part_of(member) for member in members}
        device.names.update({member.user_id: self.names[member.user_id] for member in members})

    @invariant()
    def seqs_and_revs_have_no_holes(self) -> None:
        for chat_id, talk in getattr(self, "talks", {}).items():
            if talk.parts:
                view = self.run(self.chats.get_chat(chat_id, next(iter(talk.parts))))
                assert (view.chat.seq, view.chat.rev) == (talk.seq, talk.rev)


def walks_of(number: int, *, steps: int) -> settings:
    """Shrinking a walk over a real database takes minutes; the walk that failed is printed as it was. It is kept in
    `.hypothesis`, and the next run begins with it: what is run once more because it failed does not just walk
    elsewhere."""
    return settings(
        max_examples=times(number),
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )


def named(machine: type[RuleBasedStateMachine], variant: str, **fields: Any) -> type[RuleBasedStateMachine]:
    """This machine with a name of its own, under which its walks are kept: a walk that fails in one variant and
    passes in another is forgotten where both keep theirs in one place."""
    return type(f"{machine.__name__}_{variant}", (machine,), fields)


@pytest.mark.parametrize("way", ["BY_MEMBERSHIP", "BY_CHANGE"])
def test_devices_that_sync_at_random_moments_know_exactly_what_they_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    prepare(tmp_path / "template", PEOPLE)
    monkeypatch.setattr(chats_sync, "MAX_BEHIND", SMALL_BEHIND)
    monkeypatch.setattr(chats_sync, "FIRST_READ", 1)
    monkeypatch.setattr(chats_sync, "MOST_READ", 2)
    monkeypatch.setattr(chats_sync, "BY_MEMBERSHIP", getattr(chats_sync, way))
    if way == "BY_CHANGE":
        monkeypatch.setattr(chats_sync, "USERS", chats_sync.CIRCLE)
    machine = named(SyncMachine, way, template=tmp_path / "template")
    run_state_machine_as_test(machine, settings=walks_of(70, steps=50))  # type: ignore[no-untyped-call]
