"""What has to hold of what people said, once all is calm: of every client's view, and of what each wrote down."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

Note = dict[str, Any]
Passed = tuple[str, str, str]  # who has it, under which name, its SHA-256
EDITED = " (edited "  # and something of its own behind it, so that no two texts are the same


@dataclass(frozen=True)
class Said:
    """What a client wrote down, each in its order. entries: what was put into its outbox. tried: edits, and deletions
    for everyone, whose text is empty, before they were asked for. edited, reacted: what was confirmed."""

    entries: list[Note]
    tried: list[Note] = field(default_factory=list)
    edited: list[Note] = field(default_factory=list)
    reacted: list[Note] = field(default_factory=list)

    def texts(self, entry: Note) -> set[str]:
        """What the message may say by now: what was said or confirmed last. An edit that was not confirmed may have
        been made all the same, and late: by a server that stood still, or from a connection that was cut. What was
        deleted stays so."""
        confirmed = [edit["text"] for edit in self.edited if edit["client_id"] == entry["client_id"]]
        tried = {edit["text"] for edit in self.tried if edit["client_id"] == entry["client_id"]}
        last = confirmed[-1] if confirmed else entry["text"]
        return {last} if confirmed and not last else {last} | (tried - set(confirmed))


def find_all(name: str, said: Said, shown: dict[str, Any]) -> list[list[Any]]:
    """The messages that this person has said, as everybody shows them.

    Raises: AssertionError where one is lost, doubled, altered, out of order, under another name or not the same for
    all, or where an edit, a deletion or a reaction that was confirmed is not there.
    """
    _check_views(name, shown)
    senders: set[str] = set()
    there: dict[tuple[str, str], list[list[Any]]] = defaultdict(list)
    for chat_id, view in shown[name].items():
        for message in view["messages"]:
            there[chat_id, message[2]].append(message)
    messages = []
    before: dict[str, int] = {}
    for entry in said.entries:
        found = there[entry["chat_id"], entry["client_id"]]
        assert len(found) == 1, f"{name} said {entry} and it is there {len(found)} times"
        seq, _, _, text, _, _, sender_id = found[0]
        senders.add(sender_id)
        assert text in said.texts(entry), f"{name} said {entry} and it became {text!r}"
        if not entry["sha256"]:  # one with a file waits for it, and lets others pass
            assert seq > before.get(entry["chat_id"], 0), f"{name} said {entry} after what is behind it now"
            before[entry["chat_id"]] = seq
        messages.append(found[0])
    assert len(senders) <= 1, f"what {name} said is shown as of {senders}"
    for edit in said.edited:
        message = there[edit["chat_id"], edit["client_id"]][0]
        assert message[1] >= edit["rev"], f"{name}'s {edit} was confirmed, and the message is older"
    for reaction in said.reacted:
        message = there[reaction["chat_id"], reaction["client_id"]][0]
        if not message[3] and not message[5]:
            continue  # deleted, and its reactions with it
        users = dict(message[4]).get(reaction["emoji"], [])
        assert reaction["user_id"] in users, f"{name}'s {reaction} was confirmed and is not there"
    return messages


def _check_views(name: str, shown: dict[str, Any]) -> None:
    texts: Counter[str] = Counter()
    for chat_id, view in shown[name].items():
        seqs = [message[0] for message in view["messages"]]
        assert seqs == list(range(1, view["seq"] + 1)), f"{name} misses messages of {chat_id}"
        for other, others in shown.items():
            if chat_id in others:
                assert others[chat_id] == view, f"{name} and {other} see {chat_id} differently"
        texts.update(message[3].partition(EDITED)[0] for message in view["messages"] if message[3])
    twice = [text for text, count in texts.items() if count > 1]
    assert not twice, f"{name} sees {twice[:5]} more than once, in messages that count as different ones"


def check_passed(there: Counter[Passed], passed: Counter[Passed], may_be: Counter[Passed]) -> int:
    """there: what lies on devices. passed: of what a sender knows that it has arrived. may_be: what was offered, and
    how often it may lie there. Returns: how many arrived.

    Raises: AssertionError.
    """
    assert not (missing := passed - there), f"a device was told of what has not arrived: {missing}"
    assert not (wrong := there - may_be), f"arrived twice, elsewhere, altered, unfinished, or nobody's: {wrong}"
    return passed.total()


def differences(shown: dict[str, Any] | None, later: dict[str, Any]) -> list[str]:
    """How a chat was shown, and how it is later, where the two differ."""
    if shown is None:
        return ["it was not shown"]
    found = [f"seq {shown['seq']}, later {later['seq']}"] if shown["seq"] != later["seq"] else []
    before, after = ({message[0]: message for message in chat["messages"]} for chat in (shown, later))
    return found + [f"{before.get(seq)}, later {after.get(seq)}" for seq in sorted(before.keys() | after.keys())
                    if before.get(seq) != after.get(seq)]
