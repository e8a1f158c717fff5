"""Secrets that are none, and settings that do not go together."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from hypersend_server.doctor.findings import Area
from hypersend_server.keys import UnfitKey, kept_secret_key
from hypersend_server.settings import Settings

NEW_KEY = "SECRET_KEY=$(openssl rand -hex 32)    (everybody signs in again)"
KNOWN = frozenset({"minioadmin", "minio123", "password", "changeme", "secret", "admin", "hypersend"})
FEW_SIGNS = 10


def check(settings: Settings, area: Area) -> None:
    before = len(area.findings)
    key = settings.secret_key
    if key and (len(set(key)) < FEW_SIGNS or any(word in key.lower() for word in ("change", "example", "replace"))):
        area.problem("SECRET_KEY can be guessed", NEW_KEY)
    if not key:
        try:
            kept_secret_key(settings.data_root)
        except UnfitKey as error:
            area.problem(error.what, error.fix)
        except OSError:
            pass  # made at the first start, or of a server that runs as somebody else
    if settings.metrics_token and len(settings.metrics_token) < 16:
        area.warn("METRICS_TOKEN is short", "METRICS_TOKEN=$(openssl rand -hex 16)")
    if settings.s3_secret_key.lower() in KNOWN and settings.s3_secret_key:
        area.problem("S3_SECRET_KEY is one that everybody knows", "Make a user with a key of its own for this bucket.")
    for name, url in (("MONGODB_URI", settings.mongodb_uri), ("REDIS_URL", settings.redis_url)):
        if url and "@" not in url and not _is_private(url):
            area.problem(f"{name} has no password, and its host is not on a private network",
                         f"{name}=…://user:password@host…")
    if not settings.public_url:
        area.warn("PUBLIC_URL is not set: links that people pass on name whatever address they came by",
                  "PUBLIC_URL=https://chat.example.org")
    if settings.registration == "open" and settings.public_url.startswith("https://"):
        area.warn("anybody may register (REGISTRATION=open)", "REGISTRATION=invite")
    if len(area.findings) == before:
        area.ok("no secret is weak, and the settings go together")


def _is_private(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host  # localhost, or a name within compose
