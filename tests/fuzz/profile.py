"""How long machines and generators run: a moment in every run of the tests, minutes with `HYPERSEND_FUZZ=long`."""

from __future__ import annotations

import os

LONG = 30


def times(examples: int) -> int:
    """So many examples, or many times as many in the long form."""
    return examples * LONG if os.environ.get("HYPERSEND_FUZZ") == "long" else examples
