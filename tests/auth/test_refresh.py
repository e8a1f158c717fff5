"""Refresh rotation against a simple model, and what people would notice of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from hypersend_server.auth.tokens import ACCESS_TTL_S
from hypersend_server.auth.types import Session
from hypersend_server.errors import HyperSendError
from tests.auth.parts import HERE, Rooms, refused, rooms

GRACE_S = 60


@dataclass
class Model:
    """The rule of refresh tokens in a few lines: the newest rotates, the one before repeats for a while."""

    newest: int = 1
    used_at: float | None = None
    ended: bool = False
    tokens: dict[int, Session] = field(default_factory=dict)

    def refresh(self, generation: int, now: float) -> int | str:
        if self.ended:
            return "session_ended"
        if generation == self.newest:
            self.newest, self.used_at = generation + 1, None
            return self.newest
        if generation == self.newest - 1 and (self.used_at is None or now < self.used_at + GRACE_S):
            return self.newest
        self.ended = True
        return "refresh_reused"

    def use(self, generation: int, now: float) -> None:
        if generation == self.newest and self.used_at is None and not self.ended:
            self.used_at = now


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("refresh"), st.integers(0, 3)),
        st.tuples(st.just("use"), st.integers(0, 2)),
        st.tuples(st.just("wait"), st.sampled_from([1, 30, 59, 60, 61, 1000])),
    ),
    max_size=25,
)


async def follow(room: Rooms, steps: list[tuple[str, int]]) -> None:
    first = await room.register("alice")
    model = Model(tokens={1: first})
    for kind, value in steps:
        generation = max(1, model.newest - value)
        session = model.tokens[generation]
        if kind == "wait":
            room.clock.advance(value)
        elif kind == "use":
            try:
                await room.present(session.access_token)
            except HyperSendError as error:
                assert error.code == "token_expired" or (error.code == "session_ended" and model.ended)  # noqa: PT017
            else:
                assert not model.ended
                model.use(generation, room.clock.now / 1000)
        else:
            expected = model.refresh(generation, room.clock.now / 1000)
            try:
                answer = await room.auth.refresh(session.refresh_token, HERE)
            except HyperSendError as error:
                assert error.code == expected  # noqa: PT017
            else:
                assert isinstance(expected, int)
                known = model.tokens.setdefault(expected, answer)
                assert known.refresh_token == answer.refresh_token
                assert f".{expected}." in answer.refresh_token
                model.tokens[expected] = answer
    assert (room.ended == [first.session_id]) == model.ended


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_rotation_follows_the_rule_whatever_happens_in_between(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        with TemporaryDirectory() as root:
            async with rooms(Path(root)) as room:
                await follow(room, steps)

    asyncio.run(run())


async def test_two_callers_at_once_get_the_very_same_pair(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        session = await room.register("alice")
        room.clock.advance(100)
        first, second = await asyncio.gather(*(room.auth.refresh(session.refresh_token, HERE) for _ in range(2)))
        assert first == second
        assert first.expires_in == ACCESS_TTL_S


async def test_an_answer_that_was_lost_can_be_asked_for_much_later(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        session = await room.register("alice")
        lost = await room.auth.refresh(session.refresh_token, HERE)
        room.clock.advance(30 * 86_400)
        found = await room.auth.refresh(session.refresh_token, HERE)
        assert found.refresh_token == lost.refresh_token
        await room.present(found.access_token)  # fresh, not the one of a month ago


async def test_a_thief_is_noticed_and_everybody_signed_out(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        session = await room.register("alice")
        newer = await room.auth.refresh(session.refresh_token, HERE)
        await room.present(newer.access_token)
        room.clock.advance(61)
        await refused("refresh_reused", room.auth.refresh(session.refresh_token, HERE))
        assert room.ended == [session.session_id]
        await refused("session_ended", room.present(newer.access_token))
        await refused("session_ended", room.auth.refresh(newer.refresh_token, HERE))


async def test_using_the_access_token_starts_the_minute_once(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        session = await room.register("alice")
        newer = await room.auth.refresh(session.refresh_token, HERE)
        await room.present(newer.access_token)
        room.clock.advance(59)
        await room.present(newer.access_token)
        assert (await room.auth.refresh(session.refresh_token, HERE)).refresh_token == newer.refresh_token
        room.clock.advance(1)
        await refused("refresh_reused", room.auth.refresh(session.refresh_token, HERE))


async def test_forged_refresh_tokens_change_nothing(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        session = await room.register("alice")
        other = await room.register("bob")
        tag = other.refresh_token.rsplit(".", 1)[1]
        for forged in (
            f"hsr1.{session.session_id}.1.{tag}",
            f"hsr1.{session.session_id}.99.{tag}",
            f"hsr1.nobody.1.{tag}",
            "x",
            session.refresh_token + "x",
        ):
            await refused("token_invalid", room.auth.refresh(forged, HERE))
        await room.auth.refresh(session.refresh_token, HERE)
