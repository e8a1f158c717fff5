"""docs/backup.md's drill, by its own lines: a backup of a server with a chat and a file is restored and served."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from tests.commands.test_operator import sign_in, upload
from tests.doctor.front import free_port
from tests.faults.test_kill import Phone
from tests.http_session import http_session
from tests.process import REPOSITORY, ServerProcess, command

PAGE = (REPOSITORY / "docs" / "backup.md").read_text()


def lines_of(heading: str) -> list[str]:
    """The commands under a heading."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.S)
    return [line for line in block.splitlines() if line]


async def test_the_drill_brings_back_messages_and_files(tmp_path: Path) -> None:
    places = {"/mnt/backup/2026-01-31": str(tmp_path / "backup"), "/tmp/drill": str(tmp_path / "drill")}

    def parsed(line: str) -> tuple[dict[str, str], list[str]]:
        """(settings before the command, its arguments) with this test's own folders."""
        for shown, mine in places.items():
            line = line.replace(shown, mine)
        words = shlex.split(line)
        at = words.index("hypersend-server")
        return dict(word.split("=", 1) for word in words[:at]), words[at + 1:]

    content = os.urandom(9 * 1024 * 1024)
    with ServerProcess(tmp_path / "data") as server:
        async with http_session() as http:
            phone = Phone(server, http)
            await phone.register("asha")
            chat = await phone.call("POST", "/chats", {"kind": "group", "title": "Tea", "member_ids": []})
            file_id = await upload(phone, content)
            await phone.call("POST", f"/chats/{chat['id']}/messages", {"client_id": "1", "file_ids": [file_id]})
            _, arguments = parsed(re.findall(r"^hypersend-server backup .*$", PAGE, re.M)[0])
            done = command(tmp_path / "data", *arguments)
            assert done.returncode == 0, done.stderr

    restore, verify, serve = map(parsed, lines_of("A drill"))
    for settings, arguments in (restore, verify):
        done = command(tmp_path / "unused", *arguments, **settings)
        assert done.returncode == 0, done.stderr
    settings, arguments = serve
    assert arguments == ["serve"]
    root = Path(settings.pop("DATA_ROOT"))
    with ServerProcess(root, **{**settings, "PORT": str(free_port())}) as server:
        async with http_session() as http:
            phone = Phone(server, http)
            await sign_in(phone, "asha@example.org")
            messages = (await phone.client.get(f"/chats/{chat['id']}/messages")).json["items"]
            assert [file["id"] for message in messages for file in message["files"]] == [file_id]
            download = await phone.client.get(f"/files/{file_id}/download")
            assert download.body == content
