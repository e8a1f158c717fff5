"""What stands in a conversation, from its newest line to its oldest: no screen and no network in here.

`lines(…)` turns messages, and those that are not sent yet, into frozen lines; equal input gives equal lines, so
that a drawn bubble is drawn anew only where its line changed.

Rules: messages of one sender within five minutes stand together, the name over the first, tail and avatar at the
last; a day line stands before the first of a day, the unread line before the first unread message.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Literal

from hypersend_client.app.words import local
from hypersend_client.sdk import Entry, File, Member, Message

TOGETHER = timedelta(minutes=5)
QUOTE_LENGTH = 160
LONG_NAME = 40

Tick = Literal["", "waiting", "sent", "delivered", "read", "failed"]


@dataclass(frozen=True, slots=True)
class Quote:
    """What is answered. text: "" where the message is not known here; kind as in Message, or `deleted`, `unknown`."""

    message_id: str
    sender_id: str | None
    name: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class ReactionView:
    emoji: str
    count: int
    mine: bool


@dataclass(frozen=True, slots=True)
class Bubble:
    """One message. message is None while it is not on the server; then `entry` is it.

    start, tail: first and last of those that stand together. name: over the first, in groups; "" for none.
    speaker: whose it is, for a screen reader; "" for one's own.
    """

    key: str
    message: Message | None
    entry: Entry | None
    sender_id: str | None
    mine: bool
    at: datetime | None
    text: str
    files: tuple[File, ...]
    start: bool
    tail: bool
    name: str
    speaker: str
    tick: Tick
    quote: Quote | None
    forwarded: bool
    forwarded_from: str
    edited: bool
    deleted: bool
    reactions: tuple[ReactionView, ...]

    @property
    def message_id(self) -> str:
        return "" if self.message is None else self.message.id


@dataclass(frozen=True, slots=True)
class DayLine:
    key: str
    day: date
    at: datetime


@dataclass(frozen=True, slots=True)
class UnreadLine:
    key: str = "unread"


@dataclass(frozen=True, slots=True)
class SystemLine:
    key: str
    message: Message


Line = Bubble | DayLine | UnreadLine | SystemLine


@dataclass(frozen=True, slots=True)
class Marks:
    """How far all others have come. others: how many there are."""

    delivered_seq: int = 0
    read_seq: int = 0
    others: int = 0


def marks_of(members: Iterable[Member], me: str) -> Marks:
    others = [m for m in members if m.user.id != me and m.left_at is None]
    if not others:
        return Marks()
    return Marks(min(max(m.delivered_seq, m.read_seq) for m in others), min(m.read_seq for m in others), len(others))


def tick_of(message: Message, marks: Marks, me: str) -> Tick:
    """One tick: the server has it; two: everybody has it; two in accent: everybody has read it."""
    if message.sender_id != me or message.deleted_at is not None:
        return ""
    if marks.others and message.seq <= marks.read_seq:
        return "read"
    if marks.others and message.seq <= marks.delivered_seq:
        return "delivered"
    return "sent"


def lines(
    messages: Sequence[Message],
    entries: Sequence[Entry] = (),
    *,
    me: str,
    group: bool = False,
    marks: Marks | None = None,
    unread_after: int | None = None,
    quoted: Mapping[str, Message] | None = None,
    name_of: Callable[[str | None], str] = lambda user_id: "",
    zone: tzinfo | None = None,
) -> tuple[Line, ...]:
    """The newest line first, as a list that grows from the bottom needs it.

    messages: in order of `seq`. entries: not sent yet, in order; one whose message has come is left out.
    unread_after: the unread line stands before the first message of others above this `seq`; None for none.
    quoted: messages that are answered and are not among `messages`.
    """
    marks = marks or Marks()
    known = {**(quoted or {}), **{message.id: message for message in messages}}
    there = {message.client_id for message in messages if message.client_id and message.sender_id == me}
    waiting = [entry for entry in entries if entry.client_id not in there]
    found: list[Line] = []
    day: date | None = None
    unread_pending = unread_after is not None
    steps: list[Message | Entry] = [*messages, *waiting]
    for place, step in enumerate(steps):
        before = steps[place - 1] if place else None
        after = steps[place + 1] if place + 1 < len(steps) else None
        broken = False
        when = step.created_at
        if when is not None and local(when, zone).date() != day:
            day = local(when, zone).date()
            found.append(DayLine(f"day-{day.isoformat()}-{place_key(step)}", day, when))
            broken = True
        if unread_pending and isinstance(step, Message) and _is_unread(step, unread_after or 0, me):
            found.append(UnreadLine())
            unread_pending = False
            broken = True
        if isinstance(step, Message) and step.kind == "system":
            found.append(SystemLine(step.id, step))
            continue
        start = broken or not together(before, step, me, zone)
        tail = not together(step, after, me, zone) or (
            unread_pending and isinstance(after, Message) and _is_unread(after, unread_after or 0, me)
        )
        found.append(
            _bubble(step, known, me=me, group=group, marks=marks, start=start, tail=tail, name_of=name_of)
            if isinstance(step, Message)
            else _waiting(step, known, me=me, start=start, tail=tail, name_of=name_of)
        )
    found.reverse()
    return tuple(found)


def together(one: Message | Entry | None, two: Message | Entry | None, me: str, zone: tzinfo | None = None) -> bool:
    """Whether two neighbours stand together."""
    if one is None or two is None:
        return False
    for step in (one, two):
        if isinstance(step, Message) and step.kind == "system":
            return False
    if sender_of(one, me) != sender_of(two, me) or one.created_at is None or two.created_at is None:
        return False
    if local(one.created_at, zone).date() != local(two.created_at, zone).date():
        return False
    return abs(two.created_at - one.created_at) <= TOGETHER


def place_key(step: Message | Entry) -> str:
    return step.id if isinstance(step, Message) else step.client_id


def sender_of(step: Message | Entry, me: str) -> str | None:
    return step.sender_id if isinstance(step, Message) else me


def _is_unread(message: Message, after: int, me: str) -> bool:
    return message.seq > after and message.sender_id != me and message.kind != "system" and message.deleted_at is None


def first_unread(messages: Iterable[Message], after: int, me: str) -> Message | None:
    return next((message for message in messages if _is_unread(message, after, me)), None)


def _bubble(
    message: Message,
    known: Mapping[str, Message],
    *,
    me: str,
    group: bool,
    marks: Marks,
    start: bool,
    tail: bool,
    name_of: Callable[[str | None], str],
) -> Bubble:
    mine = message.sender_id == me
    deleted = message.deleted_at is not None
    origin = message.forwarded_from
    return Bubble(
        key=message.client_id if mine and message.client_id else message.id,
        message=message,
        entry=None,
        sender_id=message.sender_id,
        mine=mine,
        at=message.created_at,
        text="" if deleted else message.text,
        files=() if deleted else tuple(message.files),
        start=start,
        tail=tail,
        name=name_of(message.sender_id) if group and start and not mine else "",
        speaker="" if mine else name_of(message.sender_id),
        tick=tick_of(message, marks, me),
        quote=None if deleted else quote_of(message.reply_to, known, name_of),
        forwarded=origin is not None and not deleted,
        forwarded_from=name_of(origin.sender_id) if origin is not None else "",
        edited=message.edited_at is not None and not deleted,
        deleted=deleted,
        reactions=()
        if deleted
        else tuple(ReactionView(r.emoji, len(r.user_ids), me in r.user_ids) for r in message.reactions if r.user_ids),
    )


def _waiting(
    entry: Entry,
    known: Mapping[str, Message],
    *,
    me: str,
    start: bool,
    tail: bool,
    name_of: Callable[[str | None], str],
) -> Bubble:
    return Bubble(
        key=entry.client_id,
        message=None,
        entry=entry,
        sender_id=me,
        mine=True,
        at=entry.created_at,
        text=entry.text,
        files=(),
        start=start,
        tail=tail,
        name="",
        speaker="",
        tick="failed" if entry.state == "failed" else "waiting",
        quote=quote_of(entry.body.get("reply_to"), known, name_of),
        forwarded="forward" in entry.body,
        forwarded_from="",
        edited=False,
        deleted=False,
        reactions=(),
    )


def quote_of(
    message_id: str | None, known: Mapping[str, Message], name_of: Callable[[str | None], str]
) -> Quote | None:
    if not message_id:
        return None
    message = known.get(message_id)
    if message is None:
        return Quote(message_id, None, "", "unknown", "")
    if message.deleted_at is not None:
        return Quote(message_id, message.sender_id, name_of(message.sender_id), "deleted", "")
    text = message.text or (message.files[0].name if message.files else "")
    text = " ".join(text.split())[:QUOTE_LENGTH]
    return Quote(message_id, message.sender_id, name_of(message.sender_id), message.kind, text)


def missing_quotes(messages: Iterable[Message], known: Collection[str]) -> set[str]:
    """Ids that are answered and not known."""
    return {message.reply_to for message in messages if message.reply_to and message.reply_to not in known}


# Links

_LINK = re.compile(r"https?://[^\s<>\"“”]+|(?<![\w@.-])www\.[^\s<>\"“”]+\.[^\s<>\"“”]+", re.IGNORECASE)
_CLOSING = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text. url: "" where it is no link."""

    text: str
    url: str = ""


def pieces(text: str) -> list[Piece]:
    """The text in parts, links apart; the parts together are the text. Only http and https are links."""
    found: list[Piece] = []
    end = 0
    for match in _LINK.finditer(text):
        link = match.group().rstrip(".,;:!?'…।»")
        while link and link[-1] in _CLOSING and link.count(link[-1]) > link.count(_CLOSING[link[-1]]):
            link = link[:-1].rstrip(".,;:!?'…।»")
        if len(link) <= len("https://"):
            continue
        if match.start() > end:
            found.append(Piece(text[end : match.start()]))
        found.append(Piece(link, link if link[:4].lower() == "http" else f"https://{link}"))
        end = match.start() + len(link)
    if end < len(text):
        found.append(Piece(text[end:]))
    return found


# Files

FileKind = Literal["image", "video", "audio", "pdf", "archive", "app", "document", "file"]
_ARCHIVES = (".zip", ".7z", ".rar", ".gz", ".xz", ".bz2", ".zst", ".tar", ".iso")
_DOCUMENTS = (".doc", ".docx", ".odt", ".txt", ".md", ".rtf", ".xls", ".xlsx", ".ods", ".csv", ".ppt", ".pptx", ".odp")
_SHOWN = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif")


def file_kind(name: str, mime: str) -> FileKind:
    for kind in ("image", "video", "audio"):
        if mime.startswith(f"{kind}/"):
            return kind
    low = name.lower()
    if mime == "application/pdf" or low.endswith(".pdf"):
        return "pdf"
    if low.endswith(_ARCHIVES):
        return "archive"
    if low.endswith((".apk", ".exe", ".msi", ".deb", ".rpm", ".dmg", ".appimage")):
        return "app"
    return "document" if low.endswith(_DOCUMENTS) else "file"


def is_shown(file: File) -> bool:
    """An image that the server lets be shown in place."""
    return file.mime in _SHOWN and file.state == "complete"


def short_name(name: str, most: int = LONG_NAME) -> str:
    """A long name with its ending kept: `holiday pictures of the…er.tar.gz`. most: characters, 8 at least."""
    if len(name) <= most:
        return name
    begin = len(name) - max(4, most // 3)
    end = most - (len(name) - begin) - 1
    # A vowel sign alone is drawn on a dotted circle, and a letter without its own is another one.
    while begin < len(name) - 4 and unicodedata.category(name[begin])[0] == "M":
        begin += 1
    while end > 0 and unicodedata.category(name[end])[0] == "M":
        end -= 1
    return f"{name[:end]}…{name[begin:]}"


def fit(width: int | None, height: int | None, most_width: float, most_height: float) -> tuple[float, float]:
    """Width and height of a picture in a bubble, its proportions kept; 4:3 where they are not known.

    Very long ones are cut to 1:3 and 3:1, so that a strip does not become a line.
    """
    ratio = width / height if width and height and width > 0 and height > 0 else 4 / 3
    ratio = min(3.0, max(1 / 3, ratio))
    wide = min(most_width, float(width) if width and width > most_width / 2 else most_width)
    high = wide / ratio
    if high > most_height:
        wide, high = most_height * ratio, most_height
    return wide, high


def album(count: int) -> list[int]:
    """How many pictures stand in each row of an album: two or three, the smaller rows first; one over two for three."""
    if count == 3:
        return [1, 2]
    rows = -(-count // 3)
    small = 3 * rows - count  # rows of two, by taking one from each
    return [2] * small + [3] * (rows - small) if rows > 1 or count == 3 else [count] * (count > 0)


def bubble_width(pane: float, share: float, most: float) -> float:
    return max(0.0, min(most, pane * share))
