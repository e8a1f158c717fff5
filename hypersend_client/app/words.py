"""Figures, times and errors in the person's language.

Sizes are in the customary units (1 MB = 1,000,000 bytes). Times are shown in `zone`: by default the
browser's in the web app, else the device's own.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from yarl import URL

from hypersend_client.app.i18n import Translator
from hypersend_client.sdk import ApiError, ClientTooOld, ConnectionFailed, HyperSendError, InvalidAddress
from hypersend_client.sdk.errors import NotHyperSend, TlsFailed
from hypersend_client.sdk.transfer_errors import DiskFull, PeerFailed
from hypersend_client.web.browser import browser_of_page

_UNITS = ("size.b", "size.kb", "size.mb", "size.gb", "size.tb")


def size(count: int, t: Translator) -> str:
    """3,100,000,000 → `3.1 GB`; up to three digits that mean something."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    number = f"{value:.0f}" if unit == 0 or value >= 99.5 else f"{value:.1f}".removesuffix(".0")
    return t(_UNITS[unit], number=number)


def speed(bytes_per_s: float, t: Translator) -> str:
    """`18 MB/s`"""
    return t("speed", size=size(int(bytes_per_s), t))


def duration(seconds: float, t: Translator) -> str:
    """`2 min`, `1 h 5 min`, `40 s`; for the time that is left."""
    whole = max(1, round(seconds))
    if whole < 60:
        return t("duration.s", s=whole)
    minutes = round(whole / 60)
    if minutes < 60:
        return t("duration.min", m=minutes)
    hours, minutes = divmod(minutes, 60)
    if hours < 24 and minutes:
        return t("duration.h_min", h=hours, m=minutes)
    return t("duration.h", h=hours) if hours < 48 else t("duration.days", d=hours // 24)


def local(when: datetime, zone: tzinfo | None = None) -> datetime:
    return when.astimezone(zone or browser_of_page().zone)


def clock(when: datetime, zone: tzinfo | None = None) -> str:
    """`14:05`"""
    return f"{local(when, zone):%H:%M}"


def day(when: datetime, now: datetime, t: Translator, zone: tzinfo | None = None) -> str:
    """A day line: `Today`, `Yesterday`, `Monday`, `3 March`, `3 March 2024`."""
    there, today = local(when, zone).date(), local(now, zone).date()
    days = (today - there).days
    if days == 0:
        return t("day.today")
    if days == 1:
        return t("day.yesterday")
    if 1 < days < 7:
        return t(f"weekday.{there.weekday()}")
    month = t(f"month.{there.month}")
    if there.year == today.year:
        return t("day.month", day=there.day, month=month)
    return t("day.year", day=there.day, month=month, year=there.year)


def moment(when: datetime, now: datetime, t: Translator, zone: tzinfo | None = None) -> str:
    """For a row of a list: the time today, `Yesterday`, `Mon`, `3 Mar`, `03.03.24`."""
    there, today = local(when, zone).date(), local(now, zone).date()
    days = (today - there).days
    if days <= 0:
        return clock(when, zone)
    if days == 1:
        return t("day.yesterday")
    if days < 7:
        return t(f"weekday_short.{there.weekday()}")
    if there.year == today.year:
        return t("day.month", day=there.day, month=t(f"month_short.{there.month}"))
    return f"{there:%d.%m.%y}"


def ago(when: datetime, now: datetime, t: Translator, zone: tzinfo | None = None) -> str:
    """`just now`, `5 minutes ago`, `3 hours ago`, then the day and time."""
    passed = now - when
    if passed < timedelta(minutes=1):
        return t("ago.now")
    if passed < timedelta(hours=1):
        return t("ago.minutes", n=int(passed.total_seconds() // 60))
    if passed < timedelta(hours=24):
        return t("ago.hours", n=int(passed.total_seconds() // 3600))
    return t("ago.at", day=day(when, now, t, zone), time=clock(when, zone))


def last_seen(online: bool, when: datetime | None, now: datetime, t: Translator, zone: tzinfo | None = None) -> str:
    """`online`, `last seen 5 minutes ago`, "" where it is not told."""
    if online:
        return t("presence.online")
    return "" if when is None else t("presence.last_seen", when=ago(when, now, t, zone))


def system_line(system: dict[str, object] | None, t: Translator, name_of: object, me: str) -> str:
    """What a message of kind `system` says. name_of(user_id) → name."""
    system = system or {}
    assert callable(name_of)

    def name(user_id: object) -> str:
        return t("system.you") if user_id == me else str(name_of(user_id)) or t("someone")

    users = system.get("user_ids")
    names = ", ".join(name(user_id) for user_id in users) if isinstance(users, list) else ""
    key = f"system.{system.get('event')}"
    if system.get("event") == "role_changed":
        key = f"system.role_{system.get('role')}"
    if not t.has(key):
        return t("system.unknown")
    return t(key, actor=name(system.get("actor_id")), users=names, title=system.get("title") or "")


def explain(error: HyperSendError, t: Translator, *, address: str = "") -> str:
    """What happened, and what to do. address: of the server, where the error does not name it."""
    host = _host(getattr(error, "url", "") or address)
    if isinstance(error, InvalidAddress):
        return t("error.invalid_address", address=error.address)
    if isinstance(error, ConnectionFailed):
        return t("error.connection_failed_slow" if error.reason == "timeout" else "error.connection_failed", host=host)
    if isinstance(error, TlsFailed):
        return t("error.tls_certificate" if error.certificate else "error.tls_failed", host=host)
    if isinstance(error, NotHyperSend):
        return t("error.not_hypersend", host=host)
    if isinstance(error, ClientTooOld):
        return t("error.client_too_old", needed=error.needed)
    if isinstance(error, DiskFull) and error.needed is not None and error.free is not None:
        return t("error.disk_full_by", needed=size(error.needed, t), free=size(error.free, t))
    if isinstance(error, PeerFailed) and t.has(f"error.peer_failed.{error.reason}"):
        return t(f"error.peer_failed.{error.reason}")
    if isinstance(error, ApiError):
        if error.code == "rate_limited":
            return t("error.rate_limited", time=duration(error.retry_after_s or 1, t))
        if error.code == "validation_failed":
            for entry in error.errors:
                key = f"error.field.{entry.get('field', '')}"
                if t.has(key):
                    return t(key)
    return explain_code(error.code, t, status=getattr(error, "status", 0), host=host)


def explain_code(code: str, t: Translator, *, status: int = 0, host: str = "") -> str:
    """The sentence for a code alone, such as `Entry.code` of a message that failed."""
    key = f"error.{code}"
    if not t.has(key):
        key = "error.server" if status >= 500 else "error.refused" if status else "error.error"
    return t(key, host=host)


def now() -> datetime:
    return datetime.now(UTC)


def _host(address: str) -> str:
    try:
        url = URL(address)
    except ValueError:
        return address
    host = url.host or address
    return host if url.is_default_port() or url.port is None else f"{host}:{url.port}"
