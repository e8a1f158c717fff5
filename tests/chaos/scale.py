"""The same with two servers behind nginx, over MongoDB's stand-in, Redis and MinIO, of which each may go away."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from tests.chaos.world import Fault, World
from tests.mongo_server import MongoServer
from tests.redis_server import RedisServer
from tests.s3_servers import S3Server
from tests.scale.deployment import Deployment, s3_settings


class ScaleWorld(World):
    """folder: for everything."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        self.mongo = MongoServer(folder / "mongo")
        self.redis = RedisServer(folder / "redis")
        self.store = S3Server("minio", folder / "minio")
        self._started = contextlib.ExitStack()

    def _start(self) -> None:
        (self.folder / "minio").mkdir()
        for part in (self.mongo, self.redis, self.store):
            self._started.callback(part.start().kill)
        deployment = self._started.enter_context(
            Deployment(self.folder / "two", self.mongo, self.redis, **s3_settings(self.store)))
        self.servers = deployment.servers
        self.url = deployment.balance()

    def _end(self) -> None:
        self._started.close()

    def faults(self) -> list[Fault]:
        return [*super().faults(), self.kill_redis, self.freeze_redis, self.stop_database, self.freeze_database,
                self.freeze_store]

    async def kill_redis(self) -> None:
        self.redis.kill()
        await asyncio.sleep(self.moments.uniform(0, 6))
        await asyncio.to_thread(self.redis.start)

    async def freeze_redis(self) -> None:
        self.redis.freeze()
        await asyncio.sleep(self.moments.uniform(0.5, 15))
        self.redis.thaw()

    async def stop_database(self) -> None:
        await asyncio.to_thread(self.mongo.stop)  # killed, the stand-in forgets; see tests/mongo_server.py
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
