"""The same with two servers behind nginx, over MongoDB's stand-in, Redis and MinIO, of which each may go away."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from tests.chaos.clock import WallClock
from tests.chaos.world import Fault, World
from tests.mongo_server import MongoServer
from tests.redis_server import RedisServer
from tests.s3_servers import S3Server
from tests.scale.deployment import Deployment, s3_settings


class ScaleWorld(World):
    """folder: for everything."""

    def __init__(self, folder: Path, seed: int, pause_s: float = 0.2) -> None:
        super().__init__(folder, seed, pause_s=pause_s)
        self.clocks.append(WallClock(folder / "clock2"))
        self.mongo = MongoServer(folder / "mongo", "--sync-on-commit")
        self.redis = RedisServer(folder / "redis")
        self.store = S3Server("minio", folder / "minio")
        self._started = contextlib.ExitStack()

    async def _begin(self) -> None:
        (self.folder / "minio").mkdir()
        self._started.callback((await asyncio.to_thread(self.store.start)).kill)
        # What clients send straight to the store passes a line too, one for all of them.
        self.store_url = (await self._line(self.store.url)).url
        await super()._begin()

    def _start(self) -> None:
        for part in (self.mongo, self.redis):
            self._started.callback(part.start().kill)
        self.settings = {**s3_settings(self.store), "S3_PUBLIC_ENDPOINT": self.store_url}
        self.deployment = Deployment(self.folder / "two", self.mongo, self.redis, **self.settings)
        # Through the other one bytes go as well, and may mix within an upload.
        self.deployment.servers[1].settings["S3_DIRECT"] = "off"
        self.servers = self.deployment.servers
        for server, clock in zip(self.servers, self.clocks, strict=True):
            server.settings.update(clock.settings)
        self._started.enter_context(self.deployment)
        self.url = self.deployment.balance()

    def _end(self) -> None:
        self._started.close()

    def faults(self) -> list[Fault]:
        return [*super().faults(), self.kill_redis, self.freeze_redis, self.stop_database, self.kill_database,
                self.freeze_database, self.kill_store, self.freeze_store, self.kill_balancer]

    async def kill_balancer(self) -> None:
        await asyncio.to_thread(self.deployment.kill_balancer)
        await asyncio.sleep(self.moments.uniform(0, 3))
        await asyncio.to_thread(self.deployment.balance)

    async def kill_store(self) -> None:
        await asyncio.to_thread(self.store.kill)
        await asyncio.sleep(self.moments.uniform(0, 6))
        await asyncio.to_thread(self.store.start)

    async def kill_redis(self) -> None:
        self.redis.kill()
        await asyncio.sleep(self.moments.uniform(0, 6))
        await asyncio.to_thread(self.redis.start)

    async def freeze_redis(self) -> None:
        self.redis.freeze()
        await asyncio.sleep(self.moments.uniform(0.5, 15))
        self.redis.thaw()

    async def stop_database(self) -> None:
        await asyncio.to_thread(self.mongo.stop)
        await asyncio.sleep(self.moments.uniform(0, 6))
        await asyncio.to_thread(self.mongo.start)

    async def kill_database(self) -> None:
        await asyncio.to_thread(self.mongo.kill)
        await asyncio.sleep(self.moments.uniform(0, 6))
        await asyncio.to_thread(self.mongo.start)

    async def freeze_database(self) -> None:
        self.mongo.freeze()
        await asyncio.sleep(self.moments.uniform(0.5, 8))
        self.mongo.thaw()

    async def freeze_store(self) -> None:
        self.store.pause()
        await asyncio.sleep(self.moments.uniform(0.5, 6))
        self.store.go_on()

    def _has_no_parts(self) -> bool:
        """MinIO lists unfinished multiparts by exact key only, so its own folder of them is looked at."""
        return not any((self.folder / "minio" / "data" / ".minio.sys" / "multipart").glob("*/*/xl.meta"))

    def _check_database(self) -> None:
        """What the stand-in keeps is its own."""

    def _stored(self) -> set[str]:
        keys = [found.object_name or "" for found in self.store.client().list_objects(
            self.settings["S3_BUCKET"], recursive=True)]
        return {key.split("/")[1] for key in keys}
