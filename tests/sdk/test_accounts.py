"""Lists of people that have more than one page."""

from __future__ import annotations

from aiohttp import web

from hypersend_client.sdk import Account, HyperSend, MemoryTokenStore
from tests.sdk.peer import Peer, serving


async def test_all_blocked_people_are_listed_beyond_one_page() -> None:
    people = [{"id": f"u-{n}", "username": f"n{n}"} for n in range(450)]

    async def page(request: web.Request) -> web.Response:
        begin, limit = int(request.query.get("cursor", "0")), int(request.query["limit"])
        end = begin + limit
        return web.json_response({"items": people[begin:end], "next_cursor": str(end) if end < len(people) else None})

    async with serving(Peer()) as server:
        server.on("/users/me/blocks", page)
        account = Account("server-1", "u-me", server.url, "ses-1", "access", "refresh")
        async with HyperSend(server.url, tokens=MemoryTokenStore(account)) as hs:
            assert [user.id for user in await hs.me.blocks()] == [person["id"] for person in people]
