"""Tasks that run in the background."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger(__name__)


def report(task: asyncio.Task[Any]) -> None:
    """A done callback: nobody awaits a background task, so what ended it must be written down."""
    if not task.cancelled() and task.exception() is not None:
        log.error("%s ended", task.get_name(), exc_info=task.exception())
