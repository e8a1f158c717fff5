"""What an object store refuses, in words for the operator: each sentence names the setting to look at.

Nothing of a vendor's own text gets into them, since some stores repeat the request's keys there.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import urllib3.exceptions
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from hypersend_storage.errors import ObjectMissing, StorageError, StorageFull, StorageUnavailable, UploadLost

FULL = {
    "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "XMinioStorageQuotaExceeded", "QuotaExceeded",
    "InsufficientStorage", "InsufficientStorageSpace", "ServiceQuotaExceeded", "QuotaExceededException",
}
DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "UnauthorizedAccess", "NotSignedUp"}
OTHER_REGION = {
    "AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "PermanentRedirect", "TemporaryRedirect",
    "Redirect", "InvalidRegion", "IllegalLocationConstraintException",
}
CLOCK = {"RequestTimeTooSkewed", "RequestExpired", "ExpiredToken", "RequestNotYetValid"}
PARTS_DIFFER = {"InvalidPart", "InvalidPartOrder", "EntityTooSmall"}


class PartsDiffer(StorageUnavailable):
    """The store has other parts than those that were named at completing."""


class Unsupported(StorageUnavailable):
    """The store does not offer this call."""


@contextmanager
def translated(right: str) -> Iterator[None]:
    """right: of the call inside, as policies name it, such as s3:PutObject."""
    try:
        yield
    except S3Error as error:
        raise refusal(right, error.code or "", error.response.status,
                      error.response.headers.get("x-amz-bucket-region")) from None
    except (InvalidResponseError, ServerError) as error:
        # An answer that is no XML comes from something in front of the store.
        status = error.args[1] if isinstance(error, ServerError) and len(error.args) > 1 else status_of(error)
        raise refusal(right, "", status, None) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise StorageUnavailable(unreachable(error)) from None
    except (MinioException, SyntaxError) as error:  # SyntaxError: XML that is none
        raise StorageUnavailable(
            f"what answers at S3_ENDPOINT is no S3 service: {type(error).__name__} at {right}") from None


def status_of(error: InvalidResponseError | ServerError) -> int:
    if isinstance(error, ServerError):
        return error.status_code
    return error._code


def refusal(right: str, code: str, status: int, region: str | None) -> StorageError:
    """What an error answer means. region: where the store says that the bucket is."""
    if code in FULL or status == 507:
        return StorageFull(f"the object store has no room left ({code or status})")
    if code == "NoSuchUpload":
        return UploadLost("the object store no longer has this upload")
    if code in ("NoSuchKey", "NoSuchCORSConfiguration"):
        return ObjectMissing("nothing is stored here")
    if code == "NoSuchBucket":
        return StorageUnavailable("S3_BUCKET: the store at S3_ENDPOINT has no bucket of this name")
    if code in PARTS_DIFFER:
        return PartsDiffer(f"the object store has other parts than were received ({code})")
    if code in ("NotImplemented", "MethodNotAllowed") or status in (405, 501):
        return Unsupported(f"the object store does not offer what {right} allows ({code or status})")
    if code in ("InvalidAccessKeyId", "InvalidAccessKey", "XAdminUserNotFound"):
        return StorageUnavailable("S3_ACCESS_KEY: the object store does not know this key")
    if code == "SignatureDoesNotMatch":
        return StorageUnavailable(
            "S3_SECRET_KEY does not belong to S3_ACCESS_KEY, or a proxy before the object store changes requests")
    if code in OTHER_REGION or status in (301, 307, 308):
        named = f": the store names {region}" if region else ""
        return StorageUnavailable(f"S3_REGION: the bucket in S3_BUCKET is in another region{named}")
    if code in CLOCK:
        return StorageUnavailable(
            "the clock of this machine and that of the object store differ by more than it accepts: set the time (NTP)")
    if code in DENIED or status in (401, 403):
        return StorageUnavailable(
            f"S3_ACCESS_KEY has no right to {right} in the bucket of S3_BUCKET ({code or status})")
    return StorageUnavailable(f"the object store answered {code or 'HTTP'} {status} to {right}")


def unreachable(error: Exception) -> str:
    reason: BaseException | None = error
    if isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason is not None:
        reason = error.reason
    if isinstance(reason, (urllib3.exceptions.SSLError, ssl.SSLError)):
        return "S3_ENDPOINT: no secure connection to the object store, look at its certificate"
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        return "S3_ENDPOINT: the name of the object store's host cannot be resolved"
    if isinstance(reason, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)):
        return "S3_ENDPOINT: the object store cannot be reached"
    if isinstance(reason, (urllib3.exceptions.TimeoutError, TimeoutError)):
        return "S3_ENDPOINT: the object store did not answer in time"
    return f"S3_ENDPOINT: the connection to the object store broke ({type(reason).__name__})"
