"""Vectors: Amazon S3 API Reference, "Signature Calculations for the Authorization Header" and "Authenticating
Requests: Using Query Parameters"; their keys are examples."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypersend_storage.s3_signer import Signer, canonical_request, encoded

SIGNER = Signer("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
TIME = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "examplebucket.s3.amazonaws.com"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
PUT_BODY = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"


@pytest.mark.parametrize(("method", "path", "query", "headers", "payload", "expected"), [
    ("GET", "/test.txt", {}, {"range": "bytes=0-9"}, EMPTY,
     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
    ("PUT", "/test%24file.text", {},
     {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}, PUT_BODY,
     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
    ("GET", "/", {"lifecycle": ""}, {}, EMPTY, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
    ("GET", "/", {"max-keys": "2", "prefix": "J"}, {}, EMPTY,
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
])
def test_a_signature_is_the_published_one(
    method: str, path: str, query: dict[str, str], headers: dict[str, str], payload: str, expected: str
) -> None:
    signed = {"host": HOST, "x-amz-content-sha256": payload, "x-amz-date": "20130524T000000Z", **headers}
    assert SIGNER.signature(canonical_request(method, path, query, signed, payload), TIME) == expected


def test_a_presigned_url_is_the_published_one() -> None:
    url = SIGNER.presign("GET", f"https://{HOST}/test.txt", {}, query={}, now=TIME.timestamp(), expires_s=86400)
    assert url == (
        f"https://{HOST}/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


def test_every_header_is_signed() -> None:
    url = SIGNER.presign(
        "PUT", "http://store:9000/bucket/key", {"Content-Length": "5", "x-amz-checksum-sha256": "c2hh"},
        query={"partNumber": "1"}, now=TIME.timestamp(), expires_s=60)
    assert parse_qs(urlsplit(url).query)["X-Amz-SignedHeaders"] == ["content-length;host;x-amz-checksum-sha256"]


@pytest.mark.parametrize("expires_s", [0, -1, 7 * 24 * 3600 + 1])
def test_nothing_is_signed_for_ever(expires_s: int) -> None:
    with pytest.raises(ValueError):
        SIGNER.presign("GET", "http://store/b/k", {}, query={}, now=0, expires_s=expires_s)


def test_the_secret_is_in_no_text_of_a_signer() -> None:
    assert SIGNER.secret_key not in repr(SIGNER)
    assert SIGNER.secret_key not in str(SIGNER)


@given(st.dictionaries(st.text(min_size=1, max_size=20).filter(lambda t: t.isprintable()), st.text(max_size=40),
                       max_size=5))
def test_a_query_comes_back_as_it_was_given(query: dict[str, str]) -> None:
    assert parse_qs(encoded(query), keep_blank_values=True, strict_parsing=bool(query)) == {
        name: [value] for name, value in query.items()}
