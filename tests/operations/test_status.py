from __future__ import annotations

import json
from pathlib import Path

from hypersend_server.commands.status import shown_time
from tests.doctor.front import free_port
from tests.harness import PASSWORD
from tests.process import ServerProcess, command


def test_status_of_a_running_server_and_of_none(tmp_path: Path) -> None:
    root, port = tmp_path / "data", {"PORT": str(free_port())}
    with ServerProcess(root, **port):
        assert command(root, "user", "add", "asha@example.org", HYPERSEND_PASSWORD=PASSWORD, **port).returncode == 0
        assert command(root, "backup", str(tmp_path / "backup"), **port).returncode == 0
        assert command(root, "gc", "--delete", **port).returncode == 0
        done = command(root, "status", "--json", **port)
        assert done.returncode == 0, done.stderr
        status = json.loads(done.stdout)
        assert status["running"]["degraded"] == []
        assert status["running"]["version"] == status["version"]
        assert status["running"]["uptime_s"] < 600
        assert status["running"]["memory_bytes"] > 1_000_000
        assert status["users"] == 1
        assert status["free_bytes"]["local"] > 0
        assert status["last_backup"].endswith("Z")
        assert status["last_gc"].endswith("Z")
        shown = command(root, "status", **port).stdout
        assert "well" in shown
        assert "people    1, 0 messages" in shown
    stopped = command(root, "status", "--json", **port)
    assert stopped.returncode == 1
    assert json.loads(stopped.stdout)["running"] is None
    assert json.loads(stopped.stdout)["users"] == 1
    assert "not running here" in command(root, "status", **port).stdout


def test_status_makes_no_server_where_there_is_none(tmp_path: Path) -> None:
    done = command(tmp_path / "data", "status")
    assert done.returncode == 1
    assert "no HyperSend server" in done.stderr
    assert not (tmp_path / "data").exists()


def test_times_are_shown_by_their_two_largest_units() -> None:
    assert [shown_time(s) for s in (0, 59, 61, 7200, 90061)] == ["0 s", "59 s", "1 min 1 s", "2 h", "1 d 1 h"]
