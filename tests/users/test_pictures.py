from __future__ import annotations

import io
import random
import zlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import PictureRecord
from hypersend_server.pictures import Pictures, _reencode
from tests.auth.parts import SECRET, ManualClock, refused


async def nothing(picture_id: str) -> PictureRecord | None:
    return None


@pytest.fixture
async def pictures() -> AsyncIterator[Pictures]:
    made = Pictures(SECRET, nothing, ManualClock())
    yield made
    made.close()


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    depth = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (width, height), random.Random(1).randbytes(width * height * depth))


@pytest.mark.parametrize(
    ("kind", "mode", "mime"),
    [
        ("PNG", "RGB", "image/jpeg"),
        ("PNG", "RGBA", "image/webp"),
        ("JPEG", "RGB", "image/jpeg"),
        ("JPEG", "L", "image/jpeg"),
        ("JPEG", "CMYK", "image/jpeg"),
        ("WEBP", "RGBA", "image/webp"),
        ("GIF", "RGB", "image/jpeg"),
    ],
)
async def test_known_kinds_become_small_jpeg_or_webp(pictures: Pictures, kind: str, mode: str, mime: str) -> None:
    made, data = await pictures.reencode(encoded(noise(800, 400, mode), kind), 512, 256 * 1024)
    assert made == mime
    assert len(data) <= 256 * 1024
    assert Image.open(io.BytesIO(data)).size == (512, 256)


async def test_noise_is_pressed_below_the_limit(pictures: Pictures) -> None:
    _, data = await pictures.reencode(encoded(noise(512, 512), "PNG"), 512, 60_000)
    assert len(data) <= 60_000
    await refused("picture_invalid", pictures.reencode(encoded(noise(512, 512), "PNG"), 512, 1000))


async def test_a_photo_is_turned_upright_and_loses_its_place(pictures: Pictures) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    exif[0x010F] = "Maker of phones"
    _, data = await pictures.avatar(encoded(Image.new("RGB", (200, 100)), "JPEG", exif=exif))
    picture = Image.open(io.BytesIO(data))
    assert picture.size == (100, 200)
    assert not picture.getexif()
    assert b"Maker" not in data


async def test_what_is_no_picture_is_refused(pictures: Pictures) -> None:
    png = encoded(noise(64, 64), "PNG")
    for data in (
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF89a",
        png[:200],
        png[:40] + b"x" * 400,
        encoded(noise(64, 64), "BMP"),
        encoded(noise(64, 64), "TIFF"),
        b"\xff\xd8\xff\xe0" * 50,
    ):
        await refused("picture_invalid", pictures.avatar(data))


async def test_a_bomb_is_refused_by_its_header(pictures: Pictures) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )
    error = await refused("picture_invalid", pictures.avatar(bomb))
    assert "pixels" in error.detail


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), at=st.integers(0, 2000), junk=st.binary(max_size=40))
def test_damaged_pictures_are_pictures_or_refused(kind: str, at: int, junk: bytes) -> None:
    whole = encoded(noise(24, 24), kind)
    at %= len(whole)
    try:
        mime, data = _reencode(whole[:at] + junk + whole[at + len(junk) :], 512, 256 * 1024)
    except HyperSendError as error:
        assert error.code == "picture_invalid"  # noqa: PT017
    else:
        assert mime in ("image/jpeg", "image/webp")
        assert data


async def test_the_path_is_the_same_all_day_and_lasts_until_the_end_of_the_next() -> None:
    clock = ManualClock()
    clock.now = 20_000 * 86_400_000  # midnight
    pictures = Pictures(SECRET, nothing, clock)
    morning = pictures.url("p1")
    clock.advance(86_399)
    assert pictures.url("p1") == morning
    assert f"?e={20_002 * 86_400}&" in morning
    clock.advance(1)
    assert pictures.url("p1") != morning
    assert pictures.url("p2") != pictures.url("p1")
    pictures.close()
