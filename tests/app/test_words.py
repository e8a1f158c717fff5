"""The app's words: both languages complete, figures and times, every error told."""

from __future__ import annotations

import ast
import re
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hypersend_client.app.i18n import LANGUAGES, Translator, pick_language, sentences
from hypersend_client.app.words import ago, clock, day, duration, explain, last_seen, moment, size, speed, system_line
from hypersend_client.sdk import (
    ApiError,
    ClientTooOld,
    ConnectionFailed,
    HyperSendError,
    InvalidAddress,
    LocalStorageFailed,
    NotHyperSend,
    OtherServer,
    ServerTooOld,
    SignedOut,
    TlsFailed,
    transfer_errors,
)
from hypersend_server.errors import ERRORS

APP = Path(__file__).parents[2] / "hypersend_client" / "app"
NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
# What no call of the app can be answered with, or what the SDK deals with by itself.
INSIDE = {
    "direct_unavailable",
    "malformed_body",
    "unsupported_media_type",
    "length_required",
    "cursor_invalid",
    "method_not_allowed",
    "request_timeout",
    "internal",
    "unauthenticated",
    "token_expired",
    "token_invalid",
    "session_ended",
    "refresh_reused",
    "chunk_index_invalid",
    "chunk_size_mismatch",
    "chunk_offset",
    "chunk_conflict",
    "chunk_busy",
    "chunks_missing",
    "verifying",
    "digest_mismatch",
    "digest_malformed",
    "idempotency_conflict",
    "range_not_satisfiable",
    "frame_invalid",
}


def fields(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def test_every_language_has_every_key_with_the_same_values() -> None:
    english = sentences("en")
    for language in LANGUAGES:
        words = sentences(language)
        assert words.keys() == english.keys(), words.keys() ^ english.keys()
        for key, sentence in words.items():
            assert sentence.strip(), key
            assert fields(sentence) == fields(english[key]), key


def test_hindi_is_written_in_devanagari() -> None:
    same = {
        key for key, text in sentences("hi").items() if text == sentences("en")[key] and re.search("[a-z]{4}", text)
    }
    shown_as_they_are = {key for key in same if not fields(sentences("en")[key])} - {"app.name"}
    assert not shown_as_they_are


def literal_keys(path: Path) -> set[str]:
    """The keys that a module asks for by `t("…")`, those made of parts left out."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        is_call = isinstance(node, ast.Call) and node.args
        if (
            is_call
            and ast.unparse(node.func) in ("t", "app.t", "self.t", "self._t")
            and isinstance(node.args[0], ast.Constant)
        ):
            found.add(str(node.args[0].value))
    return found


@pytest.mark.parametrize("path", sorted(APP.rglob("*.py")), ids=lambda path: str(path.relative_to(APP)))
def test_every_key_that_a_module_asks_for_is_there(path: Path) -> None:
    words = sentences("en")
    missing = {key for key in literal_keys(path) if key not in words and f"{key}.other" not in words}
    assert not missing


def test_plurals_follow_the_language() -> None:
    assert Translator("en")("ago.hours", n=1) == "1 hour ago"
    assert Translator("en")("ago.hours", n=0) == "0 hours ago"
    assert Translator("hi")("ago.hours", n=0) == "0 घंटा पहले"
    assert Translator("hi")("ago.hours", n=2) == "2 घंटे पहले"


@pytest.mark.parametrize(
    ("locale", "language"), [("hi-IN", "hi"), ("hi_IN.UTF-8", "hi"), ("de-DE", "en"), (None, "en")]
)
def test_a_locale_picks_the_language(locale: str | None, language: str) -> None:
    assert pick_language(locale) == language


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 B"), (999, "999 B"), (1000, "1 KB"), (1_500_000, "1.5 MB"), (412_000_000, "412 MB"),
    (3_100_000_000, "3.1 GB"), (999_950_000, "1 GB"), (40 * 10**9, "40 GB"), (5 * 10**15, "5000 TB"),
])  # fmt: skip
def test_sizes_are_in_customary_units(count: int, text: str) -> None:
    assert size(count, Translator("en")) == text


def test_speed_and_time_left_read_well() -> None:
    t = Translator("en")
    assert speed(18_000_000, t) == "18 MB/s"
    assert [duration(s, t) for s in (0.2, 59, 119, 3600, 3900, 90_000 * 2)] == [
        "1 s",
        "59 s",
        "2 min",
        "1 h",
        "1 h 5 min",
        "2 days",
    ]


def test_times_are_relative_under_a_day_and_by_the_calendar_above() -> None:
    t = Translator("en")
    assert ago(NOON - timedelta(seconds=20), NOON, t, UTC) == "just now"
    assert ago(NOON - timedelta(minutes=5), NOON, t, UTC) == "5 minutes ago"
    assert ago(NOON - timedelta(hours=30), NOON, t, UTC) == "Yesterday, 06:00"
    assert [day(NOON - timedelta(days=n), NOON, t, UTC) for n in (0, 1, 3, 20, 400)] == [
        "Today",
        "Yesterday",
        "Saturday",
        "18 February",
        "3 February 2025",
    ]
    assert [moment(NOON - timedelta(days=n), NOON, t, UTC) for n in (0, 1, 3, 20, 400)] == [
        "12:00",
        "Yesterday",
        "Sat",
        "18 Feb",
        "03.02.25",
    ]
    assert clock(NOON, UTC) == "12:00"
    assert last_seen(True, None, NOON, t) == "online"
    assert last_seen(False, NOON - timedelta(minutes=5), NOON, t) == "last seen 5 minutes ago"
    assert last_seen(False, None, NOON, t) == ""


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("error", [
    InvalidAddress("ht!tp"), ConnectionFailed("no", reason="name"), ConnectionFailed("no", reason="timeout"),
    TlsFailed("no", certificate=True), TlsFailed("no", certificate=False), NotHyperSend("https://example.org"),
    OtherServer("https://a", "x", "y"), ClientTooOld("2.0", "0.1"), ServerTooOld(2, 1), SignedOut(),
    LocalStorageFailed("/x", "full"), ApiError("rate_limited", status=429, retry_after_s=90),
    transfer_errors.DiskFull("/x", needed=10**9, free=10**6), transfer_errors.DiskFull("/x"),
    transfer_errors.FileUnreadable("/x", "no"), transfer_errors.SourceChanged("/x"),
    transfer_errors.RemoteFileGone("f"), transfer_errors.RemoteFileChanged("f"), transfer_errors.UploadRemoved("f"),
    transfer_errors.CorruptTransfer(1), transfer_errors.TransferBusy("/x"), transfer_errors.TransferStalled(3, None),
    transfer_errors.TransferCancelled(), transfer_errors.UpdateBroken("1.4.0"), transfer_errors.Tampered("no"),
    transfer_errors.KeyMissing(), transfer_errors.PeerAway(), transfer_errors.PeerFailed("source_changed"),
    transfer_errors.PeerFailed("wrong_size"), transfer_errors.PeerFailed("some_newer_reason"),
    transfer_errors.PeerEnded("declined"),
    *(ApiError(code, status=kind.status) for code, kind in ERRORS.items() if code not in INSIDE),
], ids=lambda value: f"{type(value).__name__}-{value.code}" if isinstance(value, HyperSendError) else value,
)  # fmt: skip
def test_every_error_has_a_sentence_of_its_own(error: HyperSendError, language: str) -> None:
    t = Translator(language)
    told = explain(error, t, address="https://chat.example.org")
    assert told not in {t("error.error"), t("error.server"), t("error.refused")}
    assert "{" not in told
    assert "_" not in told


@pytest.mark.parametrize("language", LANGUAGES)
def test_why_the_other_device_cannot_go_on_is_told(language: str) -> None:
    t = Translator(language)
    told = {explain(transfer_errors.PeerFailed(reason), t)
            for reason in ("wrong_size", "source_changed", "tampered", "corrupt_transfer", "some_newer_reason")}
    assert len(told) == 5


def test_an_unreachable_server_is_named() -> None:
    told = explain(ConnectionFailed("refused"), Translator("en"), address="https://chat.example.org")
    assert told == "Couldn't reach chat.example.org. Check the address or your connection."


def test_an_error_of_a_newer_server_is_told_by_its_kind() -> None:
    t = Translator("en")
    assert explain(ApiError("brand_new", status=503), t) == t("error.server")
    assert explain(ApiError("brand_new", status=409), t) == t("error.refused")


def test_a_field_that_is_wrong_says_what_it_needs() -> None:
    error = ApiError("validation_failed", status=422, errors=[{"field": "username", "problem": "x"}])
    assert "3–32" in explain(error, Translator("en"))


def test_system_lines_name_people() -> None:
    t = Translator("en")
    names = {"a": "Ann", "b": "Bo"}
    line = {"event": "member_added", "actor_id": "me", "user_ids": ["a", "b"]}
    assert system_line(line, t, names.get, "me") == "You added Ann, Bo"
    assert system_line({"event": "something_new"}, t, names.get, "me") == "The group was changed"
