"""The calls of S3 that the driver makes, over the minio SDK.

Everything here blocks and belongs in a thread. The SDK's own multipart calls are private and leave out checksums, so
this one class builds on two private methods of the pinned version: `Minio._execute`, which signs and sends one
request, and `Minio._build_headers`, replaced so that a body is hashed once, its SHA-256 is always signed (then the
store refuses a body that was changed on its way, with and without TLS) and the clock is an argument.

Source: Amazon S3 API Reference.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import unquote_plus, urlsplit, urlunsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import urllib3
from minio import Minio
from minio.helpers import BaseURL
from urllib3 import BaseHTTPResponse, HTTPResponse

from hypersend_storage.errors import ObjectMissing, StorageUnavailable, UploadLost
from hypersend_storage.s3_errors import refusal, translated

CONNECT_S = 10
ANSWER_S = 60
COMPLETE_S = 15 * 60
"""Some stores copy the parts together before they answer."""
PAGE = 1000
EMPTY_SHA256 = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Part:
    """One part that the store lists; `sha256` is None where it keeps no checksum."""

    number: int
    size: int
    etag: str
    sha256: bytes | None


@dataclass(frozen=True, slots=True)
class Head:
    """What is stored under a key. checksum: as S3 writes it, of several parts BASE64-COUNT; '' where unknown."""

    size: int
    etag: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Listed:
    """An object, or with an `upload_id` a multipart upload in flight. modified: Unix seconds."""

    key: str
    size: int
    modified: float
    upload_id: str = ""


class _Client(Minio):
    clock: Callable[[], float]

    def _build_headers(
        self, host: str, headers: Mapping[str, Any] | None = None, body: bytes | None = None, creds: object = None,
    ) -> tuple[dict[str, Any], datetime]:
        given: dict[str, Any] = dict(headers or {})
        if body:
            given["Content-Length"] = str(len(body))
        if "x-amz-content-sha256" not in given:
            given["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest() if body else EMPTY_SHA256
        now = datetime.fromtimestamp(self.clock(), UTC)
        return {**given, "Host": host, "User-Agent": "HyperSend", "x-amz-date": f"{now:%Y%m%dT%H%M%SZ}"}, now


class S3Api:
    """One bucket. Errors are those of `hypersend_storage.errors`, with a sentence for the operator.

    endpoint: an absolute URL, http or https. connections: kept open at most. clock: Unix seconds.
    """

    def __init__(
        self, *, endpoint: str, bucket: str, access_key: str, secret_key: str, region: str, connections: int,
        clock: Callable[[], float],
    ) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query:
            raise ValueError("S3_ENDPOINT must look like https://host or http://host:port, without a path")
        self.endpoint = endpoint
        self.bucket = bucket
        self._region = region

        def client(answer_s: float) -> _Client:
            made = _Client(
                parts.netloc, access_key, secret_key, secure=parts.scheme == "https", region=region,
                http_client=urllib3.PoolManager(
                    timeout=urllib3.Timeout(connect=CONNECT_S, read=answer_s), maxsize=connections,
                    # Repeated only where that is harmless (not POST), and never sent elsewhere by a redirect.
                    retries=urllib3.Retry(
                        total=3, connect=1, read=1, redirect=0, status=3, backoff_factor=0.2,
                        status_forcelist=[500, 502, 503, 504], raise_on_status=False, raise_on_redirect=False,
                        respect_retry_after_header=False)))
            made.clock = clock
            return made

        self._client = client(ANSWER_S)
        self._patient = client(COMPLETE_S)

    def close(self) -> None:
        """Drop the connections that are idle."""
        self._client._http.clear()
        self._patient._http.clear()

    def url(self, key: str, endpoint: str) -> str:
        """Where an object is at another endpoint, without a query; by the SDK's rules (path style, AWS's hosts)."""
        base = BaseURL(endpoint, self._region)
        parts = base.build(method="GET", region=self._region, bucket_name=self.bucket, object_name=key)
        return urlunsplit(parts)

    # Multipart uploads

    def create_multipart(self, key: str, *, with_checksums: bool) -> str:
        """Returns the upload id."""
        headers = {"Content-Type": "application/octet-stream"}
        if with_checksums:
            headers["x-amz-checksum-algorithm"] = "SHA256"
        answer = self._call("s3:PutObject", "POST", key, {"uploads": ""}, headers)
        return _text(_xml(answer.data), "UploadId")

    def put_part(
        self, key: str, upload_id: str, number: int, body: bytes | bytearray, sha256: bytes, *, with_checksum: bool
    ) -> str:
        """Returns the part's ETag. The store has compared the bytes with their SHA-256."""
        headers = {"x-amz-content-sha256": sha256.hex()}
        if with_checksum:
            headers["x-amz-checksum-sha256"] = base64.b64encode(sha256).decode()
        else:
            headers["Content-MD5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        answer = self._call(
            "s3:PutObject", "PUT", key, {"partNumber": str(number), "uploadId": upload_id}, headers,
            body=cast("bytes", body))
        return answer.headers.get("etag", "").strip('"')

    def parts(self, key: str, upload_id: str, after: int = 0, limit: int | None = None) -> Iterator[Part]:
        """What the store lists, by number, behind number `after`. Raises: UploadLost."""
        while True:
            answer = self._call("s3:ListMultipartUploadParts", "GET", key, {
                "uploadId": upload_id, "max-parts": str(limit or PAGE), "part-number-marker": str(after)})
            root = _xml(answer.data)
            for found in _all(root, "Part"):
                checksum = _text(found, "ChecksumSHA256", "")
                after = int(_text(found, "PartNumber"))
                yield Part(after, int(_text(found, "Size")), _text(found, "ETag").strip('"'),
                           base64.b64decode(checksum) if checksum else None)
            if limit or _text(root, "IsTruncated", "false") != "true":
                return

    def complete(self, key: str, upload_id: str, parts: Sequence[Part], *, with_checksums: bool) -> None:
        """Raises: PartsDiffer, UploadLost. Where the connection breaks it may have been done."""
        body = "".join([
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{escape(part.etag)}&quot;</ETag>"
            + (f"<ChecksumSHA256>{base64.b64encode(part.sha256).decode()}</ChecksumSHA256>"
               if with_checksums and part.sha256 is not None else "") + "</Part>"
            for part in parts])
        answer = self._call(
            "s3:PutObject", "POST", key, {"uploadId": upload_id}, {"Content-Type": "application/xml"},
            body=('<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                  f"{body}</CompleteMultipartUpload>").encode(),
            client=self._patient)
        # An answer that began with 200, to keep the connection awake, may still end in an error.
        root = _xml(answer.data)
        if _name(root) == "Error":
            raise refusal("s3:PutObject", _text(root, "Code", ""), 500, None)

    def abort(self, key: str, upload_id: str) -> None:
        """Gone already is fine. A part that is still arriving may survive it: look, and abort again."""
        for _ in range(3):
            try:
                self._call("s3:AbortMultipartUpload", "DELETE", key, {"uploadId": upload_id})
                next(self.parts(key, upload_id, limit=1), None)
            except UploadLost:
                return

    def uploads(self, prefix: str) -> Iterator[Listed]:
        """Multipart uploads in flight, as far as the store lists them: MinIO only those of exactly this key."""
        query = {"uploads": "", "prefix": prefix, "max-uploads": str(PAGE), "encoding-type": "url"}
        while True:
            root = _xml(self._call("s3:ListBucketMultipartUploads", "GET", None, query).data)
            encoded = _text(root, "EncodingType", "") == "url"
            for found in _all(root, "Upload"):
                yield Listed(_key(found, encoded), 0, _time(_text(found, "Initiated")), _text(found, "UploadId"))
            if _text(root, "IsTruncated", "false") != "true":
                return
            marker = _text(root, "NextKeyMarker", "")
            query["key-marker"] = unquote_plus(marker) if encoded else marker
            query["upload-id-marker"] = _text(root, "NextUploadIdMarker", "")

    # Objects

    def put_empty(self, key: str) -> None:
        self._call("s3:PutObject", "PUT", key, {}, {"Content-Type": "application/octet-stream"}, body=b"")

    def head(self, key: str) -> Head | None:
        try:
            answer = self._call("s3:GetObject", "HEAD", key, {}, {"x-amz-checksum-mode": "ENABLED"})
        except ObjectMissing:
            return None
        headers = answer.headers
        return Head(int(headers.get("content-length", "0")), headers.get("etag", "").strip('"'),
                    headers.get("x-amz-checksum-sha256", ""))

    def get(self, key: str, start: int, length: int) -> HTTPResponse:
        """An answer whose body is not read yet; `close` it. Raises: ObjectMissing."""
        return cast("HTTPResponse", self._call(
            "s3:GetObject", "GET", key, {}, {"Range": f"bytes={start}-{start + length - 1}"}, preload=False))

    def delete(self, key: str) -> None:
        try:
            self._call("s3:DeleteObject", "DELETE", key, {})
        except ObjectMissing:
            return

    def objects(self, prefix: str, limit: int | None = None) -> Iterator[Listed]:
        query = {"list-type": "2", "prefix": prefix, "max-keys": str(limit or PAGE), "encoding-type": "url"}
        while True:
            root = _xml(self._call("s3:ListBucket", "GET", None, query).data)
            encoded = _text(root, "EncodingType", "") == "url"
            for found in _all(root, "Contents"):
                yield Listed(_key(found, encoded), int(_text(found, "Size")), _time(_text(found, "LastModified")))
            if limit or _text(root, "IsTruncated", "false") != "true":
                return
            query["continuation-token"] = _text(root, "NextContinuationToken")

    # What browsers may do

    def cors(self) -> str:
        """The bucket's rules as XML; '' where it has none. Raises: Unsupported."""
        try:
            return self._call("s3:GetBucketCORS", "GET", None, {"cors": ""}).data.decode()
        except ObjectMissing:
            return ""

    def put_cors(self, rules: str) -> None:
        """Raises: Unsupported."""
        body = rules.encode()
        md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        self._call("s3:PutBucketCORS", "PUT", None, {"cors": ""},
                   {"Content-Type": "application/xml", "Content-MD5": md5}, body=body)

    def _call(
        self, right: str, method: str, key: str | None, query: dict[str, str], headers: dict[str, str] | None = None,
        *, body: bytes | None = None, preload: bool = True, client: _Client | None = None,
    ) -> BaseHTTPResponse:
        with translated(right):
            return (client or self._client)._execute(
                method, self.bucket, key, body=body, headers=cast("Any", headers),
                query_params=cast("Any", dict(query)), preload_content=preload)


def read_some(answer: HTTPResponse, length: int) -> bytes:
    """Up to `length` bytes of a body; b'' at its end. Raises: StorageUnavailable."""
    with translated("s3:GetObject"):
        return answer.read(length, decode_content=False)


def _xml(data: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(data)  # noqa: S314 - the operator's own store
    except ElementTree.ParseError:
        raise StorageUnavailable("what answers at S3_ENDPOINT is no S3 service: its answer is no XML") from None


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _all(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [element for element in root if _name(element) == name]


def _text(element: ElementTree.Element, name: str, default: str | None = None) -> str:
    for found in _all(element, name):
        return found.text or ""
    if default is None:
        raise StorageUnavailable(f"the object store's answer has no {name}")
    return default


def _key(found: ElementTree.Element, encoded: bool) -> str:
    key = _text(found, "Key")
    return unquote_plus(key) if encoded else key


def _time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise StorageUnavailable("the object store's answer has a time that is none") from None
