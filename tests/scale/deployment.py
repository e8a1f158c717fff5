"""Two real server processes over one MongoDB stand-in, one Redis and one DATA_ROOT; behind a real nginx if asked."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.harness import Person
from tests.mongo_server import MongoServer, free_port
from tests.parts import program
from tests.process import REPOSITORY, ServerProcess
from tests.redis_server import RedisServer
from tests.s3_servers import S3Server

SECRET_KEY = "k" * 40
START_S = 30.0


def at(url: str, person: Person) -> Person:
    """The same person, speaking to another process."""
    return Person(person.http, url, person.headers, person.session)


def s3_settings(server: S3Server, **others: str) -> dict[str, str]:
    """Of a deployment with a new bucket there."""
    return {
        "STORAGE_BACKEND": "s3", "S3_ENDPOINT": server.url, "S3_BUCKET": server.new_bucket(),
        "S3_ACCESS_KEY": server.access_key, "S3_SECRET_KEY": server.secret_key, "S3_REGION": server.region, **others}


class Deployment:
    """mongo: a server that is running. Settings beyond those of a deployment: by their names."""

    def __init__(self, folder: Path, mongo: MongoServer, redis: RedisServer | None, **settings: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.settings = {"MONGODB_URI": mongo.fresh_uri(), "SECRET_KEY": SECRET_KEY, "RATE_LIMITS": "off", **settings}
        if redis is not None:
            self.settings["REDIS_URL"] = redis.url
        self.servers = [ServerProcess(folder / "data", **self.settings) for _ in range(2)]
        self._nginx: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Deployment:
        try:
            for server in self.servers:
                server.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *details: Any) -> None:
        self.kill_balancer()
        for server in self.servers:
            server.kill()

    @property
    def urls(self) -> tuple[str, str]:
        return self.servers[0].url, self.servers[1].url

    def kill_balancer(self) -> None:
        """`kill -9`; `balance` starts it again at the same port."""
        nginx, self._nginx = self._nginx, None
        if nginx is not None:
            nginx.kill()
            nginx.wait(20)

    def balance(self) -> str:
        """Start nginx with the project's own configuration; its address."""
        port = self._port = self._port or free_port()
        addresses = iter([url.removeprefix("http://") for url in self.urls] * 2)
        upstreams = re.sub(r"server [0-9.:]+ ", lambda _: f"server {next(addresses)} ",
                           (REPOSITORY / "nginx" / "upstreams.conf").read_text())
        (self.folder / "upstreams.conf").write_text(upstreams)
        configuration = self.folder / "nginx.conf"
        configuration.write_text(f"""
            daemon off; master_process off; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx.log;
            events {{}}
            http {{
              access_log off;
              client_body_temp_path {self.folder}/n1; proxy_temp_path {self.folder}/n2;
              fastcgi_temp_path {self.folder}/n3; uwsgi_temp_path {self.folder}/n4; scgi_temp_path {self.folder}/n5;
              include {self.folder}/upstreams.conf;
              server {{ listen 127.0.0.1:{port}; include {REPOSITORY}/nginx/locations.conf; }}
            }}""")
        self.folder.chmod(0o755)
        with (self.folder / "nginx.out").open("ab") as out:
            self._nginx = subprocess.Popen([program("nginx"), "-c", str(configuration)], stdout=out, stderr=out)
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._nginx.poll() is None:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}"
            time.sleep(0.02)
        raise AssertionError(f"nginx did not start: {(self.folder / 'nginx.out').read_text()}")
