"""What `make dist` builds, in an empty environment and in 512 MB."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.anywhere.limits import memory_group
from tests.anywhere.two_people import meet
from tests.process import REPOSITORY, environment

MIB = 2**20
PACKAGES_OF_THE_BASE = {"aiohttp", "msgspec", "PyJWT", "libpass", "bcrypt", "pillow", "prometheus_client", "hypersend"}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    made = subprocess.run(["make", "dist", f"DIST={folder}"], cwd=REPOSITORY, capture_output=True, text=True,
                          timeout=600, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    (wheel,) = folder.glob("hypersend-*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], timeout=300, check=True)
    done = subprocess.run([folder / "venv" / "bin" / "pip", "install", "--quiet", wheel], capture_output=True,
                          text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "venv" / "bin"


@contextmanager
def serving(programs: Path, data_root: Path, *before: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """(the process, its address), started from a folder where no source lies about. before: a program that runs it."""
    data_root.mkdir(parents=True)
    process = subprocess.Popen(
        [*before, str(programs / "hypersend-server"), "serve"], cwd=data_root, text=True, stdout=subprocess.PIPE,
        env=environment(data_root))
    try:
        assert process.stdout is not None
        url = next((match[1] for line in process.stdout if (match := re.search(r"is at (http://\S+)", line))), "")
        assert url, "the server ended instead of serving"
        yield process, url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        if process.stdout is not None:
            process.stdout.close()


async def test_two_people_chat_over_what_was_installed_from_the_wheel(empty: Path, tmp_path: Path) -> None:
    listed = subprocess.run([empty / "pip", "list", "--format", "freeze"], capture_output=True, text=True, timeout=60,
                            check=True).stdout
    names = {line.split("==")[0].replace("-", "_") for line in listed.splitlines()}
    assert {name.replace("-", "_") for name in PACKAGES_OF_THE_BASE} <= names
    assert not {"flet", "motor", "minio", "redis"} & names
    with serving(empty, tmp_path / "data") as (_, url):
        await meet(url, 20 * MIB)
    found = subprocess.run([empty / "python", "-c", "import hypersend_client, pathlib; print(pathlib.Path("
                            "hypersend_client.__file__).with_name('web').joinpath('static/static.json').exists())"],
                           cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "True"


async def test_one_process_in_512_mb_takes_a_file_of_more_than_that_and_a_chat(empty: Path, tmp_path: Path) -> None:
    with memory_group(512 * MIB) as group:
        joins = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        with serving(empty, tmp_path / "data", "sh", "-c", joins, str(group.folder)) as (process, url):
            assert process.pid in group.processes
            await meet(url, 640 * MIB)
            # Its own memory, without the cache of what it wrote.
            status = Path(f"/proc/{process.pid}/status").read_text()
            resident = int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]
            assert resident < 256 * MIB
            assert group.killed == 0
            assert group.highest <= 512 * MIB
            print(f"anonymous {resident // MIB} MiB, with page cache at most {group.highest // MIB} MiB of 512",
                  file=sys.stderr)
