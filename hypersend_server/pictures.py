"""Avatars and previews: made small and harmless on their way in, served under signed paths on their way out.

An image element sends no header, so the path itself carries the right to see: `/api/v1/pictures/{id}?e=…&s=…`, good
until the end of the next UTC day (e, Unix seconds) and the same in all answers of a day, so that clients cache.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

from aiohttp import web
from msgspec import Meta

from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.http import Call, Route
from hypersend_server.metadata.accounts import PictureRecord
from hypersend_server.resources import Query
from hypersend_server.signer import Signer

AVATAR_SIDE = 512
AVATAR_BYTES = 256 * 1024
MAX_UPLOAD_BYTES = 2 * 1024 * 1024
MAX_PIXELS = 16 * 1024 * 1024  # 64 MiB once decoded
MAX_WAITING = 8
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_DAY_S = 86_400


class PictureQuery(Query, frozen=True):
    e: Annotated[int, Meta(ge=0, le=2**40, description="Good until, in Unix seconds")]
    s: Annotated[str, Meta(min_length=1, max_length=64, description="Signature")]


class Pictures:
    def __init__(
        self,
        secret_key: str,
        get_picture: Callable[[str], Awaitable[PictureRecord | None]],
        clock: Clock,
    ) -> None:
        self._signer = Signer(secret_key, "picture")
        self._get_picture = get_picture
        self._clock = clock
        # One thread: a picture is worked on with up to 100 MB, and two of them would not fit a small machine.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._room = 1 + MAX_WAITING

    def url(self, picture_id: str) -> str:
        """The signed path under which everybody who has it sees the picture."""
        until = (self._clock() // 1000 // _DAY_S + 2) * _DAY_S
        return f"/api/v1/pictures/{picture_id}?e={until}&s={self._signer.tag(f'{picture_id}:{until}')}"

    async def reencode(self, data: bytes, max_side: int, max_bytes: int) -> tuple[str, bytes]:
        """(mime, bytes) of the same picture, turned upright, without metadata and animation.

        Sides of at most max_side pixels, at most max_bytes. Raises: `picture_invalid`, `busy`.
        """
        if self._room == 0:
            raise HyperSendError("busy", "Other pictures are being worked on.")
        self._room -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, _reencode, data, max_side, max_bytes)
        finally:
            self._room += 1

    async def avatar(self, data: bytes) -> tuple[str, bytes]:
        """`reencode` to the size of an avatar."""
        return await self.reencode(data, AVATAR_SIDE, AVATAR_BYTES)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def routes(self) -> list[Route]:
        return [
            Route(
                method="GET",
                path="/api/v1/pictures/{picture_id}",
                handler=self._serve,
                tag="users",
                auth="none",
                summary="An avatar or preview, by the signed path that came with what shows it.",
                query=PictureQuery,
                open_query=True,
                replies={200: "image/*"},
                errors=("ticket_invalid",),
            )
        ]

    async def _serve(self, call: Call) -> web.StreamResponse:
        picture_id, until, tag = call.path("picture_id"), call.query.e, call.query.s
        left_s = until - self._clock() // 1000
        if left_s <= 0 or not self._signer.verify(f"{picture_id}:{until}", tag):
            raise HyperSendError("ticket_invalid")
        picture = await self._get_picture(picture_id)
        if picture is None:
            raise HyperSendError("ticket_invalid", "This picture is gone.")
        return web.Response(
            body=picture.data,
            content_type=picture.mime,
            headers={
                "Cache-Control": f"private, max-age={min(left_s, 2 * _DAY_S)}, immutable",
                "Content-Security-Policy": "default-src 'none'; sandbox",
                "Cross-Origin-Resource-Policy": "cross-origin",
            },
        )


def _reencode(data: bytes, max_side: int, max_bytes: int) -> tuple[str, bytes]:
    from PIL import Image, ImageOps  # only here: a server that meets no picture does not pay for it

    Image.MAX_IMAGE_PIXELS = None  # our own limit is lower, and an error rather than a warning
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise HyperSendError("picture_invalid", f"The picture has more than {MAX_PIXELS} pixels.")
            opened.draft("RGB", (max_side, max_side))  # a JPEG is decoded no larger than needed
            picture = ImageOps.exif_transpose(opened)
            see_through = picture.has_transparency_data
            picture = picture.convert("RGBA" if see_through else "RGB")
            picture.thumbnail((max_side, max_side))
    except HyperSendError:
        raise
    except Exception as error:  # whatever a damaged picture makes of its decoder: Pillow promises no one kind
        raise HyperSendError("picture_invalid") from error
    mime, kind = ("image/webp", "WEBP") if see_through else ("image/jpeg", "JPEG")
    for quality in (85, 70, 50, 30, 10):
        out = io.BytesIO()
        picture.save(out, kind, quality=quality)
        if out.tell() <= max_bytes:
            return mime, out.getvalue()
    raise HyperSendError("picture_invalid", "The picture cannot be made small enough.")
