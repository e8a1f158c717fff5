"""What people call themselves: limits as the API states them, and the forms in which names are compared.

Display names may be in any script, joiners included (Hindi and emoji need them), but carry no control
characters and nothing that turns the direction of the text around them.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from msgspec import Meta

# Python's `$` also matches before a line feed at the end.
_END = r"$(?!\n)"
_CONTROL = r"\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069"
_CONTROL_NOT_LF = r"\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069"
_INVISIBLE = (
    r"\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0"
)

_BLANK = re.compile(rf"[{_INVISIBLE}\U000e0000-\U000e0fff]*")

Email = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=254,
        pattern=rf"^[^\s@{_CONTROL}]{{1,64}}@[^\s@{_CONTROL}]{{1,189}}{_END}",
        description="Compared without case.",
    ),
]
Username = Annotated[
    str,
    Meta(
        min_length=3, max_length=32, pattern=rf"^[A-Za-z0-9_.]{{3,32}}{_END}", description="Kept in lower case; unique."
    ),
]
DisplayName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=60,
        pattern=rf"^[^{_CONTROL}]*[^{_CONTROL}{_INVISIBLE}][^{_CONTROL}]*{_END}",
        description="Spaces around it are dropped; something of it must be visible.",
    ),
]
About = Annotated[str, Meta(max_length=500, pattern=rf"^[^{_CONTROL_NOT_LF}]*$")]
Device = Annotated[str, Meta(max_length=100, pattern=rf"^[^{_CONTROL}]*{_END}")]


def is_blank(text: str) -> bool:
    """Whether nothing of it would be seen."""
    return _BLANK.fullmatch(text) is not None


def email_key(email: str) -> str:
    return unicodedata.normalize("NFC", email.strip()).casefold()


def username_key(username: str) -> str:
    return username.strip().lower()


def clean_name(display_name: str) -> str:
    return unicodedata.normalize("NFC", display_name.strip())


def name_key(display_name: str) -> str:
    """For search by prefix: compatible forms, case and runs of spaces are alike."""
    return " ".join(unicodedata.normalize("NFKC", display_name).casefold().split())
