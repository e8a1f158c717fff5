"""A client process to be killed: uploads or downloads all of a list, and ends with 0 when that is done.

python -m tests.sdk_transfers.worker HOME URL BYTES_PER_S upload PATH…
python -m tests.sdk_transfers.worker HOME URL BYTES_PER_S download FILE_ID…
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tests.sdk_transfers.device import device


async def main(home: Path, url: str, bytes_per_s: float, what: str, names: list[str]) -> None:
    async with device(home, url) as own:
        transfers = own.transfers
        transfers.upload_limit.bytes_per_s = transfers.download_limit.bytes_per_s = bytes_per_s
        done_path = home / f"{what}ed.json"
        done: dict[str, str] = json.loads(done_path.read_text()) if done_path.exists() else {}

        async def one(name: str) -> None:
            if what == "upload":
                # As a message's: the journal remembers it until whoever asked has written it down.
                upload = await transfers.upload(name, job="test", keep=True)
                found = (await upload.wait()).id
            else:
                found = str(await (await transfers.download(name)).wait())
            done[name] = found
            other = done_path.with_suffix(".new")
            other.write_text(json.dumps(done))
            other.replace(done_path)

        await asyncio.gather(*(one(name) for name in names if name not in done))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4], sys.argv[5:]))
