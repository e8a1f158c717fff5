"""Reads bodies over HTTP on one connection and throws them away.

Standard input, JSON: {port, requests: [{path, headers, status, size}]}. Standard output: {seconds}.
"""

from __future__ import annotations

import http.client
import json
import sys
import time

BUFFER_BYTES = 1024 * 1024


def main() -> None:
    plan = json.load(sys.stdin)
    buffer = memoryview(bytearray(BUFFER_BYTES))
    connection = http.client.HTTPConnection("127.0.0.1", plan["port"], timeout=120)
    connection.connect()
    began = time.perf_counter()
    for request in plan["requests"]:
        connection.request("GET", request["path"], headers=request["headers"])
        answer = connection.getresponse()
        if answer.status != request["status"]:
            raise RuntimeError(f"{request['path']}: {answer.status} {answer.read(500)!r}")
        received = 0
        while count := answer.readinto(buffer):
            received += count
        if received != request["size"]:
            raise RuntimeError(f"{request['path']}: {received} bytes, not {request['size']}")
    print(json.dumps({"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
