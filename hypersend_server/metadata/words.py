"""Words of a text as search sees them: NFKC without joiners, cut where FTS5's unicode61 cuts with the categories
L* N* Co Mn Mc. The same for every backend."""

from __future__ import annotations

import unicodedata

MAX_TERMS = 16  # of a query
TOKEN = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "Co", "Mn", "Mc"})
_DROPPED = {ord(c): None for c in "\u200c\u200d\u00ad\ufeff"}


def normalise(text: str) -> str:
    """What is indexed for a text, and looked for by a query."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", text.translate(_DROPPED))


def words_of(text: str) -> list[str]:
    """All words, in order, as they are written."""
    return "".join(c if unicodedata.category(c) in TOKEN else " " for c in normalise(text)).split()


def terms_of(query: str) -> list[str]:
    """The words of a query."""
    return words_of(query)[:MAX_TERMS]
