from __future__ import annotations

import io
import random
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import GifImagePlugin, Image, WebPImagePlugin

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import PictureRecord
from hypersend_server.pictures import MAX_UPLOAD_BYTES, Pictures, _reencode
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


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


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
    header = (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + png_chunk(b"IEND", b"")
    )
    error = await refused("picture_invalid", pictures.avatar(bomb))
    assert "pixels" in error.detail


def swollen(mib: int) -> bytes:
    """zlib data of so many MiB, in a thousandth of it."""
    press = zlib.compressobj(9)
    return b"".join(press.compress(bytes(2**20)) for _ in range(mib)) + press.flush()


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "iCCP", "many zTXt"])
async def test_text_and_profiles_that_swell_take_no_memory(pictures: Pictures, kind: str) -> None:
    """Chunks beside the picture that unpack to 256 MiB: the picture is made without them, or refused."""
    body = {"zTXt": b"k\0\0", "iTXt": b"k\0\1\0\0\0", "iCCP": b"p\0\0"}[kind.rpartition(" ")[2]]
    chunks = [body + swollen(256)] if " " not in kind else [body + swollen(1)] * 256
    png = encoded(noise(64, 64), "PNG")
    bomb = png[:33] + b"".join(png_chunk(kind.rpartition(" ")[2].encode(), each) for each in chunks) + png[33:]
    assert len(bomb) < MAX_UPLOAD_BYTES
    tracemalloc.start()
    try:
        _, data = await pictures.avatar(bomb)
        assert len(data) < 64 * 1024
    except HyperSendError as error:
        assert error.code == "picture_invalid"  # noqa: PT017
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 100 * 2**20, most


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
async def test_of_very_many_frames_one_is_looked_at(
    pictures: Pictures, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [Image.new("P" if kind == "GIF" else "RGB", (8, 8), number % 200) for number in range(500)]
    film = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=10)
    if kind == "GIF":
        body = film[13:-1]
        film = film[:13] + body * ((MAX_UPLOAD_BYTES - 100) // len(body)) + film[-1:]
    asked: list[int] = []
    for plugin in (GifImagePlugin.GifImageFile, WebPImagePlugin.WebPImageFile):
        real = plugin.seek
        monkeypatch.setattr(plugin, "seek", lambda self, frame, real=real: (asked.append(frame), real(self, frame)))
    mime, data = await pictures.avatar(film)
    assert max(asked, default=0) == 0
    made = Image.open(io.BytesIO(data))
    assert (mime, made.size, getattr(made, "n_frames", 1)) == ("image/jpeg", (8, 8), 1)


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
