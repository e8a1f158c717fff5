"""AWS Signature Version 4: requests that somebody else may send, and no others.

A presigned URL that covers the host alone lets its holder send any bytes of any length; here every header that is
given is signed, so that the store refuses a request whose header says something else. Pure: no I/O, the time is an
argument.

Source: Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
MAX_EXPIRES_S = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs for one pair of keys in one region."""

    access_key: str
    secret_key: str = field(repr=False)
    region: str

    def presign(
        self, method: str, url: str, headers: Mapping[str, str], *, query: Mapping[str, str], now: float,
        expires_s: int,
    ) -> str:
        """A URL that is good for exactly this method, path, query, host and headers, until `now + expires_s`.

        url: scheme, host and path, the path percent-encoded as it will be sent. headers: besides Host; whoever sends
        the request must send them all as given. query: not encoded. now: Unix seconds. expires_s: 1 to 604,800.
        """
        if not 1 <= expires_s <= MAX_EXPIRES_S:
            raise ValueError(f"a URL cannot be signed for {expires_s} seconds")
        parts = urlsplit(url)
        time = datetime.fromtimestamp(now, UTC)
        signed = {**{name.lower(): value for name, value in headers.items()}, "host": parts.netloc}
        fields = {
            **query,
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": f"{self.access_key}/{scope(time, self.region)}",
            "X-Amz-Date": stamp(time),
            "X-Amz-Expires": str(expires_s),
            "X-Amz-SignedHeaders": ";".join(sorted(signed)),
        }
        canonical = canonical_request(method, parts.path or "/", fields, signed, UNSIGNED)
        return f"{parts.scheme}://{parts.netloc}{parts.path}?{encoded(fields)}" \
               f"&X-Amz-Signature={self.signature(canonical, time)}"

    def signature(self, canonical: str, time: datetime) -> str:
        """64 lower-case hex digits over a canonical request."""
        text = "\n".join([
            ALGORITHM, stamp(time), scope(time, self.region), hashlib.sha256(canonical.encode()).hexdigest()])
        key = b"AWS4" + self.secret_key.encode()
        for step in (f"{time:%Y%m%d}", self.region, "s3", "aws4_request", text):
            key = hmac.digest(key, step.encode(), "sha256")
        return key.hex()


def canonical_request(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], payload: str
) -> str:
    """headers: names in lower case. payload: 64 hex digits, or UNSIGNED."""
    names = sorted(headers)
    return "\n".join([
        method, path, encoded(query), *[f"{name}:{' '.join(headers[name].split())}" for name in names], "",
        ";".join(names), payload])


def encoded(query: Mapping[str, str]) -> str:
    """The query as it is signed and sent: sorted, everything but A–Z a–z 0–9 - . _ ~ percent-encoded."""
    return "&".join(sorted(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in query.items()))


def scope(time: datetime, region: str) -> str:
    return f"{time:%Y%m%d}/{region}/s3/aws4_request"


def stamp(time: datetime) -> str:
    return f"{time:%Y%m%dT%H%M%SZ}"
