"""`Content-Digest` and `Repr-Digest` (RFC 9530): dictionaries of byte sequences (RFC 8941, section 3)."""

from __future__ import annotations

import base64
import binascii
import re

from hypersend_server.errors import HyperSendError

MAX_HEADER_LENGTH = 1024

_MEMBER = re.compile(
    r"[ \t]*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):"
    r"(?:; *[a-z*][a-z0-9_.*-]*(?:=(?:[A-Za-z0-9._:/*+-]+|\"[ !#-\[\]-~]*\"|:[A-Za-z0-9+/=]*:|\?[01]))?)*[ \t]*")


def parse_digest(value: str) -> bytes | None:
    """The SHA-256 (32 bytes) that a header states, or None where it states others only.

    Raises: HyperSendError `digest_malformed`.
    """
    if len(value) > MAX_HEADER_LENGTH:
        raise _malformed("is too long")
    found: bytes | None = None
    at = 0
    while True:
        match = _MEMBER.match(value, at)
        if match is None:
            raise _malformed("has the form sha-256=:BASE64:")
        if match[1] == "sha-256":  # of a key that comes twice the last one counts (RFC 8941, section 3.2)
            found = _decode(match[2])
        at = match.end()
        if at == len(value):
            return found
        if value[at] != ",":
            raise _malformed("has its members separated by commas")
        at += 1


def content_digest(digest: bytes) -> str:
    """The header's value for a SHA-256 (32 bytes)."""
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


def _decode(text: str) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise _malformed("has the digest in base64") from None
    if len(digest) != 32:
        raise _malformed("has 32 bytes for sha-256")
    return digest


def _malformed(what: str) -> HyperSendError:
    return HyperSendError("digest_malformed", f"A digest header {what} (RFC 9530).")
