"""Errors and figures in plain words: what happened, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hypersend_client.sdk.errors import (
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
)
from hypersend_client.sdk.transfer_errors import (
    CorruptTransfer,
    DiskFull,
    FileUnreadable,
    KeyMissing,
    PeerEnded,
    PeerFailed,
    RemoteFileChanged,
    RemoteFileGone,
    SourceChanged,
    Tampered,
    TransferBusy,
    TransferCancelled,
    TransferStalled,
    UploadRemoved,
)

NO_SUCH_PATH = "There is no such path."  # as the server says it
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(bytes_: float) -> str:
    """`1.4 GiB`."""
    for unit in _UNITS[:-1]:
        if bytes_ < 1000:
            return f"{bytes_:.0f} B" if unit == "B" else f"{bytes_:.1f} {unit}"
        bytes_ /= 1024
    return f"{bytes_:.1f} {_UNITS[-1]}"


def duration(seconds: float | None) -> str:
    """`3 min`, `1 h 20 min`."""
    if seconds is None:
        return "?"
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 48 * 60 else f"{minutes // 1440} days"


def reason(error: HyperSendError | None) -> str:
    """In a few words, why a transfer waits."""
    if isinstance(error, ConnectionFailed):
        return f"no connection to {_server(str(error))}" if error.reason != "name" else "no network"
    if isinstance(error, NotHyperSend | OtherServer | TlsFailed):
        return "something else answers in place of the server"
    if isinstance(error, ApiError):
        if error.status == 429:
            return "the server asks to slow down"
        return "the server is not ready" if error.status >= 500 else error.detail or error.code
    return "" if error is None else str(error)


def explain(error: HyperSendError) -> str:
    """A sentence or two."""
    for kind, words in _KINDS:
        if isinstance(error, kind):
            return words(error)
    return str(error)


def _connection(error: ConnectionFailed) -> str:
    server = _server(str(error))
    match error.reason:
        case "name":
            return f"{server} cannot be found. Check the address, and your network."
        case "refused":
            return f"Nothing answers at {server}. Check the address, and that the server is running."
        case "timeout":
            return f"{server} does not answer. Check your network, and try again."
        case _:
            return f"The connection to {server} broke. Try again."


def _tls(error: TlsFailed) -> str:
    server = _server(str(error))
    if error.certificate:
        return (
            f"The certificate of {server} is not trusted, so nobody knows who answers there. "
            "If it is your own server, give it a certificate that this computer trusts."
        )
    return f"{server} does not speak TLS as it should. Check the address: perhaps it is http, not https."


def _server(detail: str) -> str:
    found = re.search(r"https?://[^\s/]+", detail)
    return found[0] if found else "the server"


def _api(error: ApiError) -> str:
    extra = error.extra
    match error.code:
        case "credentials_invalid":
            return "The e-mail address or the password is wrong."
        case "account_disabled":
            return "This account has been disabled. Ask the server's operator."
        case "rate_limited":
            wait = f" Try again in {duration(error.retry_after_s)}." if error.retry_after_s else " Try again later."
            return "That was too much in too short a time." + wait
        case "file_too_large":
            most = extra.get("max_file_size")
            return "The file is larger than this server takes" + (
                f" (at most {size(most)})." if isinstance(most, int) else "."
            )
        case "quota_exceeded":
            return f"Your quota has no room for this file. {error.detail} Remove others with `hypersend rm`."
        case "storage_full":
            return "The server's disk is full. Ask its operator; the same command goes on when there is room."
        case "upload_incomplete":
            return "The file is still being uploaded. Try again when it is complete."
        case "not_found":
            # An id of another form leads to no path of the API, which is none of a person's business.
            detail = "" if error.detail == NO_SUCH_PATH else error.detail
            return f"There is no such thing, or you may not see it. {detail}".strip()
        case "not_allowed":
            return f"You may not do that. {error.detail}".strip()
        case "blocked":
            return "One of you has blocked the other."
        case "validation_failed":
            problems = "; ".join(f"{e.get('field', '')} {e.get('problem', '')}".strip() for e in error.errors)
            return f"The server does not take that: {problems or error.detail}"
    if error.status >= 500:
        later = " Try again later." if error.retryable else ""
        return f"The server failed: {(error.detail or error.code).rstrip('.')}.{later}"
    return error.detail or error.code


def _local(error: LocalStorageFailed) -> str:
    return f"{error.path} cannot be used: {str(error).removeprefix(error.path + ': ')}."


def _disk(error: DiskFull) -> str:
    figures = ""
    if error.needed is not None and error.free is not None:
        figures = f" {size(error.needed)} are needed and {size(error.free)} are free."
    return f"No space is left in {error.path}.{figures} Make room; the same command goes on."


_PEER = {
    "source_changed": "The file was changed on the other device while it was being sent. Ask for it once more.",
    "tampered": "The other device noticed that something on the way altered the file, and stopped.",
    "wrong_size": "The other device sent more or less than it had offered, so nothing of it was kept.",
    "corrupt_transfer": "The file arrived damaged on the other device.",
}
_ENDED = {
    "declined": "The offer was declined.",
    "cancelled": "The transfer was called off.",
    "expired": "Nobody took the offer in time.",
    "failed": "The transfer has failed. It has to be offered anew.",
    "done": "The transfer is done already.",
}

_KINDS: tuple[tuple[type[HyperSendError], Callable[[Any], str]], ...] = (
    (InvalidAddress, lambda e: f"“{e.address}” is no server address. Write it like https://chat.example.org."),
    (ConnectionFailed, _connection),
    (TlsFailed, _tls),
    (NotHyperSend, lambda e: f"{e.url} answers, but it is no HyperSend server. Check the address."),
    (
        OtherServer,
        lambda e: (
            f"{e.url} is another server than the one you signed in on. Check the address; "
            "if the server was set up anew, sign in again: hypersend login EMAIL"
        ),
    ),
    (ClientTooOld, lambda e: f"The server needs version {e.needed} of this program, and this is {e.have}. Update it."),
    (ServerTooOld, lambda e: "The server is older than this program can work with. Ask its operator to update it."),
    (
        SignedOut,
        lambda e: (
            "You are not signed in. Sign in: hypersend login EMAIL"
            if e.reason == "no_session"
            else f"Your session has ended. Sign in again: hypersend {f'--server {e.url} ' if e.url else ''}login EMAIL"
        ),
    ),
    (FileUnreadable, lambda e: f"{e.path} cannot be read: {str(e).removeprefix(e.path + ': ')}."),
    (DiskFull, _disk),
    (LocalStorageFailed, _local),
    (
        SourceChanged,
        lambda e: (
            f"{e.path} was changed while it was being sent, so nothing of it was kept. "
            "Give the command again when it is as it shall be."
        ),
    ),
    (RemoteFileGone, lambda e: "The file is no longer on the server, or you may no longer see it."),
    (
        RemoteFileChanged,
        lambda e: (
            "The file on the server is not what it was when its download began. Give the command again to begin anew."
        ),
    ),
    (
        Tampered,
        lambda e: (
            "What arrived is not what the other device sent: something on the way altered it, so the transfer was "
            f"stopped ({str(e).partition(': ')[2]}). Compare the safety number with the other person before you try "
            "again."
        ),
    ),
    (KeyMissing, lambda e: "The server does not tell the key of both devices, so nothing can be sent safely."),
    (PeerFailed, lambda e: _PEER.get(e.reason, f"The other device cannot go on ({e.reason}).")),
    (PeerEnded, lambda e: _ENDED.get(e.status, f"The transfer is over: {e.status}.")),
    (
        UploadRemoved,
        lambda e: (
            "The upload is no longer there: it was removed on the server, or another program has sent it just now. "
            "Look before you give the command again, which begins anew."
        ),
    ),
    (CorruptTransfer, lambda e: "The bytes keep arriving damaged. Something on the way alters them, or a disk fails."),
    (TransferBusy, lambda e: f"Another program is transferring {e.path} just now."),
    (TransferStalled, lambda e: f"Nothing moved for a long time ({reason(e.reason)}). The same command goes on."),
    (TransferCancelled, lambda e: "It was called off."),
    (ApiError, _api),
)
