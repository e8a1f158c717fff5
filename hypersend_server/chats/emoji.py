"""What counts as one emoji: the shape of a reaction.

Not a list of emoji, which grows each year, but their grammar: a symbol with what modifies it, symbols joined
by ZWJ, a pair of regional indicators, a keycap. Source: UTS #51, definition ED-17a (emoji zwj sequence) and
below.
"""

from __future__ import annotations

import unicodedata

MAX_BYTES = 32
_JOINER, _PRESENTATION, _KEYCAP = "\u200d", "\ufe0f", "\u20e3"
_KEYS = frozenset("0123456789#*")
# Emoji that Unicode counts as punctuation or letters.
_OTHERS = frozenset("‼⁉〰ℹ")


def is_emoji(text: str) -> bool:
    """Whether `text` is a single emoji of at most 32 bytes."""
    try:
        if not 0 < len(text.encode()) <= MAX_BYTES:
            return False
    except UnicodeEncodeError:
        return False
    if text[0] in _KEYS:
        return text[1:] in (_KEYCAP, _PRESENTATION + _KEYCAP)
    if _is_regional(text[0]):
        return len(text) == 2 and _is_regional(text[1])
    return all(_is_element(part) for part in text.split(_JOINER))


def _is_element(part: str) -> bool:
    return bool(part) and _is_symbol(part[0]) and all(_is_modifier(c) for c in part[1:])


def _is_symbol(char: str) -> bool:
    return (
        not char.isascii()
        and not _is_regional(char)
        and not _is_skin(char)
        and (unicodedata.category(char) in ("So", "Sm") or char in _OTHERS or _is_unassigned_emoji(char))
    )


def _is_unassigned_emoji(char: str) -> bool:
    """Emoji newer than this Python's Unicode tables stand in the blocks reserved for them."""
    return 0x1F000 <= ord(char) <= 0x1FAFF and unicodedata.category(char) == "Cn"


def _is_modifier(char: str) -> bool:
    return char == _PRESENTATION or _is_skin(char) or 0xE0020 <= ord(char) <= 0xE007F


def _is_skin(char: str) -> bool:
    return 0x1F3FB <= ord(char) <= 0x1F3FF


def _is_regional(char: str) -> bool:
    return 0x1F1E6 <= ord(char) <= 0x1F1FF
