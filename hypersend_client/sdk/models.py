"""What the server tells about, as frozen dataclasses.

Reading is tolerant, so that a newer server does not break an older client: unknown fields are ignored,
unknown kinds and states are kept as they are, a missing field has its default. What cannot be read at all
raises ValueError. Times are aware datetimes in UTC, sizes are bytes, ranges of indexes include both ends.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, Self, TypeVar

Range = tuple[int, int]
MOST = 2**53 - 1  # beyond it JSON's numbers are not exact, and sums stay far from what SQLite holds
MAX_CHUNKS = 1_000_000
MAX_DEPTH = 32


class Model:
    """Base: `from_json` takes the API's JSON as parsed, `to_json` gives it back."""

    __slots__ = ()

    REQUIRED: ClassVar[tuple[str, ...]] = ("id",)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Raises: ValueError where a required field is missing or a field has another shape."""
        if not isinstance(data, dict):
            raise ValueError(f"{cls.__name__}: an object is needed")
        values: dict[str, Any] = {}
        for name, convert in _converters(cls):
            value = data.get(name)
            if value is not None:
                try:
                    values[name] = convert(value)
                except (TypeError, AttributeError, OverflowError) as error:
                    raise ValueError(f"{cls.__name__}.{name}: {error}") from None
        for name in cls.REQUIRED:
            if name not in values:
                raise ValueError(f"{cls.__name__}: {name} is missing")
        found = cls(**values)
        found.check()
        return found

    def check(self) -> None:
        """Raises: ValueError where the fields cannot be true together."""

    def to_json(self) -> dict[str, Any]:
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]


M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """One page of a list; next_cursor: for the one after it, None at the end."""

    items: list[M]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class ServerInfo(Model):
    REQUIRED: ClassVar[tuple[str, ...]] = ("server_id", "api_version")

    server_id: str
    api_version: int
    name: str = ""
    version: str = ""
    min_client: str = ""
    registration: str = ""
    max_file_size: int = 0
    features: list[str] = field(default_factory=list)
    accent_color: str = ""
    logo_url: str | None = None


@dataclass(frozen=True, slots=True)
class User(Model):
    """`email` and `is_admin` are told of oneself alone; `disabled`, `quota_bytes`, `used_bytes` to
    administrators.
    """

    id: str
    username: str | None = None
    display_name: str = ""
    about: str = ""
    avatar_url: str | None = None
    last_seen_at: datetime | None = None
    online: bool = False
    email: str | None = None
    is_admin: bool = False
    disabled: bool = False
    quota_bytes: int | None = None
    used_bytes: int | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Device(Model):
    """A session of this account: one device that is signed in."""

    id: str
    device: str = ""
    ip: str = ""
    created_at: datetime | None = None
    last_seen_at: datetime | None = None
    current: bool = False


@dataclass(frozen=True, slots=True)
class StorageUse(Model):
    """quota_bytes: None where there is no limit."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("used_bytes",)

    used_bytes: int
    reserved_bytes: int = 0
    quota_bytes: int | None = None
    files: int = 0


@dataclass(frozen=True, slots=True)
class DirectPart(Model):
    REQUIRED: ClassVar[tuple[str, ...]] = ("index", "url")

    index: int
    url: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Direct(Model):
    """Parts that go straight to an object store."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()

    method: str = "PUT"
    expires_at: datetime | None = None
    parts: list[DirectPart] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Upload(Model):
    """An upload in flight. partial: (index, bytes) of chunks that were cut off."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("chunk_size", "chunk_count")

    chunk_size: int
    chunk_count: int
    received: list[Range] = field(default_factory=list)
    received_bytes: int = 0
    partial: list[tuple[int, int]] = field(default_factory=list)
    verifying: list[Range] = field(default_factory=list)
    expires_at: datetime | None = None
    direct: Direct | None = None

    def check(self) -> None:
        if self.chunk_size < 1 or not 0 <= self.chunk_count <= MAX_CHUNKS:
            raise ValueError("no file is cut like that")
        for ranges in (self.received, self.verifying):
            after = 0
            for first, last in ranges:
                if not after <= first <= last < self.chunk_count:
                    raise ValueError(f"{first}-{last} is no range of its chunks")
                after = last + 1
        for index, have in self.partial:
            if not (0 <= index < self.chunk_count and 0 <= have <= self.chunk_size):
                raise ValueError(f"{have} bytes of chunk {index} cannot be there")


@dataclass(frozen=True, slots=True)
class File(Model):
    """checksum: SHA-256 over the raw digests of the chunks in order; digests are 64 lower-case hex digits."""

    id: str
    name: str = ""
    size: int = 0
    mime: str = "application/octet-stream"
    state: str = ""
    checksum: str | None = None
    sha256: str | None = None
    sha256_state: str = "none"
    etag: str | None = None
    chunk_size: int = 0
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    preview_url: str | None = None
    owner_id: str = ""
    backend: str = ""
    created_at: datetime | None = None
    completed_at: datetime | None = None
    upload: Upload | None = None
    chunk_sha256: list[str] | None = None

    def check(self) -> None:
        if self.size < 0 or self.chunk_size < 0:
            raise ValueError("a size below 0")
        if self.upload is not None and self.upload.chunk_count != -(-self.size // self.upload.chunk_size):
            raise ValueError("its chunks are not its size")


@dataclass(frozen=True, slots=True)
class Reaction(Model):
    REQUIRED: ClassVar[tuple[str, ...]] = ("emoji",)

    emoji: str
    user_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ForwardedFrom(Model):
    REQUIRED: ClassVar[tuple[str, ...]] = ()

    chat_id: str = ""
    message_id: str = ""
    sender_id: str | None = None


@dataclass(frozen=True, slots=True)
class Message(Model):
    """reply_to: a message's id. system, transfer: as the server gives them.

    snippet, snippet_marks: in search results; the matches in it, [start, end) in code points.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ("id", "chat_id", "seq", "rev")

    id: str
    chat_id: str
    seq: int
    rev: int
    client_id: str | None = None
    sender_id: str | None = None
    kind: str = "text"
    text: str = ""
    files: list[File] = field(default_factory=list)
    transfer: dict[str, Any] | None = None
    system: dict[str, Any] | None = None
    reply_to: str | None = None
    forwarded_from: ForwardedFrom | None = None
    mentions: list[str] = field(default_factory=list)
    reactions: list[Reaction] = field(default_factory=list)
    created_at: datetime | None = None
    edited_at: datetime | None = None
    deleted_at: datetime | None = None
    snippet: str | None = None
    snippet_marks: list[Range] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Chat(Model):
    """peer: the other person of a direct chat. unread: counted to 1,000."""

    id: str
    kind: str = "group"
    title: str = ""
    about: str = ""
    avatar_url: str | None = None
    members_count: int = 0
    role: str = "member"
    peer: User | None = None
    seq: int = 0
    rev: int = 0
    unread: int = 0
    read_seq: int = 0
    last_message: Message | None = None
    pinned: bool = False
    archived: bool = False
    muted_until: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Member(Model):
    """left_at: set where someone has left, in events and in `/sync` only."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("user",)

    user: User
    role: str = "member"
    first_seq: int = 1
    delivered_seq: int = 0
    read_seq: int = 0
    joined_at: datetime | None = None
    left_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ticket(Model):
    """A URL that needs no token, for a short time. It is a secret."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("url",)

    url: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Invite(Model):
    """code: told once, when it is made."""

    id: str
    code: str | None = None
    max_uses: int = 1
    uses: int = 0
    created_by: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry(Model):
    id: str
    at: datetime | None = None
    actor_id: str | None = None
    action: str = ""
    target: str = ""
    detail: str = ""


_CONVERTERS: dict[type[Model], list[tuple[str, Callable[[Any], Any]]]] = {}


def parse_time(text: Any) -> datetime:
    """RFC 3339. Raises: ValueError, also for a time that is none in UTC."""
    if not isinstance(text, str):
        raise ValueError("a time is needed")
    when = datetime.fromisoformat(text)
    try:
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from None


def whole_number(value: Any) -> int:
    """Raises: ValueError where it is none, or beyond what every reader of JSON keeps exactly."""
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MOST:
        raise ValueError("a whole number is needed")
    return value


def text_of(value: Any) -> str:
    """Raises: ValueError where it is none that can be written down: half of a surrogate pair cannot."""
    if not isinstance(value, str):
        raise ValueError("a text is needed")
    if not value.isascii():
        value.encode()
    return value


def format_time(when: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _converters(cls: type[Model]) -> list[tuple[str, Callable[[Any], Any]]]:
    known = _CONVERTERS.get(cls)
    if known is None:
        known = _CONVERTERS[cls] = _make_converters(cls)
    return known


def _make_converters(cls: type[Model]) -> list[tuple[str, Callable[[Any], Any]]]:
    hints = typing.get_type_hints(cls)
    return [(f.name, _converter(hints[f.name])) for f in dataclasses.fields(cls)]  # type: ignore[arg-type]


def _converter(hint: Any) -> Callable[[Any], Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _converter(next(a for a in arguments if a is not type(None)))
    if origin is list:
        item = _converter(arguments[0])
        return lambda value: [item(entry) for entry in _expect(value, list)]
    if origin is tuple:
        return lambda value: tuple(whole_number(entry) for entry in _of_length(_expect(value, list), len(arguments)))
    if origin is dict and arguments[1] is str:
        return lambda value: {text_of(name): text_of(entry) for name, entry in _expect(value, dict).items()}
    if origin is dict or hint is dict:
        return lambda value: _shallow(_expect(value, dict))
    if hint is datetime:
        return parse_time
    if isinstance(hint, type) and issubclass(hint, Model):
        return hint.from_json
    if hint is float:
        return lambda value: _finite(float(_expect(value, (int, float))))
    if hint is str:
        return text_of
    if hint is int:
        return whole_number
    if hint is bool:
        return lambda value: _expect(value, bool)
    return lambda value: value


def _expect(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{type(value).__name__} is not what is needed here")
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("a finite number is needed")
    return value


def _shallow(value: Any, depth: int = 0) -> Any:
    """What may be written as JSON again, anywhere in the program."""
    if depth > MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _shallow(entry, depth + 1)
    return value


def _of_length(value: list[Any], length: int) -> list[Any]:
    if len(value) != length:
        raise ValueError(f"{length} entries are needed")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Model):
        return value.to_json()
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
