"""Redis: reachable, its version, and whether a message that is published is heard."""

from __future__ import annotations

import asyncio
import secrets
import time
from urllib.parse import urlsplit

from hypersend_server.doctor.findings import Area, shown_ms

ANSWER_S = 10.0
SLOW_S = 0.05


async def check(url: str, area: Area) -> None:
    try:
        from redis.asyncio import Redis
        from redis.exceptions import RedisError
    except ImportError as error:
        area.problem(f"the package for Redis is missing: {error}", "pip install 'hypersend[redis]'")
        return
    parts = urlsplit(url)
    where = parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
    redis = Redis.from_url(url, socket_connect_timeout=ANSWER_S, socket_timeout=ANSWER_S)
    channel = f"hypersend-doctor:{secrets.token_hex(8)}"
    try:
        async with asyncio.timeout(3 * ANSWER_S):
            version = str((await redis.info("server"))["redis_version"])
            async with redis.pubsub() as heard:
                await heard.subscribe(channel)
                began = time.monotonic()
                await redis.publish(channel, b"probe")
                while (message := await heard.get_message(timeout=ANSWER_S)) is None or message["type"] != "message":
                    if time.monotonic() - began > ANSWER_S:
                        raise TimeoutError
                took = time.monotonic() - began
    except (RedisError, OSError, TimeoutError) as error:
        text = "it does not answer" if isinstance(error, TimeoutError) else type(error).__name__
        area.problem(f"Redis at {where} cannot be used: {text}",
                     "Look at REDIS_URL (name, password, port); its user needs +@pubsub +ping +info &hypersend*.")
    else:
        if took > SLOW_S:
            area.warn(f"Redis at {where} takes {shown_ms(took)} for a message", "Run it near the servers.")
        else:
            area.ok(f"Redis {version} at {where} passes a message on within {shown_ms(took)}")
    finally:
        await redis.aclose()
