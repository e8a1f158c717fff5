"""Pictures of every screen, and those of README and docs: `python -m tests.gallery FOLDER DOCS`.

FOLDER gets every screen at 400×850 and 1280×800, light and dark, in English and Hindi; DOCS the chosen ones.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from tests import showcase
from tests.app import gallery as screens
from tests.app_chat import gallery as chats
from tests.app_chat import gallery_native as phones


async def main(folder: Path, docs: Path) -> None:
    await showcase.main(docs)
    await screens.main(folder / "screens", set())
    await chats.main(folder / "chats")
    await phones.main(folder / "phones")
    for name in ("offer", "moving"):
        shutil.copy(folder / "phones" / f"{name}-phone-light-en.png", docs / f"p2p-{name}.png")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
