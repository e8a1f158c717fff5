"""Which metadata backend the settings name. A driver's package is imported only where it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypersend_server.metadata.base import Metadata
from hypersend_server.metadata.errors import MetadataError
from hypersend_server.metadata.sqlite import FILE_NAME, SqliteMetadata


def make_metadata(
    mongodb_uri: str, data_root: Path, *, new_id: Callable[[], str] | None = None, must_exist: bool = False
) -> Metadata:
    """MongoDB where there is a URI, else SQLite in DATA_ROOT; not open yet.

    must_exist: refuse to make a new server, here or in `open`; what was mistyped is not an empty one.
    Raises: MetadataError.
    """
    if mongodb_uri:
        try:
            from hypersend_server.metadata.mongo import MongoMetadata
        except ImportError as error:
            raise MetadataError(
                f"MONGODB_URI needs the extra `mongo`: pip install 'hypersend[mongo]' ({error})") from None
        return MongoMetadata(mongodb_uri, new_id=new_id, must_exist=must_exist)
    path = data_root / FILE_NAME
    if must_exist and not path.exists():
        raise MetadataError(f"there is no HyperSend server in {data_root} (DATA_ROOT)")
    return SqliteMetadata(path, new_id=new_id)
