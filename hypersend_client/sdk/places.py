"""Where things go on this device: folders, and names that any file system takes."""

from __future__ import annotations

import errno
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

MAX_NAME_BYTES = 255
# What stays free of a name for `.<file id>.part.journal` and ` (1234)`.
MAX_STEM_BYTES = 180
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
# Right-to-left overrides let `exe.txt` be shown for `txt.exe`.
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NO_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EINVAL, errno.EXDEV}
)


def state_folder(env: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Sessions, caches and journals: `HYPERSEND_HOME`, else the platform's place for an app's data."""
    home = Path(env.get("HOME") or env.get("USERPROFILE") or Path.home())
    if told := env.get("HYPERSEND_HOME"):
        return Path(told)
    if told := env.get("FLET_APP_STORAGE_DATA"):
        return Path(told) / "hypersend"
    if platform == "win32":
        return Path(env.get("LOCALAPPDATA") or home / "AppData" / "Local") / "HyperSend"
    if platform == "darwin":
        return home / "Library" / "Application Support" / "HyperSend"
    return Path(env.get("XDG_DATA_HOME") or home / ".local" / "share") / "hypersend"


def downloads_folder(env: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The platform's Downloads. Source: xdg-user-dirs(5) on Linux."""
    home = Path(env.get("HOME") or env.get("USERPROFILE") or Path.home())
    if env.get("ANDROID_STORAGE") or "ANDROID_ROOT" in env:
        shared = Path(env.get("EXTERNAL_STORAGE") or "/storage/emulated/0") / "Download"
        if os.access(shared, os.W_OK):
            return shared
        return state_folder(env, platform) / "Downloads"
    if platform not in ("win32", "darwin"):
        config = Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "user-dirs.dirs"
        try:
            text = config.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        if found := re.search(r'^\s*XDG_DOWNLOAD_DIR="((?:[^"\\]|\\.)*)"', text, re.MULTILINE):
            path = re.sub(r"\\(.)", r"\1", found[1]).replace("$HOME", str(home), 1)
            if path.startswith("/") and Path(path) != home:
                return Path(path)
    return home / "Downloads"


def safe_name(name: str) -> str:
    """A name from a person as the name of a file: no path, nothing that Windows refuses, at most 180 bytes.

    The extension survives shortening.
    """
    name = unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode("utf-8"))
    name = _BIDI.sub("", _FORBIDDEN.sub("_", name)).strip()
    # Windows drops dots and blanks at the end; `..` would be a folder; a dot in front hides the file.
    name = name.rstrip(". ").lstrip(". ") or "file"
    if _RESERVED.fullmatch(name):
        name = "_" + name
    if len(name.encode()) <= MAX_STEM_BYTES:
        return name
    stem, extension = split_name(name)
    return cut_bytes(stem, MAX_STEM_BYTES - len(extension.encode())).rstrip(". ") + extension


def split_name(name: str) -> tuple[str, str]:
    """(`report`, `.pdf`); `.tar.gz` stays together, and what is long is no extension."""
    found = re.search(r"(?<=.)(\.tar)?\.[^. ]{1,15}$", name)
    return (name[: found.start()], found[0]) if found else (name, "")


def cut_bytes(text: str, most: int) -> str:
    """The beginning of `text` that takes at most so many bytes of UTF-8."""
    return text.encode()[: max(0, most)].decode("utf-8", "ignore")


def candidates(target: Path) -> Iterator[Path]:
    """`a.txt`, `a (1).txt`, `a (2).txt`, …"""
    yield target
    stem, extension = split_name(target.name)
    for number in range(1, 100_000):
        ending = f" ({number}){extension}"
        yield target.with_name(cut_bytes(stem, MAX_NAME_BYTES - len(ending.encode())) + ending)


def place(part: Path, target: Path, intend: Callable[[Path], None] = lambda path: None) -> Path:
    """Give `part` the name `target`, or the next free one; whatever is there already is left alone.

    intend: called with each name before it is tried. Returns: the name it has now. Raises: OSError.
    """
    for candidate in candidates(target):
        if os.path.lexists(candidate) and not _is_same(part, candidate):
            continue
        intend(candidate)
        if _move(part, candidate):
            return candidate
    raise FileExistsError(errno.EEXIST, "no name is free", str(target))


def _is_same(part: Path, candidate: Path) -> bool:
    try:
        return os.path.samefile(part, candidate)
    except OSError:
        return False


def _move(part: Path, candidate: Path) -> bool:
    """False where the name is taken."""
    try:
        if os.name == "nt":  # pragma: no cover
            os.rename(part, candidate)  # which refuses to overwrite there
        else:
            os.link(part, candidate)
            os.unlink(part)
    except FileExistsError:
        if not _is_same(part, candidate):
            return False
        os.unlink(part)  # we were killed between the two steps
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # No hard links here (FAT, some Android storage): claim the name, then replace our own empty file.
        try:
            os.close(os.open(candidate, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            return False
        os.replace(part, candidate)
    return True
