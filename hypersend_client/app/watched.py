"""What screens watch of the app beside its lists: the session, the connection, choices, the window, people, notices."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import flet as ft

from hypersend_client.app.i18n import pick_language
from hypersend_client.app.tokens import THREE_PANES, TWO_PANES
from hypersend_client.sdk import HyperSendError, ServerInfo, User

Theme = Literal["system", "light", "dark"]


class Session(ft.Observable):
    """status: `starting` until it is known, `failed` where this device's own storage fails (`error` says how).

    ended: why the last session was ended by the server, to be told at sign-in; else "".
    """

    def __init__(self) -> None:
        self.status: Literal["starting", "failed", "signed_out", "signed_in"] = "starting"
        self.me: User | None = None
        self.server: ServerInfo | None = None
        self.address = ""
        self.error: HyperSendError | None = None
        self.ended = ""


class Link(ft.Observable):
    """banner: what the thin line says: nothing, `connecting`, `offline` or `updating`; after a second's patience.

    online: at this moment.
    """

    def __init__(self) -> None:
        self.online = False
        self.banner: Literal["", "connecting", "offline", "updating"] = ""


class Prefs(ft.Observable):
    """What the person chose. language: a code, `system` follows the device."""

    def __init__(self, locale: str) -> None:
        self.theme: Theme = "system"
        self.language = "system"
        self.locale = locale
        self.accent = ""

    @property
    def spoken(self) -> str:
        return pick_language(self.locale if self.language == "system" else self.language)


class Layout(ft.Observable):
    """panes: 1 under 840, 2 from there, 3 from 1,200: the only thing about the width that screens need to watch.

    details: the pane about the open chat is wanted, where there is room for it. size: (width, height) of the window,
    not observed.
    """

    def __init__(self) -> None:
        self.panes = 1
        self.details = False
        self._size = (400.0, 850.0)

    @property
    def size(self) -> tuple[float, float]:
        return self._size

    def resized(self, width: float, height: float) -> None:
        self._size = (width, height)
        self.panes = 3 if width >= THREE_PANES else 2 if width >= TWO_PANES else 1


class People(ft.Observable):
    """Everybody who was met in this session, by id."""

    def __init__(self) -> None:
        self.version = 0
        self._known: dict[str, User] = {}

    def get(self, user_id: str | None) -> User | None:
        return self._known.get(user_id or "")

    def add(self, *users: User) -> None:
        new = [user for user in users if self._known.get(user.id) != user]
        self._known.update((user.id, user) for user in new)
        if new:
            self.version += 1

    def name(self, user_id: str | None) -> str:
        """Display name, else user name, else ""."""
        user = self.get(user_id)
        return "" if user is None else user.display_name or user.username or ""

    def presence(self, user_id: str, online: bool, last_seen_at: datetime | None) -> None:
        user = self.get(user_id)
        if user is not None:
            self.add(replace(user, online=online, last_seen_at=last_seen_at or user.last_seen_at))

    def clear(self) -> None:
        self._known.clear()


class Notices(ft.Observable):
    """text: the sentence to be shown; number: which one, so that the same can be told twice."""

    def __init__(self) -> None:
        self.text = ""
        self.number = 0

    def tell(self, text: str) -> None:
        self.text = text
        self.number += 1


class Clock(ft.Observable):
    def __init__(self) -> None:
        self.now = datetime.now(UTC)
