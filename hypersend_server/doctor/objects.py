"""Object storage: each right that the driver needs, checksums and signed parts, CORS, clock, what older checks left."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import secrets
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from hypersend_server.doctor.findings import Area, shown_ms
from hypersend_server.settings import Settings

SKEW_S = 60.0
STALE_S = 3600.0
SMALL = b"hypersend probe"
POLICY = """The key's policy must allow this on the bucket and on what is in it:
    s3:PutObject s3:GetObject s3:DeleteObject s3:AbortMultipartUpload s3:ListMultipartUploadParts
    s3:ListBucket s3:ListBucketMultipartUploads
(docs/object-storage.md has it as JSON)"""
ADDRESS = "S3_ENDPOINT, S3_BUCKET, S3_ACCESS_KEY, S3_SECRET_KEY and S3_REGION: see docs/object-storage.md."


async def check(settings: Settings, *, fix: bool, area: Area) -> None:
    """Writes under probe/ in the bucket, and removes it again."""
    try:
        from hypersend_storage.s3 import S3Store
        from hypersend_storage.s3_api import S3Api
    except ImportError as error:
        area.problem(f"the package for object storage is missing: {error}", "pip install 'hypersend[s3]'")
        return
    try:
        api = S3Api(endpoint=settings.s3_endpoint, bucket=settings.s3_bucket, access_key=settings.s3_access_key,
                    secret_key=settings.s3_secret_key, region=settings.s3_region, connections=2, clock=time.time)
    except ValueError as error:
        area.problem(str(error), ADDRESS)
        return
    try:
        await asyncio.to_thread(_check_clock, settings.s3_endpoint, area)
        before = len(area.findings)
        await asyncio.to_thread(_check_rights, api, area)
        if any(finding.level == "problem" for finding in area.findings[before:]):
            return
        await asyncio.to_thread(_check_leftovers, api, area, fix=fix)
        await _check_direct(S3Store(
            endpoint=settings.s3_endpoint, public_endpoint=settings.s3_public_endpoint, bucket=settings.s3_bucket,
            access_key=settings.s3_access_key, secret_key=settings.s3_secret_key, region=settings.s3_region,
            direct=settings.s3_direct), settings, area, fix=fix)
    finally:
        api.close()


def _check_clock(endpoint: str, area: Area) -> None:
    parts = urlsplit(endpoint)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=10)
    try:
        began = time.time()
        connection.request("HEAD", "/")
        stated = connection.getresponse().getheader("Date")
        took = time.time() - began
    except (OSError, http.client.HTTPException):
        return  # the rights' check says more
    finally:
        connection.close()
    try:
        skew = abs(parsedate_to_datetime(stated or "").timestamp() - began)
    except ValueError:
        return
    if skew > SKEW_S + took:
        area.problem(f"the object store's clock differs from this machine's by {skew:.0f} s: it refuses what is signed",
                     "timedatectl set-ntp true    (on the machine that is wrong)")
    else:
        area.ok(f"the object store answers within {shown_ms(took)}, and its clock agrees")


def _check_rights(api: object, area: Area) -> None:
    """Each call once, on a key of our own; what cannot be done is named by its right."""
    from hypersend_storage.errors import StorageError
    from hypersend_storage.s3_api import S3Api

    assert isinstance(api, S3Api)
    key = f"probe/{secrets.token_hex(16)}"
    digest = hashlib.sha256(SMALL).digest()
    refused: list[str] = []
    done: list[str] = []

    def attempt(what: str, call: Callable[[], object]) -> bool:
        try:
            call()
        except StorageError as error:
            if str(error) not in refused:
                refused.append(str(error))
            return False
        done.append(what)
        return True

    attempt("list objects", lambda: next(api.objects("files/", limit=1), None))
    upload: list[str] = []
    has_checksums: list[bool] = []

    def begin() -> None:
        for wanted in (True, False):  # some stores know no checksums
            try:
                upload.append(api.create_multipart(key, with_checksums=wanted))
            except StorageError:
                if not wanted:
                    raise
            else:
                has_checksums.append(wanted)
                return

    if attempt("begin an upload", begin):
        attempt("send a part", lambda: api.put_part(key, upload[0], 1, SMALL, digest, with_checksum=has_checksums[0]))
        attempt("list parts", lambda: list(api.parts(key, upload[0])))
        attempt("list uploads", lambda: list(api.uploads(key)))
        attempt("abort an upload", lambda: api.abort(key, upload[0]))
    if attempt("store an object", lambda: api.put_empty(key)):
        attempt("read an object", lambda: api.head(key))
        attempt("delete an object", lambda: api.delete(key))
    for problem in refused:
        area.problem(problem, POLICY if "right to" in problem else ADDRESS)
    if not refused:
        area.ok(f"the key may do all that is needed: {', '.join(done)}")


def _check_leftovers(api: object, area: Area, *, fix: bool) -> None:
    from hypersend_storage.errors import StorageError
    from hypersend_storage.s3_api import S3Api

    assert isinstance(api, S3Api)
    try:
        stale = [found for found in api.objects("probe/") if found.modified < time.time() - STALE_S]
        if stale and fix:
            for found in stale:
                api.delete(found.key)
            area.mended(f"{len(stale)} objects that earlier checks had left were removed")
        elif stale:
            area.warn(f"{len(stale)} objects of earlier checks are left under probe/", "hypersend-server doctor --fix")
    except StorageError as error:
        area.warn(f"what earlier checks left cannot be seen: {error}", POLICY)


async def _check_direct(store: object, settings: Settings, area: Area, *, fix: bool) -> None:
    from hypersend_storage.errors import StorageError
    from hypersend_storage.s3 import S3Store

    assert isinstance(store, S3Store)
    try:
        await store.open()  # tries multipart, checksums and signed parts
        if not settings.s3_direct:
            area.ok("multipart uploads work; all bytes pass through the server (S3_DIRECT=off)")
            return
        if not store.is_direct:
            why = store.direct_problem or "it does not hold senders to what was signed"
            area.warn(f"devices cannot send to the store themselves: {why}",
                      "S3_DIRECT=off    (bytes then pass through the server), or another store")
            return
        area.ok("multipart uploads, SHA-256 checksums and signed parts work: devices send to the store themselves")
        origins = sorted({*settings.allowed_origins, settings.public_url} - {""})
        blocked = [(origin, problem) for origin in origins if (problem := await store.cors_problem(origin))]
        if blocked and fix:
            await store.allow_origins(origins)
            area.mended(f"the bucket now lets pages of {', '.join(origins)} send parts")
        elif blocked:
            for _, problem in blocked:
                area.problem(problem, "hypersend-server doctor --fix    (puts a CORS rule for PUBLIC_URL and "
                                      "ALLOWED_ORIGINS on the bucket), or where the store is MinIO:\n"
                                      f"    MINIO_API_CORS_ALLOW_ORIGIN={','.join(origins)}")
        elif origins:
            area.ok(f"pages of {', '.join(origins)} may send parts (CORS)")
    except StorageError as error:
        area.problem(str(error), ADDRESS)
    finally:
        await store.close()
