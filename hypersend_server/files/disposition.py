"""`Content-Disposition` (RFC 6266) with names in any script (RFC 8187)."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

_ATTR_CHAR = "!#$&+-.^_`|~"  # beside letters and digits: RFC 8187, section 3.2.1
_UNSAFE = re.compile(r'[^ -~]|["\\%/]')


def content_disposition(name: str, *, inline: bool) -> str:
    """The header's value; only printable ASCII, whatever the name holds.

    `filename` is a plain likeness for clients that know nothing else, `filename*` the name itself.
    """
    kind = "inline" if inline else "attachment"
    plain = unicodedata.normalize("NFKD", name)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = _UNSAFE.sub("_", plain).strip() or "_"
    if plain == name:
        return f'{kind}; filename="{plain}"'
    exact = quote(name.encode("utf-8", "replace"), safe=_ATTR_CHAR)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{exact}"
