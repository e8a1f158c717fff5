"""Small things that an operator or a client meets at the edges."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import running
from tests.process import ServerProcess, command


async def test_control_characters_in_a_message_are_refused_by_field(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        asha = await server.person("asha")
        chat = (await asha.post("/chats", {"kind": "group", "title": "Tea", "member_ids": []})).json
        path = f"/chats/{chat['id']}/messages"
        for field in ("text", "client_id"):
            refused = await asha.post(path, {"client_id": "1", "text": "hello", field: "bell\x07"})
            assert (refused.status, refused.json["errors"][0]["field"]) == (422, field)
        sent = await asha.post(path, {"client_id": "1", "text": "a\tb\r\nc"})
        assert (sent.status, sent.json["text"]) == (201, "a\tb\r\nc")
        edited = await asha.patch(f"{path}/{sent.json['id']}", {"text": "\x1b[2J"})
        assert edited.status == 422


@pytest.mark.parametrize("inside", ["backup", "files/backup", "."])
def test_a_backup_inside_the_data_is_refused(tmp_path: Path, inside: str) -> None:
    root = tmp_path / "data"
    with ServerProcess(root):
        done = command(root, "backup", str(root / inside))
    assert done.returncode == 1
    assert "is inside DATA_ROOT" in done.stderr
    assert inside == "." or not (root / inside).exists()


def test_user_add_without_a_terminal_says_how_to_give_the_password(tmp_path: Path) -> None:
    done = command(tmp_path / "data", "user", "add", "asha@example.org", stdin="")
    assert done.returncode == 1
    assert "HYPERSEND_PASSWORD" in done.stderr
