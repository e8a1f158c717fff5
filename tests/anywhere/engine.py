"""A Docker Engine of the tests' own: real dockerd, real Compose, images built from the project's own Dockerfile.

No image registry is reached. `python:…-slim` and `nginx:…` are stand-ins made of Debian packages by mmdebstrap, once,
under the tags that the project's files name; and since the engine has no bridge here, all services share the loopback
of one more container, so their names all mean 127.0.0.1.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.parts import program, require
from tests.process import REPOSITORY

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hypersend-tests" / "docker"
PACKAGES = ("python3", "python3-venv", "python3-pip", "python-is-python3", "nginx-light", "curl", "ca-certificates")
START_S, BUILD_S, UP_S = 60.0, 900.0, 300.0
STAND_IN = "stand-in:latest"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PASSED_ON = re.compile(r"(PIP_(?!FIND_LINKS).*|https?_proxy|no_proxy)", re.IGNORECASE)


def compose_program() -> Path:
    path = Path(sys.executable).with_name("docker-compose")
    require("docker-compose", path.exists())
    return path


class Engine:
    """folder: for its state; short, since a socket's path is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        # Debian's own client: another one on the path may lack a builder.
        self._docker = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else program("docker")

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**inherited, "HOME": str(self.folder), "DOCKER_HOST": f"unix://{self.folder}/docker.sock",
                "DOCKER_BUILDKIT": "1"}

    def start(self) -> Engine:
        """Skips the test, whatever is required elsewhere, where this kernel or container does not let an engine run."""
        if os.geteuid() != 0:
            pytest.skip("Docker Engine is started by root alone")
        dockerd = program("dockerd")
        self.folder.mkdir(parents=True)
        (self.folder / "daemon.json").write_text(json.dumps({
            "hosts": [f"unix://{self.folder}/docker.sock"], "data-root": str(self.folder / "data"),
            "exec-root": str(self.folder / "exec"), "pidfile": str(self.folder / "docker.pid"), "bridge": "none",
            "iptables": False, "ip6tables": False, "ip-forward": False, "ip-masq": False, "oom-score-adjust": 0,
            "exec-opts": ["native.cgroupdriver=cgroupfs"]}))
        with (self.folder / "dockerd.log").open("wb") as log:
            self._process = subprocess.Popen(
                [dockerd, "--config-file", str(self.folder / "daemon.json")], stdout=log, stderr=log)
        until = time.monotonic() + START_S
        while self.docker("version", check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                last = (self.folder / "dockerd.log").read_text(errors="replace").strip().splitlines()[-1:]
                pytest.skip(f"dockerd cannot run here: {last}")
            time.sleep(0.2)
        return self

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def docker(self, *arguments: str, check: bool = True, stdin: str | None = None, timeout_s: float = BUILD_S
               ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([self._docker, *arguments], env=self.environment, cwd=REPOSITORY, input=stdin, text=True,
                              capture_output=True, timeout=timeout_s, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"docker {arguments[0]}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def stand_in(self, *tags: str) -> None:
        """One image of Debian packages under these tags."""
        archive = CACHE / f"{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:12]}.tar"
        if not archive.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            fresh = archive.with_name(f"{archive.stem}.new.tar")
            made = subprocess.run(
                [program("mmdebstrap"), "--variant=minbase", f"--include={','.join(PACKAGES)}", "--quiet",
                 _debian_release(), str(fresh)], capture_output=True, text=True, timeout=BUILD_S, check=False)
            assert made.returncode == 0, made.stderr[-3000:]
            fresh.rename(archive)
        passed_on = [f"ENV {name}={value}" for name, value in os.environ.items() if PASSED_ON.fullmatch(name)]
        self.docker("import", *(part for line in passed_on for part in ("-c", line)), str(archive), "stand-in:debian")
        context = self.folder / "context"
        context.mkdir()
        (context / "certificates.crt").write_bytes(CERTIFICATES.read_bytes())
        (context / "Dockerfile").write_text(f"FROM stand-in:debian\nCOPY certificates.crt {CERTIFICATES}\n")
        self.docker("build", "--quiet", "--tag", STAND_IN, str(context))
        for tag in tags:
            self.docker("tag", STAND_IN, tag)

    def mongo_stand_in(self, tag: str) -> None:
        """The stand-in for MongoDB of tests/mongo_server.py, under the tag of MongoDB's image."""
        context = self.folder / "mongo"
        context.mkdir()
        (context / "Dockerfile").write_text(
            f"FROM {STAND_IN}\n"
            f"RUN pip install --quiet --break-system-packages --no-cache-dir --pre {_pinned_secantusdb()}"
            " && install -d -o 999 -g 999 /data/db /data/configdb\n")
        self.docker("build", "--quiet", "--network", "host", "--tag", tag, str(context))

    def build(self, target: str) -> None:
        """An image from the project's Dockerfile, as it stands but for the frontend, which would be downloaded."""
        text = re.sub(r"\A# syntax=.*\n", "", (REPOSITORY / "docker" / "Dockerfile").read_text())
        self.docker("build", "--network", "host", "--target", target, "--tag", f"hypersend-{target}:latest",
                    "--file", "-", ".", stdin=text)


def _pinned_secantusdb() -> str:
    script = (REPOSITORY / "tests" / "install-parts.sh").read_text()
    version = re.search(r"^secantusdb=(\S+)$", script, re.MULTILINE)
    assert version
    return f"secantusdb=={version[1]}"


def _debian_release() -> str:
    release = Path("/etc/os-release").read_text()
    found = re.search(r"^VERSION_CODENAME=(\w+)$", release, re.MULTILINE)
    if "ID=debian" not in release or not found:
        pytest.skip("the stand-ins are made of Debian packages, on Debian")
    return found[1]


class Stack:
    """The project's docker-compose.yml, up with settings of a test. env: lines of its `.env`."""

    def __init__(self, engine: Engine, folder: Path, env: dict[str, str], override: dict[str, Any]) -> None:
        self._engine = engine
        self._env_file = folder / ".env"
        self._override = folder / "override.yml"
        folder.mkdir(parents=True, exist_ok=True)
        example = (REPOSITORY / "config" / "example.env").read_text()
        for name, value in env.items():
            example, changed = re.subn(rf"^#?{name}=.*$", lambda _: f"{name}={value}", example, flags=re.MULTILINE)  # noqa: B023
            assert changed == 1, name
        self._env_file.write_text(example)
        self._override.write_text(self._rewritten(override))
        self.netns_pid = 0

    def _rewritten(self, override: dict[str, Any]) -> str:
        """What is different here, in Compose's own words: names, networks, the volume's folder, stand-ins."""
        services = json.loads(self.compose("config", "--format", "json", with_override=False).stdout)["services"]
        lines = ["services:", "  netns:", "    image: nginx:1.28.0-alpine", "    network_mode: none",
                 '    entrypoint: ["sleep", "infinity"]', "    init: true", "    stop_grace_period: 1s",
                 "    extra_hosts:", *(f'      {name}: "127.0.0.1"' for name in services)]
        for name in services:
            lines += [f"  {name}:", '    network_mode: "service:netns"', "    networks: !reset null",
                      "    ports: !reset []", f"    env_file: !override [{json.dumps(str(self._env_file))}]"]
            if name == "nginx":
                # Docker before 26 cannot mount a folder of a volume; here nginx sees the whole of it.
                lines += ["    environment: {FILES: /srv/volume/files}", "    volumes: !override",
                          f"      - {json.dumps(f'{REPOSITORY}/nginx:/etc/hypersend/nginx:ro')}",
                          "      - data:/srv/volume:ro"]
            for key, value in override.get(name, {}).items():
                lines.append(f"    {key}: {value}")
        return "\n".join(lines) + "\n"

    def compose(self, *arguments: str, check: bool = True, with_override: bool = True
                ) -> subprocess.CompletedProcess[str]:
        files = ["-f", str(REPOSITORY / "docker-compose.yml")]
        if with_override:
            files += ["-f", str(self._override)]
        # The project's own `env_file` need not exist in the checkout.
        directory = str(self._env_file.parent)
        done = subprocess.run(
            [str(compose_program()), "--project-name", "hypersendtest", "--project-directory", directory, *files,
             "--env-file", str(self._env_file), *arguments],
            env=self._engine.environment, capture_output=True, text=True, timeout=UP_S + 120, check=False)
        if check and done.returncode != 0:
            logs = "" if arguments[0] in ("config", "logs") else self.logs()
            raise AssertionError(f"compose {arguments}: {done.stdout[-2000:]}\n{done.stderr[-3000:]}\n{logs[-6000:]}")
        return done

    def up(self) -> None:
        self.compose("up", "--detach", "--no-build", "--pull", "never", "--wait", "--wait-timeout", str(int(UP_S)))
        self.netns_pid = int(self._engine.docker(
            "inspect", "--format", "{{.State.Pid}}", self.container("netns")).stdout.strip())

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service).stdout.strip()

    def inside(self, *command: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine on the stack's loopback."""
        return subprocess.run(["nsenter", "--net", "--target", str(self.netns_pid), *command], cwd=REPOSITORY,
                              capture_output=True, text=True, timeout=timeout_s, check=False)

    def logs(self) -> str:
        return self.compose("logs", "--no-color", check=False).stdout

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "12", check=False)
