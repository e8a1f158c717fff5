"""Sets up MinIO: the bucket, and a key that may use this bucket and nothing else. Running it again changes nothing.

Environment: OBJECTS_AT (host:port), S3_BUCKET, and the folder of prepare.py's files in KEYS.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import urllib3
from minio import Minio, MinioAdmin
from minio.credentials import StaticProvider
from minio.error import MinioAdminException, S3Error

POLICY = "hypersend"
START_S = 60.0


def policy(bucket: str) -> dict[str, object]:
    """What docs/object-storage.md asks for, and no more."""
    return {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Resource": [f"arn:aws:s3:::{bucket}"],
         "Action": ["s3:ListBucket", "s3:ListBucketMultipartUploads"]},
        {"Effect": "Allow", "Resource": [f"arn:aws:s3:::{bucket}/*"],
         "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload",
                    "s3:ListMultipartUploadParts"]}]}


def set_up(address: str, bucket: str, keys: Path) -> None:
    """Raises: MinioAdminException, S3Error, urllib3's errors."""
    root = [(keys / name).read_text(encoding="ascii") for name in ("minio_root_user", "minio_root_password")]
    access_key, secret_key = ((keys / name).read_text(encoding="ascii") for name in ("s3_access_key", "s3_secret_key"))
    store = Minio(address, root[0], root[1], secure=False)
    until = time.monotonic() + START_S
    while True:
        try:
            if not store.bucket_exists(bucket):
                store.make_bucket(bucket)
            break
        except (S3Error, urllib3.exceptions.HTTPError):
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
    admin = MinioAdmin(endpoint=address, credentials=StaticProvider(*root), secure=False)
    admin.policy_add(POLICY, policy=policy(bucket))
    if access_key not in json.loads(admin.user_list()):
        admin.user_add(access_key, secret_key)
    user = json.loads(admin.user_info(access_key))
    if POLICY not in user.get("policyName", "").split(","):
        admin.attach_policy([POLICY], user=access_key)


def main() -> int:
    try:
        set_up(os.environ.get("OBJECTS_AT", "minio:9000"), os.environ.get("S3_BUCKET") or "hypersend",
               Path(os.environ.get("KEYS", "/volumes/keys")))
    except (MinioAdminException, S3Error, urllib3.exceptions.HTTPError, OSError) as error:
        sys.stderr.write(f"MinIO could not be set up: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
