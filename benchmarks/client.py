"""Upload and download by the SDK and by the command line against `curl`, and the client's peak memory.

    .venv/bin/python -m benchmarks.client [--size-mib 1024] [--rounds 3] [--folder /tmp]
    .venv/bin/python -m benchmarks.client --size-mib 4096 --rounds 1        # memory with a large file
    .venv/bin/python -m benchmarks.client --limit-mib-s 110                 # as on a gigabit network

One real server process on this machine, loopback, the same file for all; the kinds take turns, so that what else
the machine does hits all of them, and the best round of each counts. `curl` sends the chunks as files that were
cut beforehand (not counted), over one connection (`curl`) or four at once (`curl -Z`), and without digests, which
the client makes and checks: `curl + openssl` is the same work. On a machine that server and client share, the
digests' part of the cores shows; on a network (`--limit-mib-s`) it does not. The command line is counted with its
start-up. Memory is the peak resident size of the process that transfers (`ru_maxrss`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypersend_client.sdk import FileTokenStore, HyperSend
from hypersend_client.sdk.transfers import Transfers
from tests.process import REPOSITORY, ServerProcess

MIB = 1024 * 1024
CHUNK = 8 * MIB
PASSWORD = "correct horse battery"


class Bench:
    def __init__(self, folder: Path, url: str, size: int, limit: int) -> None:
        self.folder, self.url, self.size = folder, url, size
        self.source = folder / "source.bin"
        self.env = {
            **os.environ,
            "HYPERSEND_HOME": str(folder / "home"),
            "API_BASE_URL": url,
            "HYPERSEND_PASSWORD": PASSWORD,
        }
        self.best: dict[str, float] = {}
        self.peak: dict[str, int] = {}
        self.file_id = ""
        self.token = ""
        self.limit = limit
        self.curl_limit = ("--limit-rate", f"{limit}M") if limit else ()

    async def prepare(self) -> None:
        block = os.urandom(MIB)
        with self.source.open("wb") as file:
            for number in range(self.size // MIB):
                file.write(block[number % 997 :] + block[: number % 997])
        parts = self.folder / "parts"
        parts.mkdir()
        subprocess.run(["split", "-b", str(CHUNK), "-d", "-a", "5", str(self.source), str(parts / "p")], check=True)
        async with HyperSend(self.url, tokens=FileTokenStore(self.folder / "home" / "accounts.json")) as hs:
            await hs.register("asha@example.org", "asha", PASSWORD)
            assert hs.account is not None
            self.token = hs.account.access_token

    def time(self, kind: str, work: Callable[[], None]) -> None:
        os.sync()
        began = time.perf_counter()
        work()
        rate = self.size / MIB / (time.perf_counter() - began)
        self.best[kind] = max(rate, self.best.get(kind, 0.0))

    def child(self, kind: str, *arguments: str) -> str:
        """Run one, noting its peak memory; what it printed."""
        process = subprocess.Popen(
            arguments, env=self.env, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        assert process.returncode == 0, arguments
        self.peak[kind] = max(usage.ru_maxrss // 1024, self.peak.get(kind, 0))
        return out

    def remove(self, file_id: str) -> None:
        self.curl("-X", "DELETE", f"{self.url}/api/v1/files/{file_id}")

    def curl(self, *arguments: str) -> str:
        return subprocess.run(
            ["curl", "-sf", "-H", f"Authorization: Bearer {self.token}", *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def curl_upload(self, kind: str, *options: str, digests: bool = False) -> None:
        body = json.dumps({"name": "source.bin", "size": self.size})
        began = self.curl("-H", "Content-Type: application/json", "-d", body, f"{self.url}/api/v1/files/init")
        file_id = json.loads(began)["id"]
        lines = []
        for index, part in enumerate(sorted((self.folder / "parts").iterdir())):
            lines.append(
                f'upload-file = "{part}"\nurl = "{self.url}/api/v1/files/{file_id}/chunk?index={index}"\n'
                f'output = /dev/null\nheader = "Authorization: Bearer {self.token}"\nheader = "Expect:"\n'
                + (f'limit-rate = "{self.limit}M"\n' if self.limit else "")
            )
        config = self.folder / "curl.cfg"
        config.write_text("next\n".join(lines))

        def work() -> None:
            if digests:
                subprocess.run(
                    ["openssl", "dgst", "-sha256", *sorted((self.folder / "parts").iterdir())],
                    check=True,
                    capture_output=True,
                )
            subprocess.run(["curl", "-sf", *options, "-K", str(config)], check=True, capture_output=True)
            self.curl("-X", "POST", f"{self.url}/api/v1/files/{file_id}/complete")

        self.time(kind, work)
        if self.file_id:
            self.remove(self.file_id)
        self.file_id = file_id

    def run(self, kind: str) -> None:
        """One turn of one kind."""
        got = self.folder / "got"
        got.mkdir(exist_ok=True)
        sdk = (sys.executable, "-m", "benchmarks.client", "--child", str(self.folder), self.url, str(self.limit))
        cli = (sys.executable, "-m", "hypersend_client.cli", "--json")
        slow = ("--limit-rate", f"{self.limit}M") if self.limit else ()
        out: list[str] = []
        match kind:
            case "upload: curl":
                self.curl_upload(kind)
            case "upload: curl + openssl":
                self.curl_upload(kind, digests=True)
            case "upload: curl -Z":
                self.curl_upload(kind, "-Z", "--parallel-max", "4")
            case "upload: sdk":
                out.append(self.child(kind, *sdk, "upload", str(self.source)))
                seconds = json.loads(out[0])["seconds"]
                self.best[kind] = max(self.size / MIB / seconds, self.best.get(kind, 0.0))
            case "upload: command":
                self.time(kind, lambda: out.append(self.child(kind, *cli, "upload", str(self.source), *slow)))
            case "download: curl" | "download: curl + openssl":
                address = f"{self.url}/api/v1/files/{self.file_id}/download"

                def fetch() -> None:
                    self.curl("-o", str(got / "curl"), *self.curl_limit, address)
                    if "openssl" in kind:
                        subprocess.run(
                            ["openssl", "dgst", "-sha256", str(got / "curl")], check=True, capture_output=True
                        )

                self.time(kind, fetch)
            case "download: sdk":
                out.append(self.child(kind, *sdk, "download", self.file_id))
                seconds = json.loads(out[0])["seconds"]
                self.best[kind] = max(self.size / MIB / seconds, self.best.get(kind, 0.0))
            case "download: command":
                self.time(
                    kind, lambda: out.append(self.child(kind, *cli, "get", self.file_id, "-o", str(got) + "/", *slow))
                )
        if kind in ("upload: sdk", "upload: command"):
            self.remove(json.loads(out[0])["id"])
        for path in got.iterdir():
            subprocess.run(["cmp", str(path), str(self.source)], check=True)
            path.unlink()


async def child(folder: Path, url: str, limit: int, what: str, name: str) -> dict[str, Any]:
    async with HyperSend(url, tokens=FileTokenStore(folder / "home" / "accounts.json")) as hs:
        await hs.connect()
        transfers = Transfers(hs, folder / "home" / "sdk.sqlite", folder=folder / "got")
        transfers.upload_limit.bytes_per_s = transfers.download_limit.bytes_per_s = limit * MIB or None
        try:
            began = time.perf_counter()
            if what == "upload":
                result = (await (await transfers.upload(name)).wait()).id
            else:
                result = str(await (await transfers.download(name)).wait())
            return {"id": result, "seconds": time.perf_counter() - began}
        finally:
            await transfers.close()


KINDS = (
    "upload: curl",
    "upload: curl -Z",
    "upload: curl + openssl",
    "upload: sdk",
    "upload: command",
    "download: curl",
    "download: curl + openssl",
    "download: sdk",
    "download: command",
)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(asyncio.run(child(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), *sys.argv[5:7]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--limit-mib-s", type=int, default=0, help="the rate of a link; 0: none")
    options = parser.parse_args()
    # Up to six copies at once; and what a tmpfs calls free may be memory that others need.
    if 12 * options.size_mib * MIB > shutil.disk_usage(options.folder).free:
        parser.error(f"{options.folder} has too little room: twelve times the size must be free")
    folder = Path(tempfile.mkdtemp(prefix="hypersend-bench-", dir=options.folder))
    try:
        with ServerProcess(folder / "data", RATE_LIMITS="off") as server:
            bench = Bench(folder, server.url, options.size_mib * MIB, options.limit_mib_s)
            asyncio.run(bench.prepare())
            kinds = [kind for kind in KINDS if not options.limit_mib_s or "-Z" not in kind]  # its limit is each one's
            for _ in range(options.rounds):
                for kind in kinds:
                    bench.run(kind)
        for kind in kinds:
            base = bench.best[kind.split(":")[0] + ": curl"]
            memory = f"  peak {bench.peak[kind]} MiB" if kind in bench.peak else ""
            print(f"{kind:<26} {bench.best[kind]:7.0f} MiB/s  {bench.best[kind] / base:5.2f} of curl{memory}")
        print(
            f"{options.size_mib} MiB, best of {options.rounds}; this script's own peak "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB"
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
