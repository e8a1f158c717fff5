"""What a server answered, and what a connection broke with, as errors of the SDK's own."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp

from hypersend_client.sdk.errors import ApiError, ConnectionFailed, HyperSendError, NotHyperSend, TlsFailed


def parse_json(data: str | bytes | bytearray) -> Any:
    """What an answer says. Raises: ValueError, also for numbers that are none and for what is nested without end."""
    try:
        return json.loads(data, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def plain_text(value: Any) -> str:
    """A text as it is, and anything else as none."""
    return value if isinstance(value, str) else ""


def refusal_of(status: int, reason: str, headers: Mapping[str, str], problem: Any) -> ApiError:
    """problem: the body, where it was JSON."""
    wait_s = retry_after(headers)
    if not isinstance(problem, dict) or not isinstance(problem.get("code"), str):
        return ApiError(
            f"http_{status}",
            status=status,
            detail=reason,
            retry_after_s=wait_s,
            retryable=status in (408, 429, 500, 502, 503, 504),
            request_id=headers.get("X-Request-Id", ""),
        )
    known = {"type", "title", "status", "detail", "code", "retryable", "request_id", "errors"}
    errors = problem.get("errors")
    return ApiError(
        problem["code"],
        status=status,
        detail=plain_text(problem.get("detail")) or plain_text(problem.get("title")),
        retryable=problem.get("retryable") is True,
        request_id=plain_text(problem.get("request_id")),
        errors=[e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else (),
        extra={name: value for name, value in problem.items() if name not in known},
        retry_after_s=wait_s,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; the form with a date needs a clock that is right, so it counts as absent."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


def translate(error: BaseException, url: str) -> HyperSendError:
    """aiohttp's and the system's errors as ours."""
    if isinstance(
        error,
        aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError | aiohttp.ServerFingerprintMismatch,
    ):
        return TlsFailed(f"the certificate of {url} is not trusted: {error}", certificate=True)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return TlsFailed(f"{url} does not speak TLS as it should: {error}", certificate=False)
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        return ConnectionFailed(f"the name of {url} is not known", reason="name", sent=False)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ConnectionFailed(f"{url} does not answer", reason="timeout", sent=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        return ConnectionFailed(f"{url} cannot be reached: {error}", reason="refused", sent=False)
    if isinstance(error, TimeoutError):
        return ConnectionFailed(f"{url} stopped answering", reason="timeout")
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return NotHyperSend(url, str(error))
    return ConnectionFailed(f"the connection to {url} was cut: {error}")
