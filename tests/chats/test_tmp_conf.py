import pytest
from pathlib import Path
from hypersend_server.metadata.sqlite import SqliteMetadata
from hypersend_server.metadata.conformance.chats import ChatsConformance
from hypersend_server.metadata.conformance.chats_reading import ChatsReadingConformance
@pytest.fixture
async def metadata(tmp_path: Path):
    m = SqliteMetadata(tmp_path / "x.sqlite3"); await m.open(); yield m; await m.close()
class TestChats(ChatsConformance): pass
class TestChats2(ChatsReadingConformance): pass
