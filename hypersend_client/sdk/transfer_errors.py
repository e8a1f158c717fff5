"""What can go wrong with a transfer, besides what any call can meet (`errors`).

HyperSendError
├── LocalStorageFailed
│   ├── FileUnreadable     the file to send is not there, no file, or not allowed
│   └── DiskFull           this device has no room; what has arrived stays, and it goes on later
├── SourceChanged          the file was changed while it was being sent
├── RemoteFileGone         the file was removed on the server, or one may no longer see it
├── RemoteFileChanged      the server has other bytes under this id than when the download began
├── UploadRemoved          the upload was removed on the server
├── CorruptTransfer        bytes kept arriving with a wrong digest, or being lost by the server
├── TransferBusy           another program is at the same transfer
├── TransferStalled        nothing moved for as long as the caller wanted to wait; it goes on later
├── UpdateBroken           a newer build of the app is not what the server said of it
├── Tampered               what came is not what the other device sent: somebody on the way altered it
├── KeyMissing             the server does not tell the key of the other device, or of this one
├── PeerAway               the other device is not there just now
├── PeerFailed             the other device says that it cannot go on
├── PeerEnded              a transfer from person to person is over, and not done
└── TransferCancelled      it was called off
"""

from __future__ import annotations

from hypersend_client.sdk.errors import HyperSendError, LocalStorageFailed


class FileUnreadable(LocalStorageFailed):
    code = "file_unreadable"


class DiskFull(LocalStorageFailed):
    """needed: further bytes, where that is known. free: bytes."""

    code = "disk_full"

    def __init__(self, path: str, *, needed: int | None = None, free: int | None = None) -> None:
        self.needed, self.free = needed, free
        figures = f": {needed} bytes are needed and {free} are free" if needed is not None else ""
        super().__init__(path, f"no space is left{figures}")


class SourceChanged(HyperSendError):
    """path: of the local file."""

    code = "source_changed"

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path} was changed while it was being sent")


class RemoteFileGone(HyperSendError):
    code = "file_gone"

    def __init__(self, file_id: str) -> None:
        self.file_id = file_id
        super().__init__(f"file {file_id} is no longer on the server")


class RemoteFileChanged(HyperSendError):
    code = "remote_file_changed"

    def __init__(self, file_id: str) -> None:
        self.file_id = file_id
        super().__init__(f"file {file_id} is not what it was when its download began")


class UploadRemoved(HyperSendError):
    code = "upload_removed"

    def __init__(self, file_id: str) -> None:
        self.file_id = file_id
        super().__init__(f"upload {file_id} was removed on the server")


class UpdateBroken(HyperSendError):
    """version: of the build."""

    code = "update_broken"

    def __init__(self, version: str) -> None:
        self.version = version
        super().__init__(f"the build of version {version} is not what the server said of it")


class CorruptTransfer(HyperSendError):
    """index: of the chunk."""

    code = "corrupt_transfer"

    def __init__(self, index: int) -> None:
        self.index = index
        super().__init__(f"chunk {index} keeps arriving damaged, or being lost")


class TransferBusy(HyperSendError):
    code = "transfer_busy"
    retryable = True

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"another program is transferring {path}")


class TransferStalled(HyperSendError):
    """reason: what stood in the way last."""

    code = "transfer_stalled"
    retryable = True

    def __init__(self, seconds: float, reason: HyperSendError | None) -> None:
        self.reason = reason
        super().__init__(f"nothing moved for {seconds:.0f} s" + (f": {reason}" if reason else ""))


class TransferCancelled(HyperSendError):
    code = "transfer_cancelled"

    def __init__(self) -> None:
        super().__init__("the transfer was called off")


class Tampered(HyperSendError):
    code = "tampered"

    def __init__(self, detail: str) -> None:
        super().__init__(f"what came is not what the other device sent: {detail}")


class KeyMissing(HyperSendError):
    code = "key_missing"

    def __init__(self) -> None:
        super().__init__("the server does not tell the key of a device, so nothing can be sealed")


class PeerAway(HyperSendError):
    code = "peer_away"
    retryable = True

    def __init__(self, *, accepted: bool = True) -> None:
        self.accepted = accepted
        super().__init__("the other device is not there" if accepted else "nobody has accepted it yet")


class PeerFailed(HyperSendError):
    """reason: a code of the other end's, such as `source_changed`, `corrupt_transfer`, `tampered`, `wrong_size`."""

    code = "peer_failed"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the other device cannot go on: {reason}")


class PeerEnded(HyperSendError):
    """status: declined, cancelled, expired or failed. file_id: of the upload that takes its place, or None."""

    code = "peer_ended"

    def __init__(self, status: str, file_id: str | None = None) -> None:
        self.status, self.file_id = status, file_id
        super().__init__(f"the transfer is {status}")
