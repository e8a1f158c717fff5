"""The HyperSend SDK: an asynchronous client without a screen.

    from hypersend_client.sdk import HyperSend

    async with HyperSend("https://chat.example.org", tokens=FileTokenStore("tokens.json")) as hs:
        await hs.login("ann@example.org", "…")
        for chat in (await hs.chats.page()).items:
            print(chat.title, chat.unread)

What stands in `__all__` is public and keeps its meaning; events are in `hypersend_client.sdk.events`, the
other resources in `hypersend_client.sdk.models`.
"""

from hypersend_client.sdk.client import HyperSend
from hypersend_client.sdk.errors import (
    ApiError,
    ClientTooOld,
    ConnectionFailed,
    HyperSendError,
    InvalidAddress,
    LocalStorageFailed,
    NotHyperSend,
    OtherServer,
    ServerTooOld,
    SignedOut,
    TlsFailed,
)
from hypersend_client.sdk.models import Chat, File, Member, Message, Page, ServerInfo, User
from hypersend_client.sdk.outbox import Entry
from hypersend_client.sdk.store import Changes, Draft
from hypersend_client.sdk.tokens import (
    Account,
    FileTokenStore,
    KeyringTokenStore,
    MemoryTokenStore,
    TokenStore,
)

__all__ = [
    "Account",
    "ApiError",
    "Changes",
    "Chat",
    "ClientTooOld",
    "ConnectionFailed",
    "Draft",
    "Entry",
    "File",
    "FileTokenStore",
    "HyperSend",
    "HyperSendError",
    "InvalidAddress",
    "KeyringTokenStore",
    "LocalStorageFailed",
    "Member",
    "MemoryTokenStore",
    "Message",
    "NotHyperSend",
    "OtherServer",
    "Page",
    "ServerInfo",
    "ServerTooOld",
    "SignedOut",
    "TlsFailed",
    "TokenStore",
    "User",
]
