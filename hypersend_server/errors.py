"""Every error a client can meet: one table from `code` to HTTP status, title and whether a retry helps.

Rooms raise `HyperSendError(code, detail)`. The HTTP edge renders it as a problem document (RFC 9457), the
WebSocket edge as an `error` frame. Codes are part of the interface and never change their meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec


class ErrorKind(NamedTuple):
    """status: HTTP status. retryable: the same request may succeed later, unchanged."""

    status: int
    title: str
    retryable: bool = False


ERRORS: dict[str, ErrorKind] = {
    # the request itself
    "malformed_body": ErrorKind(400, "The body is not what its media type says"),
    "validation_failed": ErrorKind(422, "Some fields are missing or wrong"),
    "body_too_large": ErrorKind(413, "The body is too large"),
    "unsupported_media_type": ErrorKind(415, "This media type is not understood here"),
    "length_required": ErrorKind(411, "The length of the body must be stated"),
    "cursor_invalid": ErrorKind(400, "The cursor is not one of ours"),
    "not_found": ErrorKind(404, "Nothing is here, or nothing you may see"),
    "method_not_allowed": ErrorKind(405, "This path has no such method"),
    "not_allowed": ErrorKind(403, "You may not do this"),
    "rate_limited": ErrorKind(429, "Too many requests", True),
    "request_timeout": ErrorKind(408, "The body came too slowly", True),
    "internal": ErrorKind(500, "Something went wrong on the server", True),
    "not_ready": ErrorKind(503, "The server is starting or stopping", True),
    "metadata_unavailable": ErrorKind(503, "The database cannot be reached", True),
    # sessions and accounts
    "unauthenticated": ErrorKind(401, "Sign in first"),
    "token_expired": ErrorKind(401, "The access token has expired", True),
    "token_invalid": ErrorKind(401, "The token is not valid"),
    "session_ended": ErrorKind(401, "This session has ended"),
    "refresh_reused": ErrorKind(401, "The refresh token was used before; the session has ended"),
    "credentials_invalid": ErrorKind(401, "E-mail or password is wrong"),
    "password_wrong": ErrorKind(403, "The password is wrong"),
    "account_disabled": ErrorKind(403, "This account is disabled"),
    "registration_closed": ErrorKind(403, "This server takes no new accounts"),
    "invite_required": ErrorKind(403, "An invite is needed to register here"),
    "invite_invalid": ErrorKind(403, "The invite is unknown, used up or expired"),
    "reset_invalid": ErrorKind(403, "The reset code is unknown, used or expired"),
    "email_taken": ErrorKind(409, "This e-mail has an account already"),
    "username_taken": ErrorKind(409, "This username is taken"),
    "last_admin": ErrorKind(409, "The last administrator must stay"),
    "picture_invalid": ErrorKind(422, "This is not a picture that can be used"),
    "busy": ErrorKind(503, "The server is busy with other requests of this kind", True),
    # chats
    "blocked": ErrorKind(403, "One of you has blocked the other"),
    "owner_required": ErrorKind(409, "A group needs an owner"),
    "chat_full": ErrorKind(409, "The group has as many members as it may have"),
    "reaction_limit": ErrorKind(409, "The message takes no more reactions"),
    "message_deleted": ErrorKind(409, "The message was deleted"),
    # files
    "file_too_large": ErrorKind(413, "The file is larger than this server takes"),
    "quota_exceeded": ErrorKind(403, "Your quota does not have room for this file"),
    "storage_full": ErrorKind(507, "The server's storage is full", True),
    "storage_unavailable": ErrorKind(503, "The storage cannot be reached", True),
    "chunk_index_invalid": ErrorKind(400, "The file has no chunk of this index"),
    "chunk_size_mismatch": ErrorKind(400, "The body is not of the size this chunk must have"),
    "chunk_offset": ErrorKind(409, "The chunk continues at another offset", True),
    "chunk_conflict": ErrorKind(409, "This chunk is already there with other bytes"),
    "chunk_busy": ErrorKind(409, "This chunk is being written by another request", True),
    "chunks_missing": ErrorKind(409, "Some chunks have not arrived"),
    "verifying": ErrorKind(409, "Chunks are being checked after a restart of the machine", True),
    "digest_mismatch": ErrorKind(400, "The bytes do not have the digest that was claimed", True),
    "digest_malformed": ErrorKind(400, "The digest header cannot be understood"),
    "idempotency_conflict": ErrorKind(409, "This Idempotency-Key was used with another body"),
    "upload_expired": ErrorKind(410, "The upload has expired"),
    "upload_lost": ErrorKind(410, "The storage lost this upload; start it again"),
    "direct_unavailable": ErrorKind(409, "The bytes of this upload go through the server"),
    "upload_closed": ErrorKind(409, "The upload takes no more bytes"),
    "upload_incomplete": ErrorKind(409, "The file is not complete yet"),
    "range_not_satisfiable": ErrorKind(416, "The file has no such range"),
    "ticket_invalid": ErrorKind(404, "The link is not valid, or no longer"),
    # transfers from person to person
    "transfer_closed": ErrorKind(409, "The transfer is not in a state for this"),
    "transfer_taken": ErrorKind(409, "Another device has accepted this transfer"),
    "transfer_limit": ErrorKind(429, "Too many transfers are open", True),
    "device_needed": ErrorKind(403, "The web app sends and receives nothing device to device; use the app"),
    # updates
    "release_exists": ErrorKind(409, "This version is published already"),
    # WebSocket
    "frame_invalid": ErrorKind(400, "The frame cannot be understood"),
}


class HyperSendError(Exception):
    """An answer other than success, on purpose.

    code: a key of ERRORS. detail: one sentence for the person, without secrets.
    errors: [{field, problem}] for 422. extra: more members of the problem document (`missing`, `have`, …).
    retry_after_s: whole seconds for Retry-After; 429 and 503 carry one in any case. retryable: whether the same may
    help later, where that is not what the code says otherwise.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        errors: Sequence[Mapping[str, str]] = (),
        extra: Mapping[str, Any] | None = None,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
        retryable: bool | None = None,
    ) -> None:
        self.kind = ERRORS[code]
        self.code = code
        self.detail = detail or self.kind.title + "."
        self.errors = list(errors)
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})
        self.retryable = self.kind.retryable if retryable is None else retryable
        if retry_after_s is None and self.kind.status in (429, 503):
            retry_after_s = 1
        self.retry_after_s = retry_after_s
        super().__init__(f"{code}: {self.detail}")


def validation_failed(*errors: tuple[str, str]) -> HyperSendError:
    """errors: (field, problem) pairs."""
    listed = [{"field": name, "problem": problem} for name, problem in errors]
    detail = "; ".join(f"{name} {problem}" if name else problem for name, problem in errors)
    return HyperSendError("validation_failed", detail, errors=listed)


def from_msgspec(error: msgspec.ValidationError) -> HyperSendError:
    """msgspec's sentence, 'problem - at `$.field`', as our 422."""
    problem, _, place = str(error).partition(" - at `")
    if "matching regex" in problem:  # people are not shown a pattern
        problem = "Not of the form that this field has"
    name = place.rstrip("`").removeprefix("$").removeprefix(".")
    if not name and "`" in problem and "field" in problem:  # unknown or missing field: its name is quoted last
        name = problem.rsplit("`", 2)[-2]
    return HyperSendError(
        "validation_failed", f"{name}: {problem}" if name else problem, errors=[{"field": name, "problem": problem}]
    )
