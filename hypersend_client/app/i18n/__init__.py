"""The app's words in each language.

    t = Translator("hi")
    t("chats.empty")                     # the sentence of that key
    t("chats.members", n=3)              # with plural forms: keys `chats.members.one` and `….other`

Every `en.json` or `<area>.en.json` in this folder has its counterpart in Hindi; a key stands in one file only, as
`area.name`. A sentence has its values in braces: "Couldn't reach {host}."
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

LANGUAGES = {"en": "English", "hi": "हिन्दी"}
"""Code → its own name, as it stands in the choice of languages."""

FOLDER = Path(__file__).parent


@cache
def sentences(language: str) -> dict[str, str]:
    """All keys of a language. Raises: ValueError where two files have the same key."""
    found: dict[str, str] = {}
    for path in sorted(FOLDER.glob("*.json")):
        if path.name == f"{language}.json" or path.name.endswith(f".{language}.json"):
            for key, text in json.loads(path.read_text(encoding="utf-8")).items():
                if key in found:
                    raise ValueError(f"{key} stands twice in the words of {language}")
                found[key] = text
    # A build with a name of its own has it before any server was asked.
    found["app.name"] = os.environ.get("HYPERSEND_APP_NAME") or found["app.name"]
    return found


def pick_language(wanted: str | None) -> str:
    """A language that is there, for a locale such as `hi-IN`; English where there is none."""
    code = (wanted or "").replace("_", "-").split("-")[0].lower()
    return code if code in LANGUAGES else "en"


class Translator:
    """language: a key of LANGUAGES."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._sentences = sentences(language)

    def __call__(self, key: str, **values: object) -> str:
        """Raises: KeyError for a key that is not there."""
        n = values.get("n")
        if isinstance(n, int) and f"{key}.other" in self._sentences:
            # CLDR: in Hindi 0 and 1 are singular, in English only 1.
            one = n == 1 or (n == 0 and self.language == "hi")
            key = f"{key}.one" if one else f"{key}.other"
        text = self._sentences[key]
        return text.format(**values) if values else text

    def has(self, key: str) -> bool:
        return key in self._sentences
