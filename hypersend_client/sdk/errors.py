"""What can go wrong, told apart so that an app can say what happened and what to do.

    HyperSendError
    ├── InvalidAddress      what was typed is no address
    ├── ConnectionFailed    no answer: offline, refused, cut, too slow; `reason` says which
    ├── TlsFailed           the certificate or the encryption is not what it should be
    ├── NotHyperSend        something answers there, but it is no HyperSend server
    ├── OtherServer         a HyperSend server answers, but not the one this account belongs to
    ├── ClientTooOld        the server asks for a newer client
    ├── ServerTooOld        this client needs a newer server
    ├── SignedOut           there is no session, or it ended; `reason` says why
    ├── ApiError            the server refused; `code` is one of the API's
    └── LocalStorageFailed  this device's own disk failed: full, read-only, not allowed

`code` is stable and the same key for every kind, so one table of sentences serves them all. `retryable`: the
same call may succeed later, unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

RETRY_AFTER_MAX_S = 86400.0


class HyperSendError(Exception):
    """Base of all errors that the SDK raises on purpose."""

    code: str = "error"
    retryable: bool = False


class InvalidAddress(HyperSendError, ValueError):
    """address: what was given."""

    code = "invalid_address"

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(f"{address!r} is no server address")


class ConnectionFailed(HyperSendError):
    """No answer came.

    sent: the request may have reached the server; False means it certainly did not.
    """

    code = "connection_failed"
    retryable = True

    def __init__(
        self, detail: str, *, reason: Literal["name", "refused", "timeout", "cut"] = "cut", sent: bool = True
    ) -> None:
        self.reason = reason
        self.sent = sent
        super().__init__(detail)


class TlsFailed(HyperSendError):
    """`certificate`: it is the certificate that is not trusted, and not the encryption itself."""

    code = "tls_failed"

    def __init__(self, detail: str, *, certificate: bool) -> None:
        self.certificate = certificate
        super().__init__(detail)


class NotHyperSend(HyperSendError):
    code = "not_hypersend"

    def __init__(self, url: str, detail: str = "") -> None:
        self.url = url
        super().__init__(f"{url} is no HyperSend server" + (f": {detail}" if detail else ""))


class OtherServer(HyperSendError):
    """expected, found: `server_id`s."""

    code = "other_server"

    def __init__(self, url: str, expected: str, found: str) -> None:
        self.url, self.expected, self.found = url, expected, found
        super().__init__(f"{url} is server {found}, and this account belongs to {expected}")


class ClientTooOld(HyperSendError):
    """needed, have: versions of the client."""

    code = "client_too_old"

    def __init__(self, needed: str, have: str) -> None:
        self.needed, self.have = needed, have
        super().__init__(f"the server needs client {needed} or later, and this is {have}")


class ServerTooOld(HyperSendError):
    """needed, have: API versions."""

    code = "server_too_old"

    def __init__(self, needed: int, have: int) -> None:
        self.needed, self.have = needed, have
        super().__init__(f"this client needs API version {needed}, and the server has {have}")


class SignedOut(HyperSendError):
    """reason: `no_session`, or the API's code that ended it: `session_ended`, `refresh_reused`, … url: of the server,
    where it is known."""

    code = "signed_out"

    def __init__(self, reason: str = "no_session", url: str = "") -> None:
        self.reason = reason
        self.url = url
        super().__init__(f"signed out: {reason}")


class ApiError(HyperSendError):
    """The server's refusal, from its problem document (RFC 9457) or `error` frame.

    status: HTTP status, 0 where it came over the WebSocket. errors: [{field, problem}] of 422. extra: further
    members, such as `missing` or `have`. retry_after_s: what the server asked for, from 0 to a day, or None.
    A proxy's own error page has the code `http_<status>`.
    """

    def __init__(
        self,
        code: str,
        *,
        status: int = 0,
        detail: str = "",
        retryable: bool = False,
        request_id: str = "",
        errors: Sequence[Mapping[str, str]] = (),
        extra: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.code = code
        self.status = status
        self.detail = detail
        self.retryable = retryable
        self.request_id = request_id
        self.errors = list(errors)
        self.extra = dict(extra or {})
        self.retry_after_s: float | None = None
        if retry_after_s is not None and not math.isnan(retry_after_s):
            self.retry_after_s = min(max(0.0, retry_after_s), RETRY_AFTER_MAX_S)
        super().__init__(f"{code}: {detail}" if detail else code)


class LocalStorageFailed(HyperSendError):
    """path: what could not be read or written."""

    code = "local_storage_failed"

    def __init__(self, path: str, detail: str) -> None:
        self.path = path
        super().__init__(f"{path}: {detail}")
