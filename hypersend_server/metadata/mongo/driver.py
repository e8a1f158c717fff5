"""The two drivers that speak to MongoDB: Motor, and PyMongo's own asynchronous client, which takes its place in time.

Only calls that both have in the same form are used elsewhere; the few that differ are here.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import pymongo
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.int64 import Int64
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

Driver = Literal["motor", "pymongo"]
T = TypeVar("T")

DEFAULT_DATABASE = "hypersend"
MAJORITY = WriteConcern("majority", wtimeout=20_000)
# What the URI does not say. Milliseconds and connections; a person waits at most a few seconds for a 503.
DEFAULTS: dict[str, Any] = {
    "appName": "hypersend",
    "connectTimeoutMS": 5_000,
    "serverSelectionTimeoutMS": 5_000,
    "socketTimeoutMS": 30_000,
    "waitQueueTimeoutMS": 10_000,
    "maxPoolSize": 50,
    "maxIdleTimeMS": 300_000,
}


class _PlainInt(TypeDecoder):
    """64-bit integers as `int` itself: its subclass is not encoded by msgspec."""

    bson_type = Int64

    def transform_bson(self, value: Any) -> int:
        return int(value)


OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(type_registry=TypeRegistry([_PlainInt()]))


def make_client(uri: str, driver: Driver) -> Any:
    """Raises: pymongo.errors.ConfigurationError, InvalidURI (a ConfigurationError), ValueError."""
    stated = {name.lower() for name in pymongo.uri_parser.parse_uri(uri, validate=True, normalize=False)["options"]}
    defaults = {name: value for name, value in DEFAULTS.items() if name.lower() not in stated}
    if driver == "pymongo":
        return pymongo.AsyncMongoClient(uri, **defaults)
    from motor.motor_asyncio import AsyncIOMotorClient

    return AsyncIOMotorClient(uri, **defaults)


def database_name(uri: str) -> str:
    return pymongo.uri_parser.parse_uri(uri, validate=False)["database"] or DEFAULT_DATABASE


def database_of(client: Any, name: str) -> Any:
    return client.get_database(
        name, codec_options=OPTIONS, read_concern=ReadConcern("majority"), write_concern=MAJORITY)


async def close_client(client: Any) -> None:
    closing = client.close()
    if inspect.isawaitable(closing):
        await closing


async def open_session(client: Any) -> Any:
    """A causally consistent session: what it has read, its later reads have too, whichever member answers."""
    opening = client.start_session()
    return await opening if inspect.isawaitable(opening) else opening


async def in_transaction(client: Any, work: Callable[[Any], Awaitable[T]]) -> T:
    """Run `work(session)` in one transaction on a snapshot; again from its start where it collides with another."""
    session = await open_session(client)
    async with session:
        answer: T = await session.with_transaction(
            work, read_concern=ReadConcern("snapshot"), write_concern=MAJORITY,
            read_preference=pymongo.ReadPreference.PRIMARY)
        return answer
