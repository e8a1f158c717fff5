"""Parsers of files: they accept, or refuse as documented, and nothing else comes out."""

from __future__ import annotations

import base64
import contextlib
import re
from urllib.parse import unquote_to_bytes

import pytest
from aiohttp.multipart import content_disposition_filename, parse_content_disposition
from hypothesis import example, given
from hypothesis import strategies as st

from hypersend_server.errors import HyperSendError
from hypersend_server.files.digests import content_digest, parse_digest
from hypersend_server.files.disposition import content_disposition
from hypersend_server.files.media import INLINE, media_type, sniff
from hypersend_server.files.names import MAX_NAME_LENGTH, NAMELESS, clean_name
from hypersend_server.files.ranges import Selection, matches, parse_range, select
from hypersend_storage.base import MAX_CHUNKS, MIN_CHUNK_BYTES, chunk_size_for

ETAG = '"abc"'
MIB = 1024 * 1024
range_like = st.one_of(
    st.text(), st.from_regex(r"bytes=[0-9,\- ]{0,20}", fullmatch=True),
    st.builds(lambda a, b: f"bytes={a}-{b}", st.integers(0, 30), st.integers(0, 30)),
    st.builds(lambda a: f"bytes={a}-", st.integers(0, 30)), st.builds(lambda a: f"bytes=-{a}", st.integers(0, 30)))


def model(size: int, header: str) -> Selection | None:
    """RFC 9110 for one plain range, the slow way: mark every byte. None: no plain range."""
    match = re.fullmatch(r"bytes=([0-9]{0,9})-([0-9]{0,9})", header)
    if match is None or header == "bytes=-":
        return None
    if match[1] and match[2] and int(match[2]) < int(match[1]):
        return Selection(200, 0, size)
    if match[1]:
        wanted = [n for n in range(size) if n >= int(match[1]) and (not match[2] or n <= int(match[2]))]
    else:
        wanted = [n for n in range(size) if n >= size - int(match[2])]
    return Selection(206, wanted[0], len(wanted)) if wanted else Selection(416, 0, 0)


@given(st.integers(0, 25), range_like)
@example(10, "bytes=-0")
@example(0, "bytes=-5")
@example(10, "bytes=5-99999999999999999999999999")
def test_a_range_selects_what_the_model_selects(size: int, header: str) -> None:
    selection = select(size, ETAG, range_=header)
    expected = model(size, header)
    if expected is not None:
        assert selection == expected
    assert selection.status in (200, 206, 416)
    if selection.status != 416:
        assert 0 <= selection.start <= selection.start + selection.length <= size
    if selection.status == 206:
        assert selection.length > 0
        assert selection.content_range(size) == (
            f"bytes {selection.start}-{selection.start + selection.length - 1}/{size}")


@pytest.mark.parametrize("header", [
    "bytes=", "bytes=a-b", "items=0-1", "bytes=0-1,4-5", "bytes=1-0", "bytes 0-1", "bytes=--1", "bytes=٣-", ""])
def test_a_range_that_is_not_understood_is_ignored(header: str) -> None:
    assert parse_range(header) is None
    assert select(10, ETAG, range_=header) == Selection(200, 0, 10)


@pytest.mark.parametrize(("if_range", "status"), [
    (ETAG, 206), (f" {ETAG} ", 206), (f"W/{ETAG}", 200), ('"other"', 200),
    ("Wed, 21 Oct 2015 07:28:00 GMT", 200), ("", 200)])
def test_a_range_of_another_state_of_the_file_is_answered_whole(if_range: str, status: int) -> None:
    assert select(10, ETAG, range_="bytes=0-1", if_range=if_range).status == status


@pytest.mark.parametrize(("header", "is_match"), [
    ("*", True), (ETAG, True), (f"W/{ETAG}", True), (f'"x", {ETAG}', True),
    ('"x"', False), ("abc", False), ("", False)])
def test_if_none_match_is_compared_weakly(header: str, is_match: bool) -> None:
    assert matches(header, ETAG) is is_match


@pytest.mark.parametrize("one", [",", " ", "W/", '"', '""', ", W/", '"a'])
def test_if_none_match_takes_time_in_proportion_to_its_length(one: str) -> None:
    """One that took it in proportion to the square would not end."""
    assert not matches(one * 300_000, ETAG)


@given(st.text())
def test_if_none_match_never_fails(header: str) -> None:
    matches(header, ETAG)


@given(st.binary(min_size=32, max_size=32))
def test_a_digest_comes_back_from_its_header(digest: bytes) -> None:
    assert parse_digest(content_digest(digest)) == digest
    assert parse_digest(f"sha-512=:{base64.b64encode(b'x').decode()}:, {content_digest(digest)};a=1") == digest


@given(st.one_of(st.text(), st.from_regex(r"[a-z0-9-]{1,8}=:[A-Za-z0-9+/=]{0,50}:[,; a-z=0-9]{0,9}")))
@example("sha-256=:" + "A" * 44 + ":")
@example("sha-512=:AAAA:")
def test_a_digest_header_is_understood_or_refused(header: str) -> None:
    with contextlib.suppress(HyperSendError):
        digest = parse_digest(header)
        assert digest is None or len(digest) == 32


def test_only_other_algorithms_claim_nothing() -> None:
    assert parse_digest("sha-512=:AAAA:, md5=:AAAA:") is None


@given(st.text(min_size=1), st.booleans())
@example('a"; filename="b', False)
@example("a\r\nSet-Cookie: x=1", True)
@example("\ud800", False)
def test_a_disposition_never_leaves_its_header(name: str, inline: bool) -> None:
    header = content_disposition(name, inline=inline)
    assert re.fullmatch(r"[ -~]*", header)
    match = re.fullmatch(
        r"(inline|attachment); filename=\"([^\"\\]*)\"(?:; filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~%-]+))?", header)
    assert match is not None
    if match[3] is not None:
        assert unquote_to_bytes(match[3]) == name.encode("utf-8", "replace")
    else:
        assert match[2] == name


def test_a_disposition_is_read_by_a_parser_of_another_make() -> None:
    name = "naïve «फ़िल्म» 😀.mp4"
    kind, parameters = parse_content_disposition(content_disposition(name, inline=False))
    assert (kind, content_disposition_filename(parameters)) == ("attachment", name)


@given(st.text())
@example("../../etc/passwd")
@example("..")
@example(" . ")
@example("\u202etxt.exe")
@example("x" * 300)
def test_a_clean_name_is_no_path_and_shows_as_it_is(name: str) -> None:
    cleaned = clean_name(name)
    assert 1 <= len(cleaned) <= MAX_NAME_LENGTH
    assert not set(cleaned) & set("/\\\0\n\r\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
    assert cleaned not in (".", "..")
    assert cleaned == cleaned.strip()
    assert clean_name(cleaned) == cleaned


@pytest.mark.parametrize(("name", "kept"), [
    ("../", NAMELESS), ("a/../b.txt", "b.txt"), ("👩\u200d🚀.png", "👩\u200d🚀.png"), ("क\u200dष.txt", "क\u200dष.txt"),
    ("e\u0301.txt", "é.txt"), (".bashrc", ".bashrc"), ("x" * 300 + ".pdf", "x" * 251 + ".pdf"),
    ("x." + "y" * 300, "x." + "y" * 253)])
def test_names_that_people_have(name: str, kept: str) -> None:
    assert clean_name(name) == kept


@pytest.mark.parametrize(("head", "mime"), [
    (b"\x89PNG\r\n\x1a\n....", "image/png"), (b"\xff\xd8\xff\xe0", "image/jpeg"), (b"GIF89a", "image/gif"),
    (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"), (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "image/avif"),
    (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "video/mp4"), (b"\0\0\0\x14ftypM4V \0\0\0\0", "video/mp4"),
    (b"\0\0\0\x14ftypheic\0\0\0\0", None), (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "video/webm"),
    (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x88matroska", None), (b"ID3\x04", "audio/mpeg"),
    (b"\xff\xfb\x90\x00", "audio/mpeg"), (b"\xff\xf1\x50\x80", None), (b"OggS\0", "audio/ogg"),
    (b"%PDF-1.7", "application/pdf"), (b"<html>", None), (b"<svg", None), (b"", None)])
def test_types_are_known_by_content(head: bytes, mime: str | None) -> None:
    assert sniff(head) == mime


@given(st.binary(max_size=100))
def test_sniffing_never_fails(head: bytes) -> None:
    assert sniff(head) in INLINE | {None}


def test_a_type_is_what_was_claimed_or_what_the_name_says() -> None:
    assert media_type("Text/HTML; charset=utf-8", "x") == "text/html"
    assert media_type(None, "film.mp4") == "video/mp4"
    assert media_type(None, "unknown") == "application/octet-stream"


@given(st.integers(0, 2**46))
def test_chunks_suit_every_store(size: int) -> None:
    chunk_size = chunk_size_for(size)
    assert chunk_size >= MIN_CHUNK_BYTES
    assert chunk_size % MIB == 0
    assert -(-size // chunk_size) <= MAX_CHUNKS
    assert chunk_size == MIN_CHUNK_BYTES or -(-size // (chunk_size - MIB)) > MAX_CHUNKS
