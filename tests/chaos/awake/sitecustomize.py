"""Put before a process's path together with libfaketime, whose 0.9.10 lets `time.sleep` of Python 3.11 fail: EINVAL."""

from __future__ import annotations

import select
import time
from typing import SupportsIndex


def sleep(seconds: float | SupportsIndex, /) -> None:
    select.select((), (), (), float(seconds))


time.sleep = sleep
