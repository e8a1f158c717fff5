"""Before anything else starts: makes the keys of the object store, once, and checks the settings.

    prepare.py                 /volumes/keys gets the files below, readable by the one user of our containers; then the
                               settings in force are printed, or what is wrong with them (exit status 1)
    prepare.py --alive         exit status 0 where the server of this container answers /healthz: its health check
"""

from __future__ import annotations

import http.client
import os
import secrets
import sys
from pathlib import Path

SERVER = Path(__file__).with_name("server.sh")
KEYS = Path("/volumes/keys")
NAMES = ("minio_root_user", "minio_root_password", "s3_access_key", "s3_secret_key")


def make_keys(folder: Path) -> None:
    for name in NAMES:
        path = folder / name
        if path.exists():
            continue
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(10 if name.endswith(("user", "access_key")) else 20))
        fresh.rename(path)


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--alive"]:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("PORT", "8000")), timeout=4)
            connection.request("GET", "/healthz")
            return 0 if connection.getresponse().status == 200 else 1
        except OSError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    make_keys(KEYS)
    if "standard" in os.environ.get("COMPOSE_PROFILES", "").split(","):
        # With MongoDB more must be set; which address it has is no matter here.
        os.environ["MONGODB_URI"] = os.environ.get("MONGODB_URI") or "mongodb://mongo/hypersend"
    sys.stdout.flush()
    os.execv(SERVER, [str(SERVER), "config"])  # noqa: S606 - a fixed program


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
