"""wire.py and describe.py: any bytes have a documented outcome, every frame out has its documented shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypersend_server.errors import ERRORS, HyperSendError
from hypersend_server.realtime import wire
from hypersend_server.realtime.describe import CLOSE_CODES, SERVER_FRAMES, websocket_document

CONTRACT = Path(__file__).parents[1] / "contract"
FROM_CLIENT = json.loads((CONTRACT / "client_to_server.json").read_text(encoding="utf-8"))
FROM_SERVER = json.loads((CONTRACT / "server_to_client.json").read_text(encoding="utf-8"))
# The strict twin of each type: what stands in an example and not in the type is a mistake in one of them.
SERVER_TYPES = {str(kind.__struct_config__.tag): kind for kind in SERVER_FRAMES}


def outcome(data: bytes) -> dict[str, Any] | wire.AnyClientFrame:
    try:
        return wire.parse(data)
    except wire.BadFrame:
        return {"close": wire.BAD_FRAME}
    except wire.FrameRefused as refused:
        return {"error": refused.error.code, "ref": refused.ref}


# The examples that clients are held to as well


@pytest.mark.parametrize("example", FROM_CLIENT["accepted"], ids=lambda e: e["means"])
def test_accepted_example_is_understood_whole(example: dict[str, Any]) -> None:
    frame = wire.parse(json.dumps(example["frame"]).encode())
    sent = {name: value for name, value in example["frame"].items() if value is not None}
    assert {n: v for n, v in msgspec.to_builtins(frame).items() if v is not None} == sent


@pytest.mark.parametrize("example", FROM_CLIENT["refused"], ids=lambda e: e["means"])
def test_refused_example_has_its_outcome(example: dict[str, Any]) -> None:
    assert outcome(example["text"].encode()) == example["outcome"]


def test_every_client_frame_has_an_accepted_example() -> None:
    tags = {kind.__struct_config__.tag for kind in wire.CLIENT_FRAMES}
    assert tags == {example["frame"]["type"] for example in FROM_CLIENT["accepted"]}


def keys(value: Any) -> Any:
    """The shape of JSON: names without values."""
    if isinstance(value, dict):
        return {name: keys(part) for name, part in value.items()}
    return [keys(part) for part in value] if isinstance(value, list) else None


@pytest.mark.parametrize("example", FROM_SERVER["frames"], ids=lambda e: e["means"])
def test_server_example_has_the_documented_shape(example: dict[str, Any]) -> None:
    frame = example["frame"]
    if frame["type"] == "weather":
        assert "weather" not in SERVER_TYPES
        return
    parsed = msgspec.convert(frame, SERVER_TYPES[frame["type"]])
    assert keys(msgspec.to_builtins(parsed)) == keys(frame)


def test_every_server_frame_and_close_code_has_an_example() -> None:
    assert {*SERVER_TYPES} <= {example["frame"]["type"] for example in FROM_SERVER["frames"]}
    assert {int(code) for code in FROM_SERVER["close_codes"]} == {*CLOSE_CODES}


def examples_of(kind: str) -> list[dict[str, Any]]:
    return [e["frame"] for e in FROM_SERVER["frames"] if e["frame"]["type"] == kind]


def test_builders_make_the_examples() -> None:
    """Each builder, given an example's parts, makes that example: clients can rely on the file."""
    at = 1769851800125  # 2026-01-31T09:30:00.125Z
    built = [
        *(wire.ready(e["session_id"], e["user_id"], at, e["epoch"]) for e in examples_of("ready")),
        wire.PONG, wire.RESYNC,
        *(wire.ack(e["ref"], e["data"]) for e in examples_of("ack")),
        *(wire.message(e["message"]) for e in examples_of("message")),
        *(wire.message_changed(json.dumps(e["message"]).encode()) for e in examples_of("message.changed")),
        *(wire.message_hidden(e["chat_id"], e["message_id"]) for e in examples_of("message.hidden")),
        *(wire.chat(msgspec.Raw(json.dumps(e["chat"]).encode())) for e in examples_of("chat")),
        *(wire.chat_gone(e["chat_id"]) for e in examples_of("chat.gone")),
        *(wire.member(e["chat_id"], e["member"]) for e in examples_of("member")),
        *(wire.read(e["chat_id"], e["user_id"], e["seq"]) for e in examples_of("read")),
        *(wire.delivered(e["chat_id"], e["user_id"], e["seq"]) for e in examples_of("delivered")),
        *(wire.typing(e["chat_id"], e["user_id"]) for e in examples_of("typing")),
        wire.presence("01jd000000000000000000bina", True, 1769851800000),
        wire.presence("01jd000000000000000000bina", False, None),
        *(wire.transfer(e["transfer"]) for e in examples_of("transfer")),
        *(wire.upload(e["id"], e["received_bytes"], e["state"]) for e in examples_of("upload")),
        *(wire.update(e["release"]) for e in examples_of("update")),
        wire.error("5", HyperSendError("not_allowed")),
        *(wire.error(e["ref"], HyperSendError(e["code"], e["detail"], errors=e["errors"]))
          for e in examples_of("error") if "errors" in e),
        wire.error("1", HyperSendError("rate_limited", retry_after_s=2)),
        wire.error(None, HyperSendError("not_found")),
    ]
    expected = [e["frame"] for e in FROM_SERVER["frames"] if e["frame"]["type"] != "weather"]
    by_text = [json.dumps(frame, sort_keys=True) for frame in expected]
    assert sorted(json.dumps(json.loads(frame), sort_keys=True) for frame in built) == sorted(by_text)


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_every_error_can_be_a_frame(code: str) -> None:
    frame = json.loads(wire.error("r", HyperSendError(code)))
    msgspec.convert(frame, SERVER_TYPES["error"])
    assert (frame["code"], frame["retryable"]) == (code, ERRORS[code].retryable)


# Whatever comes in

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12)
TAGS = [str(kind.__struct_config__.tag) for kind in wire.CLIENT_FRAMES]
NAMES = sorted({f.encode_name for kind in wire.CLIENT_FRAMES for f in msgspec.structs.fields(kind)} | {"x"})
# Objects that look like frames: a known type, known fields, some values of the right kind.
NEARLY = st.builds(
    lambda tag, fields: {**fields, "type": tag}, st.sampled_from(TAGS) | JSON,
    st.dictionaries(st.sampled_from(NAMES), JSON | st.sampled_from(["c", 1, ["u"], "me"]), max_size=8))


def assert_documented(data: bytes) -> None:
    result = outcome(data)
    if isinstance(result, dict):
        if "error" in result:
            assert result["error"] in ("validation_failed", "frame_invalid")
        if "ref" in result:
            # What is sent back can be sent: no half surrogates, nothing too long.
            json.loads(wire.error(result["ref"], HyperSendError(result["error"])))
    else:
        # What was understood can be stored and encoded again.
        assert wire.parse(msgspec.json.encode(result)) == result


@given(st.binary(max_size=200))
def test_any_bytes_have_a_documented_outcome(data: bytes) -> None:
    assert_documented(data)


@given(JSON | NEARLY)
def test_any_json_has_a_documented_outcome(value: Any) -> None:
    assert_documented(json.dumps(value).encode())
    assert_documented(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@given(NEARLY, st.data())
def test_a_damaged_frame_has_a_documented_outcome(value: Any, data: st.DataObject) -> None:
    text = bytearray(json.dumps(value).encode())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at:at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    assert_documented(bytes(text))


@pytest.mark.parametrize("text", [
    b"[" * 200_000, b'{"type":' * 60_000, b'{"type":"ping","ref":' + b"[" * 200_000,
    b'{"type":"poll.vote","x":' + b'{"a":' * 50_000,
    b'{"type":"presence.watch","user_ids":' + b"[" * 200_000,
    b'{"type":"typing","chat_id":"\xff\xfe"}', b'{"type":"typing","\xff":1}', b"\xff", b"",
    b'{"type":"typing","chat_id":"\xed\xa0\x80"}',
])
def test_deep_json_and_broken_utf8_are_bad_frames(text: bytes) -> None:
    assert outcome(text) == {"close": wire.BAD_FRAME}


def test_the_longest_text_fits_however_it_is_escaped() -> None:
    for character in ("\U0001f600", "\u0937", "\n"):
        frame = {"type": "message.send", "chat_id": "c", "client_id": "1", "text": character * 8000}
        data = json.dumps(frame).encode()
        assert len(data) <= wire.MAX_FRAME_BYTES
        parsed = wire.parse(data)
        assert isinstance(parsed, wire.MessageSend)
        assert parsed.text == character * 8000
    frame["text"] = "x" * 8001
    assert outcome(json.dumps(frame).encode()) == {"error": "validation_failed", "ref": None}


@pytest.mark.parametrize("field", ["text", "client_id"])
@pytest.mark.parametrize("character", ["\0", "\x07", "\x1b", "\x7f", "\x85"])
def test_control_characters_are_refused(field: str, character: str) -> None:
    frame = {"type": "message.send", "chat_id": "c", "client_id": "1", "text": "hello", field: f"a{character}b"}
    assert outcome(json.dumps(frame).encode())["error"] == "validation_failed"
    frame[field] = "a\tb\r\nc"
    assert isinstance(wire.parse(json.dumps(frame).encode()), wire.MessageSend)


def test_a_token_is_not_in_the_text_of_its_frame() -> None:
    assert "secret" not in repr(wire.parse(b'{"type":"auth","token":"secret"}'))


# The document


def test_document_describes_every_frame_with_references_that_resolve() -> None:
    document = websocket_document("/api/v1/ws")
    assert {*document["from_client"]} == {*TAGS}
    assert {*document["from_server"]} == {*SERVER_TYPES}
    whole = {"x-websockets": {"/api/v1/ws": json.loads(json.dumps(document))}}

    def resolve(reference: str) -> Any:
        found: Any = whole
        for part in reference.removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        return found

    def references(value: Any) -> list[str]:
        if isinstance(value, list):
            return [ref for part in value for ref in references(part)]
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [ref for part in value.values() for ref in references(part)]
        return []

    found = references(whole)
    assert len(found) > 40
    assert all(resolve(ref)["type"] == "object" for ref in found)
    send = document["components"]["MessageSend"]
    assert send["additionalProperties"] is False
    assert send["properties"]["text"]["anyOf"][0]["maxLength"] == 8000
