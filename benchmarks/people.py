"""HyperSend's HTTP interface as far as a measurement has to prepare something with it."""

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.processes import Server

PASSWORD = "correct horse battery"


@dataclass
class Person:
    server: Server
    id: str
    token: str
    refresh_token: str

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Raises: urllib.error.HTTPError."""
        return _call(self.server, method, path, body, self.token)

    def refresh(self) -> None:
        answer = _call(self.server, "POST", "/auth/refresh", {"refresh_token": self.refresh_token})
        self.token, self.refresh_token = answer["access_token"], answer["refresh_token"]


def register(server: Server, name: str) -> Person:
    answer = _call(server, "POST", "/auth/register", {
        "email": f"{name}@example.org", "username": name, "password": PASSWORD})
    return Person(server, answer["user"]["id"], answer["access_token"], answer["refresh_token"])


def register_all(server: Server, count: int) -> list[Person]:
    """Two at a time: a password costs a core for a while."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda n: register(server, f"person_{n}"), range(count)))


def _call(server: Server, method: str, path: str, body: dict[str, Any] | None, token: str = "") -> dict[str, Any]:
    request = urllib.request.Request(f"{server.url}/api/v1{path}", method=method)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, data, timeout=120) as answer:
        text = answer.read()
    return json.loads(text) if text else {}
