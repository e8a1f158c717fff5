"""Logging: text for people, JSON for machines. Tokens and query strings never get here."""

from __future__ import annotations

import logging
import sys

import msgspec
from aiohttp.http_exceptions import HttpProcessingError

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{key: value for key, value in record.__dict__.items() if key not in _OWN},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        # A person's text must not start a line of its own in the log.
        first, *rest = text.split("\n")
        if record.exc_info:
            return "\n    ".join([first, *rest])
        return "\\n".join([first, *rest])


class _BadRequests(logging.Filter):
    """A request that is no HTTP is its sender's fault: one line, or anybody could fill the disk with tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.msg, record.args = "a request that is not HTTP was refused: %s", (type(error).__name__,)
            record.exc_info, record.levelno, record.levelname = None, logging.INFO, "INFO"
        return True


def set_up_logging(log_format: str, level: int = logging.INFO) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)-7s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("aiohttp.server").addFilter(_BadRequests())
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # each try; the store itself says what it means
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)  # or anybody could fill it with protocols' names
