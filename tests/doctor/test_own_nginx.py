"""The nginx that the project ships, rendered by its own script with a certificate, passes every check of doctor."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from tests.doctor.front import _until_listening, diagnose, free_port
from tests.doctor.test_areas import make_certificate
from tests.parts import program
from tests.process import REPOSITORY, ServerProcess

SETTINGS = {"SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz", "X_ACCEL_PREFIX": "/_files/"}


@pytest.mark.parametrize("tls", ["off", "own"])
def test_the_projects_own_nginx_passes_every_check(tmp_path: Path, tls: str) -> None:
    port, other = free_port(), free_port()
    url = f"{'http' if tls == 'off' else 'https'}://localhost:{port}"
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    chain, key = make_certificate(certificates, "DNS:localhost", 90)
    chain.rename(certificates / "fullchain.pem")
    key.rename(certificates / "privkey.pem")
    tmp_path.chmod(0o755)
    with ServerProcess(tmp_path / "data", **SETTINGS, ALLOWED_ORIGINS=url) as server:
        out = tmp_path / "nginx"
        environment = {
            "PATH": os.environ["PATH"] + ":/usr/sbin", "TLS": tls, "DOMAIN": "localhost", "RUN": str(out),
            "SERVERS": server.url.removeprefix("http://"), "FILES": str(server.data_root / "files"),
            "HTTP_LISTEN": f"127.0.0.1:{port if tls == 'off' else other}", "HTTPS_LISTEN": f"127.0.0.1:{port}",
            "HTTPS_PORT": str(port), "CERTIFICATES": str(certificates), "ACCESS_LOG": str(tmp_path / "access.log")}
        rendered = subprocess.run(["sh", str(REPOSITORY / "nginx" / "render.sh"), str(out)], env=environment,
                                  capture_output=True, text=True, check=False)
        assert rendered.returncode == 0, rendered.stderr
        with (tmp_path / "nginx.out").open("wb") as said:
            process = subprocess.Popen(
                [program("nginx"), "-c", str(out / "nginx.conf"), "-g", "daemon off; user root;"
                 if os.geteuid() == 0 else "daemon off;"], stdout=said, stderr=said)
        try:
            asyncio.run(_until_listening(port))
            found = diagnose(server.data_root, "--idle", "10", PUBLIC_URL=url, REGISTRATION="invite",
                             SSL_CERT_FILE=str(certificates / "fullchain.pem"), **SETTINGS)
        finally:
            process.terminate()
            process.wait(30)
    assert [entry for entry in found.findings if entry["level"] == "problem"] == []
    assert found.of("websocket", "ok")
    assert found.of("downloads", "ok")
    assert bool(found.of("tls", "ok")) == (tls == "own")
