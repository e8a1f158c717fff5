"""One end of a transfer as a process of its own: it says `verified N` or `sent N` now and then, and ends with 0.

python -m tests.p2p_sdk.worker HOME URL send CHAT PATH DIRECT [BYTES_PER_S]
python -m tests.p2p_sdk.worker HOME URL receive TRANSFER FOLDER DIRECT
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.sdk_transfers.device import device


async def main(home: Path, url: str, what: str, name: str, place: str, direct: str, bytes_per_s: str = "") -> None:
    async with device(home, url, patient=True) as own:  # as the product: its figures are measured by this
        own.hs.p2p.direct = direct == "direct"
        own.hs.p2p.send_limit.bytes_per_s = int(bytes_per_s) if bytes_per_s else None
        own.hs.connection.start()
        end = await (own.hs.p2p.send(name, place) if what == "send" else own.hs.p2p.receive(name, place))
        async for progress in end.updates(0.05):
            way = "direct" if end.is_direct else "relay"
            print(f"{progress.state} {way} {end.rounds} {progress.done_bytes} {progress.error or ''}", flush=True)
        await end.wait()
        await own.hs.connection.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:8]))
