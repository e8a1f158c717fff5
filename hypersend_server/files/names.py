"""Names of files as people give them. A name is shown and saved under; it is never a path here."""

from __future__ import annotations

import unicodedata

MAX_NAME_LENGTH = 255
MAX_EXTENSION_LENGTH = 15  # what is longer is no extension, and goes when a name is cut
NAMELESS = "unnamed"

_JOINERS = "\u200c\u200d"  # inside emoji and Indic words
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def clean_name(name: str) -> str:
    """The name as it is kept; NAMELESS where nothing of it can be.

    Of a path only its last part stays. Control characters go, and so do marks that turn the writing direction, since
    they make `gpj.exe` look like `exe.jpg`. The rest is composed (NFC) and loses white space at its ends. What is too
    long is cut before its extension.
    """
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(c for c in last if c in _JOINERS or unicodedata.category(c) not in _UNSEEN)
    cleaned = unicodedata.normalize("NFC", kept).strip()
    if len(cleaned) > MAX_NAME_LENGTH:
        stem, dot, extension = cleaned.rpartition(".")
        end = dot + extension if stem and len(extension) <= MAX_EXTENSION_LENGTH else ""
        cleaned = (cleaned[: MAX_NAME_LENGTH - len(end)].rstrip() + end).rstrip()
    return cleaned if cleaned.strip(". ") else NAMELESS
