"""What a file is: the type its sender names, and the type its first bytes show."""

from __future__ import annotations

import mimetypes

SNIFF_BYTES = 4096
UNKNOWN = "application/octet-stream"
INLINE = frozenset((
    "image/png", "image/jpeg", "image/gif", "image/webp", "image/avif",
    "video/mp4", "video/webm", "audio/mpeg", "audio/ogg", "application/pdf",
))
"""What a browser may show by itself, in a sandbox; everything else is saved."""

_AVIF_BRANDS = (b"avif", b"avis")
_MP4_BRANDS = (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"M4VP", b"dash",
               b"MSNV", b"f4v ")


def media_type(claimed: str | None, name: str) -> str:
    """`type/subtype` in lower case: as claimed (of the shape MEDIA_TYPE), without parameters, else by the name."""
    if claimed is None:
        return mimetypes.guess_type(name, strict=False)[0] or UNKNOWN
    return claimed.partition(";")[0].lower()


def sniff(head: bytes) -> str | None:
    """The type of INLINE that these first bytes are of, or None."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head.startswith(b"\x1a\x45\xdf\xa3"):  # EBML: WebM names its document type in the header
        return "video/webm" if b"webm" in head[:64] else None
    if head.startswith(b"ID3") or _is_mpeg_audio(head):
        return "audio/mpeg"
    if head.startswith(b"OggS"):
        return "audio/ogg"
    if head.startswith(b"%PDF-"):
        return "application/pdf"
    return None


def _iso_media(head: bytes) -> str | None:
    """ISO base media (ISO/IEC 14496-12): the brands of the first box tell AVIF from MP4."""
    length = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(length, len(head)), 4))]
    if any(brand in _AVIF_BRANDS for brand in brands):
        return "image/avif"
    return "video/mp4" if any(brand in _MP4_BRANDS for brand in brands) else None


def _is_mpeg_audio(head: bytes) -> bool:
    """The header of a frame of MPEG-1 or 2, layer III (ISO/IEC 11172-3)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer == 1 and bitrate not in (0, 15) and rate != 3
