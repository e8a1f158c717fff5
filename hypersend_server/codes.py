"""Codes that people read to each other or paste: invites and password resets. Only their SHA-256 is stored."""

from __future__ import annotations

import hashlib
from typing import Annotated

from msgspec import Meta

from hypersend_server.clock import Entropy

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_LENGTH = 20  # 100 bits

Code = Annotated[str, Meta(min_length=1, max_length=100)]


def new_code(entropy: Entropy) -> str:
    """Such as `4f8kq-20xz9-hn3vd-r7c5t`."""
    letters = "".join(_ALPHABET[byte & 31] for byte in entropy(_LENGTH))
    return "-".join(letters[start : start + 5] for start in range(0, _LENGTH, 5))


def code_hash(code: str) -> bytes:
    """The same for the same letters, however they were typed."""
    letters = "".join(code.split()).replace("-", "").lower()
    return hashlib.sha256(letters.encode("utf-8", "surrogatepass")).digest()
