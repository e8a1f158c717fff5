"""What looks after a run notices what it is there to notice."""

from __future__ import annotations

import copy
import dataclasses
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo import WriteConcern

from tests.chaos.checks import Said, check_passed, differences, find_all
from tests.chaos.clock import WallClock, sweep
from tests.chaos.left_over import check_garbage, is_alone, until
from tests.chaos.scale import ScaleWorld
from tests.chaos.world import FAILURE, require_running
from tests.mongo_server import MongoServer
from tests.process import ServerProcess, environment

ENTRIES = [{"chat_id": "c", "client_id": f"said-{n}", "text": f"text {n}", "sha256": ""} for n in range(4)]
EDITS = [{"chat_id": "c", "client_id": "said-0", "text": f"text 0 (edited {n})", "rev": 5 + n} for n in range(3)]
SAID = Said(ENTRIES, tried=EDITS, edited=EDITS[:2],
            reacted=[{"chat_id": "c", "client_id": "said-1", "emoji": "👍", "user_id": "a"}])
SHOWN: dict[str, Any] = {
    name: {"c": {"seq": 4, "messages": [
        [1, 6, "said-0", "text 0 (edited 1)", [], [], "a"], [2, 7, "said-1", "text 1", [["👍", ["a", "b"]]], [], "a"],
        [3, 3, "said-2", "text 2", [], [], "a"], [4, 4, "said-3", "text 3", [], [], "a"]]}}
    for name in ("asha", "ben")}

Change = Callable[[dict[str, Any]], object]


def for_all(number: int, field: int, value: object) -> Change:
    """The same for every client: of a message that the server itself has wrong."""
    return lambda shown: [view["c"]["messages"][number].__setitem__(field, value) for view in shown.values()]


def swap(shown: dict[str, Any]) -> None:
    """Two messages of one person, their places aside."""
    for view in shown.values():
        messages = view["c"]["messages"]
        messages[2][1:], messages[3][1:] = messages[3][1:], messages[2][1:]


def test_what_is_whole_passes() -> None:
    assert [message[2] for message in find_all("asha", SAID, SHOWN)] == [entry["client_id"] for entry in ENTRIES]


def test_what_a_client_showed_differently_is_named() -> None:
    later = SHOWN["asha"]["c"]
    assert differences(copy.deepcopy(later), later) == []
    assert differences(None, later)
    before = copy.deepcopy(later)
    before["messages"][0][3] = "text 0"
    assert differences(before, later) == [f"{before['messages'][0]}, later {later['messages'][0]}"]
    del before["messages"][3]
    before["seq"] = 3
    assert [text.partition(",")[0] for text in differences(before, later)] == ["seq 3", "[1", "None"]


def test_an_edit_that_was_not_confirmed_may_have_been_made() -> None:
    shown = copy.deepcopy(SHOWN)
    for_all(0, 3, "text 0 (edited 2)")(shown)
    find_all("asha", SAID, shown)


def test_a_message_with_a_file_may_come_after_what_was_said_later() -> None:
    shown = copy.deepcopy(SHOWN)
    swap(shown)
    entries = [entry | {"sha256": "of a file" if entry["client_id"] == "said-2" else ""} for entry in ENTRIES]
    find_all("asha", dataclasses.replace(SAID, entries=entries), shown)


@pytest.mark.parametrize("change", [
    lambda shown: [view["c"]["messages"].pop(1) for view in shown.values()],
    lambda shown: [view["c"]["messages"].reverse() for view in shown.values()],
    swap,
    lambda shown: [view["c"].update(seq=5) for view in shown.values()],
    for_all(3, 2, "said-0"),
    lambda shown: [view["c"]["messages"].append([5, 8, "another", "text 3", [], [], "a"]) or view["c"].update(seq=5)
                   for view in shown.values()],
    lambda shown: shown["ben"]["c"]["messages"][2].__setitem__(3, "another text"),
    for_all(2, 3, "another text"),
    for_all(0, 3, "text 0 (edited 0)"),
    for_all(0, 3, "text 0"),
    for_all(0, 1, 5),
    for_all(1, 4, [["👍", ["b"]]]),
    lambda shown: shown["ben"]["c"]["messages"].pop(),
    for_all(2, 6, "b"),
], ids=["lost", "the wrong way round", "two of one person are swapped", "one is missing at the end", "doubled",
        "doubled under another id", "another text for one", "another text for all", "an older edit", "an edit is lost",
        "an older state", "a reaction is lost", "not on every client", "of somebody else"])
def test_what_is_lost_doubled_or_different_is_noticed(change: Change) -> None:
    shown = copy.deepcopy(SHOWN)
    change(shown)
    with pytest.raises(AssertionError):
        find_all("asha", SAID, shown)


def deleted(text: str) -> dict[str, Any]:
    """The last message, whose deletion was confirmed before an edit that was not, as it is shown then."""
    shown = copy.deepcopy(SHOWN)
    for_all(3, 3, text)(shown)
    return shown


def test_what_was_deleted_stays_so() -> None:
    gone, late = ({"chat_id": "c", "client_id": "said-3", "text": text, "rev": 4} for text in ("", "text 3 (edited 9)"))
    said = dataclasses.replace(SAID, tried=[*SAID.tried, gone, late], edited=[*SAID.edited, gone])
    find_all("asha", said, deleted(""))
    for text in ("text 3", "text 3 (edited 9)"):
        with pytest.raises(AssertionError):
            find_all("asha", said, deleted(text))


FILM, SONG = ("ben", "film.bin", "f0"), ("ben", "song.bin", "50")


@pytest.mark.parametrize("there", [
    [FILM], [FILM, FILM, FILM, SONG], [FILM, SONG, SONG], [FILM, ("asha", "song.bin", "50")],
    [FILM, ("ben", "film.bin", "50")], [FILM, SONG, ("ben", "poem.bin", "90")],
], ids=["lost", "twice too often", "doubled", "elsewhere", "altered", "of nobody"])
def test_a_file_that_did_not_go_where_it_should_is_noticed(there: list[tuple[str, str, str]]) -> None:
    passed, may_be = Counter([FILM, SONG]), Counter([FILM, FILM, SONG])
    assert check_passed(passed, passed, may_be) == check_passed(may_be, passed, may_be) == 2
    with pytest.raises(AssertionError):
        check_passed(Counter(there), passed, may_be)


async def test_a_connection_and_a_server_that_ended_by_itself_are_noticed(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        require_running(server)
        await until(lambda: is_alone(server.pid), "it has connections")
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))):
            await until(lambda: not is_alone(server.pid), "a connection is not noticed")
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        with pytest.raises(AssertionError, match="by itself"):
            require_running(server)


def test_a_multipart_that_was_left_at_the_object_store_is_noticed(tmp_path: Path) -> None:
    world = ScaleWorld(tmp_path, 1)
    (tmp_path / "minio").mkdir()
    world.store.start()
    try:
        bucket = world.store.new_bucket()
        assert world._has_no_parts()
        world.store.client()._create_multipart_upload(bucket, "files/left", {})
        assert not world._has_no_parts()
    finally:
        world.store.kill()


@pytest.mark.parametrize("line", [
    "Traceback (most recent call last):", "2026 ERROR hypersend GET /api/v1/chats 500 3.1 ms 127.0.0.1"])
def test_a_failure_in_the_servers_log_is_noticed(line: str) -> None:
    assert FAILURE.search(f"started\n{line}\nmore")
    assert not FAILURE.search("2026 INFO hypersend.access GET /api/v1/files/500 503 3.1 ms\n")


@pytest.mark.parametrize("place", ["files/or/orphan/bytes", "uploads/orphan/bytes"])
async def test_bytes_that_no_record_names_are_noticed(tmp_path: Path, place: str) -> None:
    with ServerProcess(tmp_path / "data") as server:
        stored = partial(_stored, server.data_root)
        await check_garbage(server, set(), stored, set())
        with pytest.raises(AssertionError, match="no bytes"):
            await check_garbage(server, set(), stored, {"a file"})
        orphan = server.data_root / place
        orphan.parent.mkdir(parents=True)
        orphan.write_bytes(b"of nobody")
        with pytest.raises(AssertionError, match="orphan"):
            await check_garbage(server, set(), stored, set())


def test_the_stand_in_for_mongodb_keeps_what_it_acknowledged_when_it_is_killed(tmp_path: Path) -> None:
    mongo = MongoServer(tmp_path / "mongo", "--sync-on-commit").start()
    try:
        for number in range(100):
            with (
                pymongo.MongoClient(mongo.uri("kept")) as client, client.start_session() as session,
                session.start_transaction(write_concern=WriteConcern("majority", j=True)),
            ):
                client.kept.said.insert_one({"_id": number}, session=session)
            if number % 25 == 24:
                mongo.kill()
                mongo.start()
        with pymongo.MongoClient(mongo.uri("kept")) as client:
            assert sorted(said["_id"] for said in client.kept.said.find()) == list(range(100))
    finally:
        mongo.kill()


def _stored(data_root: Path) -> set[str]:
    return {path.name for path in data_root.glob("files/*/*")}


def test_a_servers_clock_jumps_both_ways_and_it_serves_on(tmp_path: Path) -> None:
    clock = WallClock(tmp_path / "clock")
    with ServerProcess(tmp_path / "data", **clock.settings) as server:
        for seconds in (36_000, -86_400, 0):
            clock.jump(seconds)
            until = time.monotonic() + 60
            while abs(_server_time(server) - time.time() - seconds) > 30:
                assert time.monotonic() < until
                time.sleep(0.1)
        assert server.stop() == 0
    sweep()


def test_a_process_whose_clock_jumps_sleeps_as_long_as_it_wants(tmp_path: Path) -> None:
    clock = WallClock(tmp_path / "clock")
    clock.jump(-3600)
    program = "import time; began = time.monotonic(); time.sleep(0.3); print(time.monotonic() - began >= 0.3)"
    found = subprocess.run([sys.executable, "-c", program], env=environment(tmp_path, **clock.settings),
                           capture_output=True, text=True, check=True)
    assert found.stdout == "True\n"


def _server_time(server: ServerProcess) -> float:
    with urllib.request.urlopen(server.url + "/readyz", timeout=30) as answer:
        return parsedate_to_datetime(answer.headers["Date"]).timestamp()
