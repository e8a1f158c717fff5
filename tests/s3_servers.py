"""Real S3 servers as processes of their own, to be killed and started again: MinIO and versitygw."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
import uuid
from pathlib import Path

import urllib3
from minio import Minio

from tests.parts import require

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hypersend-tests" / "bin"
START_S = 60
REGION = "eu-north-1"
KINDS = ("minio", "versitygw")


def binary(kind: str) -> str:
    """The path of the server's program, or the test is skipped."""
    path = _find(kind)
    require(kind, path is not None)
    assert path is not None
    return path


def is_there(kind: str) -> bool:
    """Whether the server's program is installed."""
    return _find(kind) is not None


def _find(kind: str) -> str | None:
    places = [str(CACHE), os.environ.get("PATH", ""), str(Path.home() / "go" / "bin")]
    return shutil.which(kind, path=os.pathsep.join(places))


class S3Server:
    """`start` again after `kill` serves the same data at the same port. environment: added to the server's own."""

    access_key = "hypersend-test"
    secret_key = "a secret that no log may show"
    region = REGION

    def __init__(self, kind: str, folder: Path, **environment: str) -> None:
        self.kind = kind
        self.folder = folder
        self._environment = environment
        self._program = binary(kind)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> S3Server:
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        if self.kind == "minio":
            command = [self._program, "server", "--quiet", "--address", f"127.0.0.1:{self.port}",
                       "--console-address", f"127.0.0.1:{_free_port()}", str(data)]
            own = {"MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key,
                   "MINIO_SITE_REGION": self.region, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "CI": "true",
                   "MINIO_API_STALE_UPLOADS_EXPIRY": "240h"}
        else:
            # Its objects' attributes lie beside them, since not every test machine's file system keeps xattrs.
            sidecar = self.folder / "attributes"
            sidecar.mkdir(exist_ok=True)
            command = [self._program, "--port", f"127.0.0.1:{self.port}", "--quiet", "posix", "--sidecar", str(sidecar),
                       str(data)]
            own = {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key, "VGW_REGION": self.region}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env={**inherited, **own, **self._environment}, stdout=log, stderr=log)
        until = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.kind} did not start: {(self.folder / 'log').read_text()}")
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        try:
            if self.kind == "minio":
                with urllib.request.urlopen(self.url + "/minio/health/cluster", timeout=5) as answer:
                    return bool(answer.status == 200)
            self.client().list_buckets()
        except (urllib3.exceptions.HTTPError, OSError):
            return False
        return True

    def client(self) -> Minio:
        """The vendor's own client, with all rights."""
        return Minio(f"127.0.0.1:{self.port}", self.access_key, self.secret_key, secure=False, region=self.region)

    def new_bucket(self) -> str:
        name = f"test-{uuid.uuid4().hex[:20]}"
        self.client().make_bucket(name)
        return name

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(30)

    def pause(self) -> None:
        """It takes connections, and says nothing any more."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
