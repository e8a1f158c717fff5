"""What every backend's `ServerRecords` must do: identity and leases."""

from __future__ import annotations

import asyncio

from hypersend_server.metadata.base import Metadata

NOW = 1_700_000_000_000


class ServerConformance:
    """Tests of `metadata.server`; `metadata` is an open, empty backend."""

    async def test_the_identity_stays_and_the_epoch_is_renewed(self, metadata: Metadata) -> None:
        first = await metadata.server.identity()
        assert await metadata.server.identity() == first
        renewed = await metadata.server.renew_epoch()
        assert renewed.server_id == first.server_id
        assert renewed.epoch != first.epoch
        assert await metadata.server.identity() == renewed

    async def test_a_lease_has_one_holder_until_it_ends_or_is_given_back(self, metadata: Metadata) -> None:
        server = metadata.server
        assert await server.take_lease("jobs", "a", NOW, 1000)
        assert not await server.take_lease("jobs", "b", NOW + 999, 1000)
        assert await server.take_lease("jobs", "a", NOW + 500, 1000)  # extended
        assert not await server.take_lease("jobs", "b", NOW + 1400, 1000)
        assert await server.lease_expiry("jobs", NOW + 1400) == NOW + 1500
        assert await server.lease_expiry("jobs", NOW + 1500) is None
        assert await server.take_lease("jobs", "b", NOW + 1500, 1000)  # it had ended
        await server.release_lease("jobs", "a")  # not its own any more
        assert not await server.take_lease("jobs", "a", NOW + 1600, 1000)
        await server.release_lease("jobs", "b")
        assert await server.take_lease("jobs", "a", NOW + 1600, 1000)

    async def test_of_many_who_want_a_lease_one_gets_it(self, metadata: Metadata) -> None:
        takers = [f"p{number}" for number in range(8)]
        taken = await asyncio.gather(
            *(metadata.server.take_lease("jobs", taker, NOW, 1000) for taker in takers), return_exceptions=True)
        assert [answer for answer in taken if isinstance(answer, BaseException)] == []
        assert taken.count(True) == 1

    async def test_leases_are_listed_by_prefix_ended_ones_too(self, metadata: Metadata) -> None:
        server = metadata.server
        assert await server.leases("process:") == []
        for name, at in (("process:b", NOW), ("process:a", NOW + 5000), ("jobs", NOW), ("processes", NOW),
                         ("process:c", NOW), ("Process:d", NOW), ("process:.*", NOW)):
            assert await server.take_lease(name, "holder", at, 1000)
        await server.release_lease("process:c", "holder")
        assert sorted(await server.leases("process:")) == [
            ("process:.*", NOW + 1000), ("process:a", NOW + 6000), ("process:b", NOW + 1000)]
        assert await server.leases("process:.*") == [("process:.*", NOW + 1000)]  # text, and no pattern
        assert await server.leases("process:%") == []

    async def test_what_is_left_of_a_lease_is_forgotten_only_if_nobody_renewed_it(self, metadata: Metadata) -> None:
        server = metadata.server
        await server.take_lease("process:a", "a", NOW, 1000)
        await server.forget_lease("process:a", NOW + 999)
        assert await server.leases("process:") == [("process:a", NOW + 1000)]
        await server.take_lease("process:a", "a", NOW - 500, 1000)  # renewed, by a clock that was set back
        await server.forget_lease("process:a", NOW + 1000)
        assert await server.leases("process:") == [("process:a", NOW + 500)]
        await server.forget_lease("process:a", NOW + 500)
        assert await server.leases("process:") == []
        await server.forget_lease("process:a", NOW + 500)  # gone already
