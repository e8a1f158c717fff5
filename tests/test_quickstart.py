"""docs/quickstart.md does what it says: its commands are run as they stand, against a real server process."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.parts import program
from tests.process import REPOSITORY, ServerProcess


def test_the_commands_of_the_quick_start_work_as_they_stand(tmp_path: Path) -> None:
    program("curl")
    page = (REPOSITORY / "docs" / "quickstart.md").read_text()
    script = "set -e\n" + "\n".join(re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    with ServerProcess(tmp_path / "data") as server:
        done = subprocess.run(
            ["bash"], input=script, text=True, capture_output=True, timeout=120, check=False, cwd=tmp_path,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HS": server.url + "/api/v1", "TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr + done.stdout
    assert "the same bytes" in done.stdout
    assert done.stdout.count('"text":"Namaste, Ben"') >= 3  # sent, repeated, and read by Ben
