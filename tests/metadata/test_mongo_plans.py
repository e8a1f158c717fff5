"""No query of the hot paths scans a collection.

What is sent is recorded, whatever sends it. Of each query, the part that an index of ours can serve, from the index's
first field on, is given to `explain`, whose winning plan must be an index scan. The stand-in plans with that part
alone: with a further condition beside it, it scans, where MongoDB itself fetches by the index and filters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient, monitoring

from hypersend_server.metadata.conformance.chats_people import NOW, group, people, rest, say, synced
from hypersend_server.metadata.conformance.files import complete, uploading
from hypersend_server.metadata.mongo import MongoMetadata, driver
from hypersend_server.metadata.mongo.indexes import INDEXES
from tests.mongo_server import MongoServer

SMALL = {"meta", "jobs", "releases", "leases"}  # a handful of documents, read whole where that is meant
KEYS = {name: [index.fields for index in INDEXES if index.collection == name] for name in
        {index.collection for index in INDEXES}}


class Recorder(monitoring.CommandListener):
    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        command = event.command
        if event.command_name in ("find", "distinct"):
            self.asked.append((command[event.command_name], command.get("filter", command.get("query", {}))))
        elif event.command_name == "findAndModify":
            self.asked.append((command["findAndModify"], command["query"]))
        elif event.command_name == "aggregate" and isinstance(command["aggregate"], str):
            self.asked.append((command["aggregate"], command["pipeline"][0].get("$match", {})))
        elif event.command_name == "update":
            self.asked += [(command["update"], one["q"]) for one in command["updates"]]
        elif event.command_name == "delete":
            self.asked += [(command["delete"], one["q"]) for one in command["deletes"]]

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


def conditions(where: dict[str, Any]) -> dict[str, Any]:
    """The fields that must match, those within $and included."""
    found = {name: value for name, value in where.items() if not name.startswith("$")}
    for one in where.get("$and", []):
        found = {**conditions(one), **found}
    return found


def served(name: str, where: dict[str, Any]) -> dict[str, Any] | None:
    """The part of a query that our best index serves; None where there is none."""
    fields = conditions(where)
    best: dict[str, Any] | None = {"_id": fields["_id"]} if "_id" in fields else None
    for keys in KEYS.get(name, []):
        part: dict[str, Any] = {}
        for key in (key.removeprefix("-") for key in keys):
            if key not in fields:
                break
            part[key] = fields[key]
            if isinstance(fields[key], dict) and "$in" not in fields[key]:
                break  # behind a range an index is only filtered
        if part and (best is None or ("_id" not in best and len(part) > len(best))):
            best = part
    return best


def stages(plan: dict[str, Any]) -> set[str]:
    return {plan["stage"]} | (stages(plan["inputStage"]) if "inputStage" in plan else set())


def test_the_manual_lists_every_index() -> None:
    text = (Path(__file__).parents[2] / "docs" / "mongodb.md").read_text()
    for index in INDEXES:
        unique = " (unique)" if index.unique else ""
        assert f"| {index.collection} | {', '.join(index.fields)}{unique} | {index.needed_for} |" in text


async def test_no_query_of_the_hot_paths_scans_a_collection(mongo_server: MongoServer, monkeypatch: Any) -> None:
    recorder = Recorder()
    monkeypatch.setattr(
        driver, "make_client",
        lambda uri, _: AsyncMongoClient(uri, event_listeners=[recorder]))
    monkeypatch.setattr("hypersend_server.metadata.mongo.make_client", driver.make_client)
    metadata = MongoMetadata(mongo_server.fresh_uri(), driver="pymongo")
    await metadata.open()
    recorder.asked.clear()
    chats, accounts, files = metadata.chats, metadata.accounts, metadata.files
    await people(metadata, "a", "b", "c")
    await group(chats, "a", "b", "c")
    direct, _, _ = await chats.create_direct("a", "b", "direct", NOW)
    at = await synced(chats, "b")
    said = await say(chats, "g", "a", "green tea")
    await say(chats, direct, "b", "hello")
    await complete(metadata, "f", size=250, owner_id="a")
    await uploading(metadata, "up", owner_id="b")
    await say(chats, "g", "a", "", client_id="file", file_ids=("f",))
    await chats.edit("g", said.id, "a", "black tea", NOW)
    await chats.react("g", said.id, "b", "👍", True)
    await chats.hide("g", said.id, "c")
    await chats.set_marks("g", "b", 2, 2, -1)
    await chats.messages_by_seq("g", "b", 50)
    await chats.messages_after_rev("g", "b", 1, 50)
    await chats.list_chats("b", False, None, 20)
    await chats.get_message("g", said.id, "b")
    await chats.search("b", "black te", None, None, 10)
    await chats.audience("g", "b")
    await rest(chats, at, 2)
    await accounts.live_session("s")
    await accounts.credentials("a@example.org")
    await accounts.view_users(["a", "b"], "c")
    await accounts.search_users("a", username_prefix="b", name_prefix="b", email_key="", after="", limit=5)
    await accounts.changed_since(0)
    await accounts.set_last_seen({"a": NOW})
    await accounts.list_sessions("a", before_id=None, limit=5)
    await files.get_readable("f", "b")
    await files.get_chunk("up", 0)
    await files.progress("up", "boot")
    await files.usage("a")
    await files.list_own("a", ("complete",), "", None, 10)
    await files.list_chat("g", "b", "", None, 10)
    await files.due_deletions(NOW, 10)
    await files.expire(NOW, 10)
    asked = [(name, dict(where)) for name, where in recorder.asked if name not in SMALL]
    assert len({name for name, _ in asked}) > 10
    seen: set[str] = set()
    for name, where in asked:
        part = served(name, where)
        assert part is not None, f"{name}: no index begins with a field of {where}"
        shape = f"{name} {sorted(part)} {[type(value) for value in part.values()]}"
        if shape in seen:
            continue
        seen.add(shape)
        while True:  # the stand-in also scans for several $in, so it is asked with fewer fields then, down to the first
            plan = await metadata.db.command("explain", {"find": name, "filter": part}, verbosity="queryPlanner")
            winning = stages(plan["queryPlanner"]["winningPlan"])
            if "COLLSCAN" not in winning or len(part) == 1:
                break
            part = dict(list(part.items())[:-1])
        assert "COLLSCAN" not in winning, f"{name}: {part} scans the collection: {winning}"
    assert len(seen) > 25
    await metadata.close()
