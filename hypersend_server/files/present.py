"""Records of files as the resource File."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypersend_server.clock import rfc3339, rfc3339_or_none
from hypersend_server.metadata.files import ChunkRecord, FileRecord, Progress
from hypersend_server.resources import Direct, File, Upload


def etag_of(file: FileRecord) -> str | None:
    """The strong entity tag, with its quotes: the same for the same bytes, wherever they are kept."""
    return None if file.checksum is None else f'"{file.checksum.hex()}"'


class FilePresenter:
    """picture_url: the signed path of a preview, by its id."""

    def __init__(self, picture_url: Callable[[str], str]) -> None:
        self._picture_url = picture_url

    def __call__(self, file: FileRecord) -> File:
        return File(
            id=file.id, name=file.name, size=file.size, mime=file.mime, state=file.state,
            checksum=_hex(file.checksum), sha256=_hex(file.sha256), sha256_state=file.sha256_state,
            etag=etag_of(file), chunk_size=file.chunk_size, width=file.width, height=file.height,
            duration_s=file.duration_s,
            preview_url=None if file.preview_id is None else self._picture_url(file.preview_id),
            owner_id=file.owner_id, backend=file.backend, created_at=rfc3339(file.created_at),
            completed_at=rfc3339_or_none(file.completed_at))

    def upload(self, file: FileRecord, progress: Progress, direct: Direct | None) -> File:
        """A file whose bytes are arriving. direct: where they may go to the store itself."""
        shown = self(file)
        shown.upload = Upload(
            chunk_size=file.chunk_size, chunk_count=file.chunk_count, received=progress.received,
            received_bytes=progress.received_bytes, partial=progress.partial, verifying=progress.verifying,
            expires_at=rfc3339(file.expires_at or file.created_at), direct=direct)
        return shown

    def with_digests(self, shown: File, chunks: Sequence[ChunkRecord]) -> File:
        """`shown` with the digest of every chunk that has one, by index."""
        shown.chunk_sha256 = [chunk.sha256.hex() for chunk in chunks]
        return shown


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()
