"""Sends bodies over HTTP from memory, one connection and thread a stream: `sendfile` from a memory file, so that
the client takes as little of the machine as it can.

Standard input, JSON: {port, streams: [[request]], finish: [request]}; request: {method, path, headers, size}.
Standard output: {bytes_s, total_s, cpu_s}: until the last body was answered, until `finish` was too, and the CPU
time of this process.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import sys
import threading
import time
from typing import Any

PAYLOAD_BYTES = 8 * 1024 * 1024


def payload() -> bytes:
    """What every body is made of, repeated; the same in each process."""
    return random.Random(1).randbytes(PAYLOAD_BYTES)


def send(connection: http.client.HTTPConnection, request: dict[str, Any], memory: int) -> None:
    connection.putrequest(request["method"], request["path"], skip_accept_encoding=True)
    for name, value in request["headers"].items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(request["size"]))
    connection.endheaders()
    left = request["size"]
    descriptor = connection.sock.fileno()
    while left:
        at = (request["size"] - left) % PAYLOAD_BYTES
        left -= os.sendfile(descriptor, memory, at, min(left, PAYLOAD_BYTES - at))
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"{request['method']} {request['path']}: {answer.status} {text[:500]!r}")


def main() -> None:
    plan = json.load(sys.stdin)
    memory = os.memfd_create("payload")
    os.write(memory, payload())
    failures: list[BaseException] = []
    start = threading.Barrier(len(plan["streams"]) + 1)

    def stream(requests: list[dict[str, Any]]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", plan["port"])
        connection.connect()
        start.wait()
        try:
            for request in requests:
                send(connection, request, memory)
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=stream, args=(requests,)) for requests in plan["streams"]]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    bytes_s = time.perf_counter() - began
    if failures:
        raise failures[0]
    connection = http.client.HTTPConnection("127.0.0.1", plan["port"])
    for request in plan.get("finish", []):
        send(connection, request, memory)
    total_s = time.perf_counter() - began
    print(json.dumps({"bytes_s": bytes_s, "total_s": total_s, "cpu_s": time.process_time()}))


if __name__ == "__main__":
    main()
