"""What can be wrong with the metadata store at start; while running, rooms raise `HyperSendError`."""

from __future__ import annotations


class MetadataError(Exception):
    """Base: the store cannot be used; the text tells the operator why."""


class MetadataTooNew(MetadataError):
    """found, known: schema versions."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"the database has schema version {found}, this program knows versions up to {known}: "
            "start the newer program that wrote it, or restore a backup made before the upgrade"
        )
        self.found = found
        self.known = known
