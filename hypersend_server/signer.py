"""Signatures of what the server hands out and takes back: links, tickets, cursors.

Each purpose has a key of its own, derived from SECRET_KEY, so a signature made for one is worth nothing to
another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TypeVar

import msgspec

T = TypeVar("T")


def derive_key(secret_key: str, purpose: str) -> bytes:
    """32 bytes for one purpose."""
    return hmac.digest(secret_key.encode(), b"hypersend:" + purpose.encode(), "sha256")


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """Raises: ValueError."""
    try:
        return base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64url") from error


class Signer:
    """Signs and checks short payloads for one purpose."""

    def __init__(self, secret_key: str, purpose: str) -> None:
        self._key = derive_key(secret_key, purpose)

    def tag(self, text: str) -> str:
        """22 characters that only this key makes for `text`: 128 bits of HMAC-SHA-256."""
        return b64(hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)[:16])

    def verify(self, text: str, tag: str) -> bool:
        return hmac.compare_digest(self.tag(text).encode(), tag.encode("utf-8", "surrogatepass"))

    def seal(self, payload: msgspec.Struct) -> str:
        """`payload` readable, but unforgeable: base64url of its JSON, a dot, the tag."""
        text = b64(msgspec.json.encode(payload))
        return f"{text}.{self.tag(text)}"

    def unseal(self, sealed: str, kind: type[T]) -> T:
        """The payload back. Raises: ValueError where it is not ours or not of this kind."""
        text, _, tag = sealed.partition(".")
        if not self.verify(text, tag):
            raise ValueError("the signature is wrong")
        try:
            return msgspec.json.decode(unb64(text), type=kind)
        except msgspec.MsgspecError as error:
            raise ValueError("the payload is of another kind") from error
