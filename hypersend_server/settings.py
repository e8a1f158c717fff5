"""Settings: environment variables, read once, every problem reported together.

`SETTINGS` is the one table of names, defaults and meanings; `config/example.env` and `docs/settings.md` are held
equal to it by tests.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from hypersend_server.keys import LEAST_KEY_BYTES
from hypersend_storage.base import chunk_size_for

TEMPLATE_SECRET = "replace-this-with-what-openssl-rand-hex-32-prints"  # noqa: S105 - refused
LOGO_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "K": 2**10, "KIB": 2**10, "M": 2**20, "MIB": 2**20, "G": 2**30, "GIB": 2**30, "T": 2**40, "TIB": 2**40}
MOST_BYTES = 2**53 - 1  # as the API counts them: more is no exact number to JavaScript
MOST_S = 36_500 * 86_400
_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SettingsError(Exception):
    """problems: one line for each setting that is wrong; values of secrets are never in it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Setting(NamedTuple):
    """name: of the environment variable. parse: text to value, ValueError with what is wanted.

    default: as text, as an operator would write it; '' is unset. attribute: the field of `Settings`.
    """

    name: str
    default: str
    parse: Callable[[str], Any]
    help: str
    secret: bool = False

    @property
    def attribute(self) -> str:
        return self.name.lower()


def size_bytes(text: str) -> int:
    """'40GiB', '500MB', '1073741824' as bytes."""
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?)\s*([A-Za-z]*)", text.strip())
    if not match or match[2].upper() not in _SIZES:
        raise ValueError("a size such as 40GiB or 500MB")
    size = int(float(match[1]) * _SIZES[match[2].upper()]) if "." in match[1] else (
        int(match[1]) * _SIZES[match[2].upper()])
    if size > MOST_BYTES:
        raise ValueError("a size below 8 PiB")
    return size


def optional_size(text: str) -> int | None:
    return size_bytes(text) if text else None


def duration_s(text: str) -> int:
    """'7d', '12h', '90s' as seconds."""
    match = re.fullmatch(r"(\d{1,18})([smhd])", text.strip())
    if not match:
        raise ValueError("a time such as 7d, 12h, 30m or 90s")
    seconds = int(match[1]) * _TIMES[match[2]]
    if seconds > MOST_S:
        raise ValueError("a time of at most 36500d")
    return seconds


def port_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise ValueError("a port from 0 to 65535")
    return int(text)


def flag(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("on or off")
    return text == "on"


def one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return text

    return parse


def mongodb_uri(text: str) -> str:
    if text and not text.startswith(("mongodb://", "mongodb+srv://")):
        raise ValueError("an address such as mongodb://user:password@host/hypersend?replicaSet=rs0")
    return text


def redis_url(text: str) -> str:
    if text:
        parts = urlsplit(text)
        if (parts.scheme not in ("redis", "rediss", "unix") or not (parts.hostname or parts.scheme == "unix")
                or not re.fullmatch(r"|/|/\d+", "" if parts.scheme == "unix" else parts.path)):
            raise ValueError("an address such as redis://:password@host:6379/0")
        _ = parts.port  # ValueError where it is no port
    return text


def networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("addresses or networks, separated by commas") from None


def http_url(text: str) -> str:
    """An http(s) URL without a slash at its end, or ''."""
    if text:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("an address such as https://chat.example.org")
    return text.rstrip("/")


def origins(text: str) -> tuple[str, ...]:
    return tuple(http_url(part.strip()) for part in text.split(",") if part.strip())


def web_client(text: str) -> str:
    if text in ("on", "off"):
        return text
    try:
        if text:
            return http_url(text)
    except ValueError:
        pass
    raise ValueError("on, off, or the address of the screens' own process, such as http://screens:8001")


def colour(text: str) -> str:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError("a colour such as #2F6BED")
    return text.upper()


def secret_key(text: str) -> str:
    if text == TEMPLATE_SECRET:
        raise ValueError("your own, not the template's; `openssl rand -hex 32` makes one")
    if text and len(text.encode()) < LEAST_KEY_BYTES:
        raise ValueError(f"at least {LEAST_KEY_BYTES} bytes; `openssl rand -hex 32` makes one")
    return text


def folder(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("a folder")
    return Path(text).absolute()


def app_name(text: str) -> str:
    if not 1 <= len(text) <= 60 or not text.isprintable():
        raise ValueError("1 to 60 printable characters")
    return text


def logo_file(text: str) -> str:
    if text:
        path = Path(text).absolute()
        if path.suffix.lower() not in LOGO_TYPES or not path.is_file() or path.stat().st_size > 512 * 1024:
            raise ValueError("a PNG, JPEG or WebP file of at most 512 KiB")
        return str(path)
    return text


def bucket_name(text: str) -> str:
    if text and not re.fullmatch(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]", text):
        raise ValueError("3 to 63 small letters, digits, dots and hyphens")
    return text


def url_prefix(text: str) -> str:
    if text and not re.fullmatch(r"/[A-Za-z0-9_\-/]*", text):
        raise ValueError("a path such as /_files/, or empty")
    return text.rstrip("/")


SETTINGS: tuple[Setting, ...] = (
    Setting("DATA_ROOT", "./data", folder, "Folder of the database, the files and the keys."),
    Setting("MONGODB_URI", "", mongodb_uri,
            "Users, chats and files' records in MongoDB, a replica set, such as"
            " mongodb://user:password@host/hypersend?replicaSet=rs0; empty: SQLite in DATA_ROOT.", secret=True),
    Setting("REDIS_URL", "", redis_url,
            "Carries events between several server processes, such as redis://:password@host:6379/0; empty: one"
            " process.", secret=True),
    Setting("INSTANCE_URL", "", http_url,
            "How other server processes reach this one, such as http://10.0.0.2:8000; empty: they cannot."),
    Setting("HOST", "127.0.0.1", str, "Address to listen on; 0.0.0.0 for all."),
    Setting("PORT", "8000", port_number, "Port to listen on; 0 takes a free one."),
    Setting("PUBLIC_URL", "", http_url, "Address at which people reach the server, such as https://chat.example.org."),
    Setting("SECRET_KEY", "", secret_key,
            "Signs tokens and links; at least 32 bytes. Empty: made once and kept in DATA_ROOT.", secret=True),
    Setting("APP_NAME", "HyperSend", app_name, "The name that people see."),
    Setting("ACCENT_COLOR", "#2F6BED", colour, "The app's accent colour."),
    Setting("LOGO", "", logo_file, "Path of a PNG, JPEG or WebP file shown as the logo; empty: none."),
    Setting("REGISTRATION", "invite", one_of("open", "invite", "closed"), "Who may register."),
    Setting("MAX_FILE_SIZE", "40GiB", size_bytes, "The largest file that is taken."),
    Setting("USER_QUOTA", "", optional_size, "Bytes a person may store; empty: no limit."),
    Setting("UPLOAD_TTL", "7d", duration_s, "An unfinished upload is removed after this long without a chunk."),
    Setting("STORAGE_BACKEND", "local", one_of("local", "s3"),
            "Where new files go. Files on the other store stay readable while it is configured."),
    Setting("S3_ENDPOINT", "", http_url, "Object storage, such as https://s3.eu-central-1.amazonaws.com."),
    Setting("S3_PUBLIC_ENDPOINT", "", http_url,
            "The same store as people's devices reach it, for direct transfer; empty: S3_ENDPOINT."),
    Setting("S3_BUCKET", "", bucket_name, "The bucket; it must exist and be used for nothing else."),
    Setting("S3_ACCESS_KEY", "", str, "The key of a user who may use this bucket alone.", secret=True),
    Setting("S3_SECRET_KEY", "", str, "The secret of that key.", secret=True),
    Setting("S3_REGION", "us-east-1", str, "The region's name; MinIO takes us-east-1, R2 auto."),
    Setting("S3_DIRECT", "on", flag,
            "Devices send to and fetch from the store themselves; off: all bytes pass through the server."),
    Setting("S3_BUFFER_BYTES", "64MiB", size_bytes,
            "Memory for what passes through the server to the store, 16MiB at least; one person's uploads take half."),
    Setting("X_ACCEL_PREFIX", "", url_prefix,
            "Internal location at which nginx serves DATA_ROOT/files; empty: the server sends the bytes itself."),
    Setting("TRUSTED_PROXIES", "127.0.0.0/8,::1", networks,
            "Proxies whose X-Forwarded-For is believed: addresses or networks."),
    Setting("ALLOWED_ORIGINS", "", origins,
            "Web origins other than PUBLIC_URL that may call the API and open sockets, separated by commas."),
    Setting("WEB_CLIENT", "off", web_client,
            "The web app at the server's own address: on, off, or the address of its own container."),
    Setting("RATE_LIMITS", "on", flag, "Limits per person on messages, uploads and sign-ins; off for benchmarks."),
    Setting("BACKGROUND_JOBS", "on", flag, "Expiry, housekeeping and checks inside the server."),
    Setting("METRICS_TOKEN", "", str, "Lets a remote Prometheus read /metrics as a Bearer token.", secret=True),
    Setting("LOG_FORMAT", "text", one_of("text", "json"), "How the log is written."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One field for each row of SETTINGS, parsed; see there for meanings. Sizes in bytes, times in seconds."""

    data_root: Path
    mongodb_uri: str
    redis_url: str
    instance_url: str
    host: str
    port: int
    public_url: str
    secret_key: str
    app_name: str
    accent_color: str
    logo: str
    registration: str
    max_file_size: int
    user_quota: int | None
    upload_ttl: int
    storage_backend: str
    s3_endpoint: str
    s3_public_endpoint: str
    s3_bucket: str
    s3_access_key: str
    s3_secret_key: str
    s3_region: str
    s3_direct: bool
    s3_buffer_bytes: int
    x_accel_prefix: str
    trusted_proxies: tuple[Network, ...]
    allowed_origins: tuple[str, ...]
    web_client: str
    rate_limits: bool
    background_jobs: bool
    metrics_token: str
    log_format: str

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Raises: SettingsError naming every setting that is wrong."""
        values: dict[str, Any] = {}
        problems: list[str] = []
        for setting in SETTINGS:
            # An empty variable is an unset one: compose files pass `NAME=` for what nobody filled in.
            try:
                text = env.get(setting.name, "") or (_from_file(setting, env) if setting.secret else "")
                text = text or setting.default
                values[setting.attribute] = setting.parse(text)
            except ValueError as error:
                shown = "" if setting.secret else f", not {text!r}"
                problems.append(f"{setting.name} must be {error}{shown}")
        if "max_file_size" in values and values["max_file_size"] < 1:
            problems.append("MAX_FILE_SIZE must be at least 1 byte")
        if values.get("mongodb_uri") and not values.get("secret_key", "?"):
            problems.append("SECRET_KEY must be set where MONGODB_URI is, the same for every server process;"
                            " `openssl rand -hex 32` makes one")
        problems += _s3_problems(values)
        if problems:
            raise SettingsError(problems)
        return cls(**values)


def _from_file(setting: Setting, env: Mapping[str, str]) -> str:
    """A secret whose file NAME_FILE names, as container platforms hand them out; '' where none is named.

    Raises: ValueError.
    """
    path = env.get(f"{setting.name}_FILE", "")
    if not path:
        return ""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise ValueError(f"readable in the file that {setting.name}_FILE names, {path}: {reason}") from None
    if not text:
        raise ValueError(f"in the file that {setting.name}_FILE names, {path}: it is empty")
    return text


def _s3_problems(values: Mapping[str, Any]) -> list[str]:
    """values: those that could be parsed."""
    if not values.get("s3_endpoint") and values.get("storage_backend") != "s3":
        return []
    why = "for STORAGE_BACKEND=s3" if values.get("storage_backend") == "s3" else "where S3_ENDPOINT is"
    needed = ("s3_endpoint", "s3_bucket", "s3_access_key", "s3_secret_key")
    problems = [f"{name.upper()} must be set {why}" for name in needed if values.get(name) == ""]
    if "s3_buffer_bytes" in values and "max_file_size" in values:
        largest = chunk_size_for(values["max_file_size"])
        if values["s3_buffer_bytes"] < 2 * largest:
            problems.append(f"S3_BUFFER_BYTES must be at least {2 * largest}, twice the largest chunk"
                            " that MAX_FILE_SIZE allows")
    return problems


CONTAINERS = """
# --- For `docker compose` alone (docs/compose.md); HOST, PORT and DATA_ROOT are then set by it. ---

# standard: server, MongoDB, web client, nginx. lite: one server on SQLite, nginx. Beside them, separated by commas:
# s3 (MinIO), scale (a second server and Redis, with standard), letsencrypt (certificates).
COMPOSE_PROFILES=standard

# off: plain HTTP. letsencrypt: certificates by themselves. own: fullchain.pem and privkey.pem in CERTIFICATES.
#TLS=off

# Name of the site, such as chat.example.org; and where Let's Encrypt writes before a certificate ends.
#DOMAIN=
#LETSENCRYPT_EMAIL=

# Folder of your own certificate.
#CERTIFICATES=./certificates

# Ports of this machine. OBJECTS_PORT is the object store's, with the profile s3.
#HTTP_PORT=80
#HTTPS_PORT=443
#OBJECTS_PORT=9000

# Addresses of a proxy in front of nginx, whose X-Forwarded-For is believed; empty: there is none.
#FRONT_PROXIES=

# Names of the images, where they come from a registry.
#SERVER_IMAGE=hypersend-server:latest
#WEB_IMAGE=hypersend-web:latest
"""


def example_env() -> str:
    """The text of config/example.env: every setting with its meaning and default."""
    lines = [
        "# Settings of the server; what is commented out stands at its default.",
        "# Sizes: 500MB, 40GiB. Times: 90s, 30m, 12h, 7d.",
        "# A secret may stand in a file instead: SECRET_KEY_FILE=/run/secrets/secret_key, and so on.",
    ]
    for setting in SETTINGS:
        is_key = setting.name == "SECRET_KEY"
        shown = f"SECRET_KEY={TEMPLATE_SECRET}" if is_key else f"#{setting.name}={setting.default}"
        lines += ["", f"# {setting.help}", shown]
    return "\n".join(lines) + "\n" + CONTAINERS


def settings_page() -> str:
    """The text of docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Environment variables, read once at the start. An empty one counts as not set. What is wrong is reported all",
        "together, and nothing starts; `hypersend-server config` prints what is in force, secrets hidden.",
        "",
        "Sizes: `500MB` (1,000,000 bytes a MB), `40GiB` (1,073,741,824 a GiB). Times: `90s`, `30m`, `12h`, `7d`.",
        "This page is made from the table in `hypersend_server/settings.py`, as is `config/example.env`.",
        "",
        "| name | default | meaning |",
        "|---|---|---|",
    ]
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default else ""
        mark = " A secret." if setting.secret else ""
        meaning = setting.help.replace("|", "\\|")
        lines.append(f"| `{setting.name}` | {default} | {meaning}{mark} |")
    return "\n".join(lines) + "\n"
