"""The name under which a file is offered, as every server keeps it: what a server tells otherwise is another name.

The same steps as `hypersend_server.files.names`; a test compares the two.
"""

from __future__ import annotations

import unicodedata

from hypersend_client.sdk.p2p_calls import PeerTransfer
from hypersend_client.sdk.transfer_errors import Tampered

MAX_NAME_LENGTH = 255
MAX_EXTENSION_LENGTH = 15
NAMELESS = "unnamed"

_JOINERS = "\u200c\u200d"
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def offered_name(name: str) -> str:
    """Without a path, control characters and marks that turn the direction; composed (NFC) and not too long."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(c for c in last if c in _JOINERS or unicodedata.category(c) not in _UNSEEN)
    cleaned = unicodedata.normalize("NFC", kept).strip()
    if len(cleaned) > MAX_NAME_LENGTH:
        stem, dot, extension = cleaned.rpartition(".")
        end = dot + extension if stem and len(extension) <= MAX_EXTENSION_LENGTH else ""
        cleaned = (cleaned[: MAX_NAME_LENGTH - len(end)].rstrip() + end).rstrip()
    return cleaned if cleaned.strip(". ") else NAMELESS


def require_offered(info: PeerTransfer, name: str, size: int) -> None:
    """name, size: as this device offered it. Raises: Tampered."""
    if (info.name, info.size) != (name, size):
        raise Tampered("the server tells another name or size of the file than this device offered")
