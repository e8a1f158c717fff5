"""What happens around every request: its id, errors as problem documents, CORS, the access log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from http import HTTPStatus

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from hypersend_server.client_address import client_address
from hypersend_server.errors import HyperSendError
from hypersend_server.metrics import Metrics
from hypersend_server.settings import Settings

Next = Handler

REQUEST_ID = web.RequestKey("request_id", str)
SESSION_ID = web.RequestKey("session_id", str)
access = logging.getLogger("hypersend.access")
log = logging.getLogger(__name__)


def problem(error: HyperSendError, request_id: str) -> web.Response:
    """The problem document of RFC 9457 for an error."""
    document = {
        "type": f"urn:hypersend:problem:{error.code}",
        "title": error.kind.title,
        "status": error.kind.status,
        "detail": error.detail,
        "code": error.code,
        "retryable": error.retryable,
        "request_id": request_id,
        **error.extra,
    }
    if error.errors:
        document["errors"] = error.errors
    headers = dict(error.headers)
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.kind.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(
        body=msgspec.json.encode(document), status=error.kind.status, headers=headers,
        content_type="application/problem+json",
    )


def _from_aiohttp(error: web.HTTPException) -> HyperSendError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return HyperSendError("method_not_allowed", f"Use one of {allowed}.", headers={"Allow": allowed})
    if error.status == 404:
        return HyperSendError("not_found", "There is no such path.")
    if error.status == 413:
        return HyperSendError("body_too_large")
    if error.status == HTTPStatus.EXPECTATION_FAILED:
        return HyperSendError("malformed_body", "Only 'Expect: 100-continue' is understood.")
    if error.status >= 500:
        return HyperSendError("internal")
    return HyperSendError("malformed_body", error.reason)


def build_middleware(settings: Settings, ids: Callable[[], str], metrics: Metrics) -> list[Middleware]:
    origins = {*settings.allowed_origins, settings.public_url} - {""}

    @web.middleware
    async def outermost(request: web.Request, handler: Next) -> web.StreamResponse:
        request[REQUEST_ID] = request_id = ids()
        began = time.perf_counter()
        status = 499  # the client went away before an answer
        try:
            response = await _answer(request, handler, request_id)
            status = response.status
            return response
        except ConnectionError:
            if request.transport is not None and not request.transport.is_closing():
                raise
            return web.Response(status=status)  # to nobody; raised on, it would be logged as a failure of ours
        finally:
            duration_ms = round((time.perf_counter() - began) * 1000, 1)
            metrics.request(request, status, duration_ms / 1000)
            path = request.rel_url.raw_path  # still encoded, and never the query: tickets stand there
            client = client_address(request, settings.trusted_proxies)
            access.info(
                "%s %s %d %s ms %s %s %s", request.method, path, status, duration_ms, client, request_id,
                request.get(SESSION_ID) or "-",
                extra={
                    "request_id": request_id,
                    "session_id": request.get(SESSION_ID),
                    "method": request.method,
                    "path": path,
                    "status": status,
                    "duration_ms": duration_ms,
                    "client": client,
                },
            )

    async def _answer(request: web.Request, handler: Next, request_id: str) -> web.StreamResponse:
        try:
            if request.body_exists and "Content-Encoding" in request.headers:
                raise HyperSendError("unsupported_media_type", "Send the body as it is, without Content-Encoding.")
            return await handler(request)
        except HyperSendError as error:
            return problem(error, request_id)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return problem(_from_aiohttp(error), request_id)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("request %s failed", request_id)
            return problem(HyperSendError("internal"), request_id)

    @web.middleware
    async def cors(request: web.Request, handler: Next) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        allowed = origin is not None and origin in origins
        if allowed and request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response: web.StreamResponse = web.Response(status=204, headers={
                "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
                "Access-Control-Allow-Headers":
                    "Authorization, Content-Type, Content-Digest, Repr-Digest, Idempotency-Key, Range, If-Range, "
                    "If-None-Match",
                "Access-Control-Max-Age": "7200",
            })
        else:
            response = await handler(request)
        return response

    return [outermost, cors]


def install_headers(app: web.Application, settings: Settings) -> None:
    """Headers that every answer carries, streams and files included."""
    origins = {*settings.allowed_origins, settings.public_url} - {""}

    async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers["X-Request-Id"] = request.get(REQUEST_ID, "")
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Referrer-Policy", "no-referrer")
        if request.path.startswith("/api/"):
            headers.setdefault("Cache-Control", "no-store")
        headers.popall("Server", None)
        origin = request.headers.get("Origin")
        if origin is not None and origins:
            headers.add("Vary", "Origin")
            if origin in origins:
                headers["Access-Control-Allow-Origin"] = origin
                headers["Access-Control-Expose-Headers"] = (
                    "X-Request-Id, Retry-After, ETag, Content-Range, Content-Disposition, Accept-Ranges")

    app.on_response_prepare.append(on_prepare)
