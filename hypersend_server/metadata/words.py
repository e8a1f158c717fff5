"""Words of a text as search sees them: NFKC without joiners, cut where FTS5's unicode61 cuts with the categories
L* N* Co Mn Mc. The same for every backend."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MAX_TERMS = 16  # of a query
MAX_TERM = 64  # code points that are kept of a word
SNIPPET_WORDS = 24
WORDS_BEFORE = 6  # of the first match, where the text is longer than a snippet
TOKEN = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "Co", "Mn", "Mc"})
_ASCII_WORD = re.compile(r"[A-Za-z0-9]+")  # the same for ASCII, many times faster
_DROPPED = {ord(c): None for c in "\u200c\u200d\u00ad\ufeff"}


def normalise(text: str) -> str:
    """What is indexed for a text, and looked for by a query."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", text.translate(_DROPPED))


def fold(word: str) -> str:
    """A word as it is compared."""
    return word.casefold()[:MAX_TERM]


def words_of(text: str) -> list[str]:
    """All words, in order, as they are written."""
    if text.isascii():
        return _ASCII_WORD.findall(text)
    return "".join(c if unicodedata.category(c) in TOKEN else " " for c in normalise(text)).split()


def terms_of(query: str) -> list[str]:
    """The words of a query."""
    return words_of(query)[:MAX_TERMS]


def has_terms(text: str, terms: Sequence[str]) -> bool:
    """Whether all the folded terms are words of the text, the last one the beginning of a word."""
    folded = normalise(text).casefold()
    if not all(term in folded for term in terms):  # most texts end here
        return False
    words = {fold(word) for word in words_of(text)}
    return all(term in words for term in terms[:-1]) and any(word.startswith(terms[-1]) for word in words)


class _Word(NamedTuple):
    start: int
    end: int
    term: str


def _words(text: str) -> Iterator[_Word]:
    """Words where they stand in the text as it was written. Joiners and combining marks belong to them."""
    if text.isascii():
        yield from (_Word(found.start(), found.end(), fold(found[0])) for found in _ASCII_WORD.finditer(text))
        return
    start: int | None = None
    for place, c in enumerate(text + " "):
        inside = unicodedata.category(c) in TOKEN or (start is not None and unicodedata.category(c) == "Cf")
        if inside and start is None:
            start = place
        elif not inside and start is not None:
            for word in normalise(text[start:place]).split():
                yield _Word(start, place, fold(word))
            start = None


def snippet(text: str, terms: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """A part of the text around the first of the folded terms, and where they stand in it, in code points."""
    words = list(_words(text))
    matches = [
        number for number, word in enumerate(words) if word.term in terms[:-1] or word.term.startswith(terms[-1])]
    first, last = 0, len(words)
    if last > SNIPPET_WORDS:
        first = max(0, min((matches[0] if matches else 0) - WORDS_BEFORE, last - SNIPPET_WORDS))
        last = first + SNIPPET_WORDS
    start = words[first].start if first else 0
    end = words[last - 1].end if last < len(words) else len(text)
    lead = "…" if first else ""
    marks = sorted({
        (words[n].start - start + len(lead), words[n].end - start + len(lead)) for n in matches if first <= n < last})
    return lead + text[start:end] + ("…" if last < len(words) else ""), marks
