"""What the server told about the browser behind a page, for the screens to use.

    browser = browser_of_page()          # in main(), on_connect and what they start
    browser.access_token                 # None: nobody is signed in there

Set anew at each connection, so after a reconnect it is the browser as it is now. Requests to the API on behalf of a
page carry `X-Forwarded-For: page.client_ip`, so that limits count the person and not this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import NamedTuple
from zoneinfo import ZoneInfo


class Browser(NamedTuple):
    """browser: names it in `POST /web/ticket`. access_token, renewal: of the session kept there, or None.

    languages: as in Accept-Language. zone: where its clock is; None: it did not say, or nobody knows the place.
    """

    browser: str | None = None
    access_token: str | None = None
    renewal: str | None = None
    languages: str = ""
    zone: ZoneInfo | None = None


_browser: ContextVar[Browser | None] = ContextVar("browser", default=None)


def browser_of(headers: Mapping[bytes, bytes]) -> Browser:
    """From the headers of a handshake, their names in lower case."""
    def text(name: bytes) -> str | None:
        value = headers.get(name)
        return None if value is None else value.decode("latin-1")

    return Browser(text(b"x-hypersend-browser"), text(b"x-hypersend-access-token"), text(b"x-hypersend-renewal"),
                   text(b"accept-language") or "", _zone(text(b"x-hypersend-zone")))


def _zone(name: str | None) -> ZoneInfo | None:
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; no name of a zone; a folder of them
        return None


def set_browser(browser: Browser) -> None:
    _browser.set(browser)


def browser_of_page() -> Browser:
    return _browser.get() or Browser()
