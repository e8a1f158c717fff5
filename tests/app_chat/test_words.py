"""Every sentence that the conversation asks for is there, in both languages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hypersend_client.app.i18n import LANGUAGES, Translator, sentences

APP = Path(__file__).parents[2] / "hypersend_client" / "app"
FILES = [
    *sorted((APP / "chat").glob("*.py")),
    *(APP / "screens" / f"{name}.py" for name in ("chat", "group", "new_chat", "new_group", "search", "transfers")),
    *(APP / f"{name}.py" for name in ("finder", "media", "upload_dock")),
]


def asked(path: Path) -> set[str]:
    """Keys in `t("…")`, and in `t("…" if … else "…")`; a key that is made stands as its beginning, with a `*`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "t" and node.args:
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.JoinedStr) and isinstance(part.values[0], ast.Constant):
                    found.add(f"{part.values[0].value}*")
                elif isinstance(part, ast.Constant) and "." in str(part.value) and not str(part.value).endswith("."):
                    found.add(str(part.value))
    return found


@pytest.mark.parametrize("language", sorted(LANGUAGES))
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_sentence_that_is_asked_for_is_there(path: Path, language: str) -> None:
    there = sentences(language)
    missing = {
        key
        for key in asked(path)
        if not (
            any(k.startswith(key[:-1]) for k in there) if key.endswith("*") else key in there or f"{key}.other" in there
        )
    }
    assert missing == set()


@pytest.mark.parametrize("language", sorted(LANGUAGES))
@pytest.mark.parametrize(
    "key", ["chat.members", "chat.jump_count", "chat.reaction", "group.add_yes", "transfers.total"]
)
def test_counted_sentences_speak_for_one_and_for_many(key: str, language: str) -> None:
    t = Translator(language)
    for n in (0, 1, 2, 1000):
        assert str(n) in t(key, n=n, emoji="👍", done="1 MB", size="2 MB")
