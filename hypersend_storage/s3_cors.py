"""Whether browsers may talk to the store: CORS, which a page of another origin needs to send parts and to read.

Source: Fetch standard, "CORS-preflight fetch"; Amazon S3 API Reference, PutBucketCors.
"""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from urllib.parse import urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from hypersend_storage.errors import StorageUnavailable
from hypersend_storage.s3_api import ANSWER_S, S3Api
from hypersend_storage.s3_errors import Unsupported

HEADERS = ("content-type", "x-amz-checksum-sha256")
"""What a page sets on the parts that it sends."""
HOW = "allow it in the bucket's CORS rules, or with MINIO_API_CORS_ALLOW_ORIGIN where the store is MinIO"


def preflight(url: str, origin: str) -> str | None:
    """In a thread: ask as a browser would. None where a page may send parts, else what is wrong and the way out.

    Raises: StorageUnavailable.
    """
    parts = urlsplit(url)
    connection = (http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection)(
        parts.netloc, timeout=ANSWER_S)
    try:
        connection.request("OPTIONS", f"{parts.path}?partNumber=1&uploadId=probe", headers={
            "Origin": origin, "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": ",".join(HEADERS)})
        answer = connection.getresponse()
        answer.read()
        status, headers = answer.status, answer.headers
    except (http.client.HTTPException, OSError) as error:
        raise StorageUnavailable(
            f"S3_PUBLIC_ENDPOINT ({parts.scheme}://{parts.netloc}) does not answer: {type(error).__name__}") from None
    finally:
        connection.close()

    def named(name: str) -> set[str]:
        return {item.strip().lower() for item in headers.get(name, "").split(",") if item.strip()}

    if not 200 <= status < 300 or not {"*", origin.lower()} & named("Access-Control-Allow-Origin"):
        return f"the object store does not let pages of {origin} send parts (HTTP {status}): {HOW}"
    if not {"*", "put"} & named("Access-Control-Allow-Methods"):
        return f"the object store does not let pages of {origin} use PUT: {HOW}"
    allowed = named("Access-Control-Allow-Headers")
    if missing := [] if "*" in allowed else [name for name in HEADERS if name not in allowed]:
        return f"the object store does not let pages of {origin} send the header {missing[0]}: {HOW}"
    return None


def allow(api: S3Api, origins: Sequence[str]) -> None:
    """In a thread: put our rule, for these origins, beside the others of the bucket. Raises: StorageUnavailable."""
    try:
        rules = _others(api.cors())
        api.put_cors('<CORSConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                     f"{rules}{_rule(origins)}</CORSConfiguration>")
    except Unsupported:
        raise StorageUnavailable(
            "the object store has no CORS rules for a bucket: where it is MinIO, start it with "
            f"MINIO_API_CORS_ALLOW_ORIGIN={','.join(origins)}") from None


def _rule(origins: Sequence[str]) -> str:
    return "<CORSRule><ID>hypersend</ID>" + "".join(
        [f"<AllowedOrigin>{escape(origin)}</AllowedOrigin>" for origin in origins]
        + [f"<AllowedMethod>{method}</AllowedMethod>" for method in ("GET", "HEAD", "PUT")]
        + ["<AllowedHeader>*</AllowedHeader>"]
        + [f"<ExposeHeader>{name}</ExposeHeader>" for name in ("ETag", "Content-Range", "Content-Length")]
    ) + "<MaxAgeSeconds>3600</MaxAgeSeconds></CORSRule>"


def _others(rules: str) -> str:
    """Those of the bucket's rules that are somebody else's, as XML."""
    if not rules:
        return ""
    try:
        root = ElementTree.fromstring(rules)  # noqa: S314 - the operator's own store
    except ElementTree.ParseError:
        raise StorageUnavailable("the CORS rules of the bucket are no XML") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    kept = [rule for rule in root if rule.findtext("ID") != "hypersend"]
    return "".join(ElementTree.tostring(rule, encoding="unicode") for rule in kept)
