"""What is tried at an object store when a server starts: is the bucket there, does the key have the rights, does the
store keep and check SHA-256, and does it hold senders to what was signed.

The multipart upload that this takes is aborted at the end; nothing of it stays.
"""

from __future__ import annotations

import base64
import http.client
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit

from hypersend_storage.errors import StorageUnavailable
from hypersend_storage.s3_api import ANSWER_S, S3Api
from hypersend_storage.s3_errors import unreachable
from hypersend_storage.s3_signer import Signer

RIGHT = b"the bytes that were signed"
WRONG = b"THE BYTES THAT WERE SIGNED"

TRICKS = {3: "a part with a wrong SHA-256", 4: "a part longer than was signed", 5: "a part without its checksum"}


@dataclass(frozen=True, slots=True)
class Probed:
    """keeps_checksums: whether parts are listed with their SHA-256. direct_problem: why clients must not be sent to
    the store, '' where they may."""

    keeps_checksums: bool
    direct_problem: str


def probe(api: S3Api, signer: Signer, key: str, clock: Callable[[], float]) -> Probed:
    """In a thread. Raises: StorageUnavailable with a sentence for the operator."""
    next(api.objects("files/", limit=1), None)
    try:
        upload_id = api.create_multipart(key, with_checksums=True)
    except StorageUnavailable:
        upload_id = api.create_multipart(key, with_checksums=False)  # not a matter of checksums where this fails too
    try:
        return _probe(api, signer, key, upload_id, clock)
    finally:
        api.abort(key, upload_id)


def _probe(api: S3Api, signer: Signer, key: str, upload_id: str, clock: Callable[[], float]) -> Probed:
    url = api.url(key, api.endpoint)
    claimed = sha256(RIGHT).digest()

    def send(number: int, body: bytes, *, with_checksum: bool = True) -> int:
        checksum = base64.b64encode(claimed).decode()
        signed = {"content-length": str(len(RIGHT)), "x-amz-checksum-sha256": checksum}
        target = signer.presign("PUT", url, signed, query={"partNumber": str(number), "uploadId": upload_id},
                                now=clock(), expires_s=300)
        return _put(target, body, {"x-amz-checksum-sha256": checksum} if with_checksum else {})

    try:
        api.put_part(key, upload_id, 1, RIGHT, claimed, with_checksum=True)
        listed = {part.number: part for part in api.parts(key, upload_id)}
        keeps = listed[1].sha256 == claimed
    except (StorageUnavailable, KeyError):
        keeps = False
    if not keeps:
        # The driver then goes by MD5, and here it is seen whether that works at all.
        api.put_part(key, upload_id, 1, RIGHT, claimed, with_checksum=False)
        return Probed(False, "the object store keeps no SHA-256 of parts (x-amz-checksum-sha256)")
    if not 200 <= (status := send(2, RIGHT)) < 300:
        return Probed(True, f"the object store refuses a signed part (HTTP {status})")
    send(3, WRONG)
    send(4, RIGHT + b" and more")
    send(5, RIGHT, with_checksum=False)
    # Whatever it answered: what counts is what it kept.
    for part in api.parts(key, upload_id):
        if part.number in TRICKS:
            return Probed(True, f"the object store accepts {TRICKS[part.number]}")
    return Probed(True, "")


def _put(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Send a signed part as a client would; the status of the answer."""
    # Not by urllib3, which logs URLs when it is asked to: these are signed.
    parts = urlsplit(url)
    connection = (http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection)(
        parts.netloc, timeout=ANSWER_S)
    try:
        connection.request("PUT", f"{parts.path}?{parts.query}", body, headers)
        return connection.getresponse().status
    except ConnectionError:  # some refuse by hanging up
        return 0
    except (http.client.HTTPException, OSError) as error:
        raise StorageUnavailable(unreachable(error)) from None
    finally:
        connection.close()
