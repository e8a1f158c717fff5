"""What is taken as a reaction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypersend_server.chats.emoji import MAX_BYTES, is_emoji


@pytest.mark.parametrize("text", ["👍", "❤", "❤️", "👍🏽", "👩‍💻", "👨‍👩‍👧‍👦", "🇮🇳", "1️⃣", "#⃣", "‼️", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "↔️", "ℹ️"])
def test_a_single_emoji_is_taken(text: str) -> None:
    assert is_emoji(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "1",
        "ok",
        "👍👍",
        "👍 ",
        " 👍",
        "नमस्ते",
        "的",
        "\u200d",
        "\ufe0f",
        "🏽",
        "🇮",
        "🇮🇳🇮🇳",
        "👍\u200d",
        "👍\n",
        "\x00",
        "👩‍👩‍👩‍👩‍👩‍👩‍👩",
        "<",
        "<b>",
        "$",
        "+",
        "👍a",
        "\ud83d",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    assert not is_emoji(text)


@given(st.text(max_size=12))
def test_no_letters_spaces_or_controls_pass(text: str) -> None:
    if is_emoji(text):
        assert len(text.encode()) <= MAX_BYTES
        assert not any(c.isspace() or (c.isascii() and (c.isalpha() or not c.isprintable())) for c in text)
