"""For schemathesis: a session that is there whatever the last call did to it, real things in the place of made-up ids,
and a record of the answers. Loaded by `SCHEMATHESIS_HOOKS`."""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from schemathesis.core.parameters import ParameterLocation

from tests.fuzz.town import GOOD, Town, path_value, whole

MAX_LINE = 8000
PICTURE_OR_BYTES = ("image/png", "application/octet-stream")
_town: Town | None = None
_doubtful = False  # whether the session, and things, may have been ended by the last call
_calls: dict[str, int] = {}


def town() -> Town:
    global _town
    if _town is None:
        _town = Town(os.environ["TOWN_AT"], is_admin=os.environ["TOWN_WHO"] == "administrator").found(
            os.environ["TOWN_INVITE"])
    return _town


@schemathesis.hook
def before_call(context: Any, case: Any, **kwargs: Any) -> None:
    """Where the ids are well formed and no link gave them, they become those of things that are there. Every other
    call that may be accepted is one that should be."""
    meta = case.meta
    if meta is None:
        return
    if isinstance(case.body, dict | list) and meta.generation.mode.is_positive:
        case.body = _whole_numbers(case.body)
    if meta.phase.name.value == "stateful":
        return
    operation = f"{case.method.upper()} {case.path}"
    wrong_at = getattr(meta.phase.data, "parameter_location", None) if meta.generation.mode.is_negative else None
    if case.path_parameters and wrong_at != ParameterLocation.PATH and not meta.is_negative_at(ParameterLocation.PATH):
        for name in case.path_parameters:
            value = path_value(town(), operation, name)
            if value is not None:
                case.path_parameters[name] = value
    if not meta.generation.mode.is_positive:
        return
    if operation == "POST /api/v1/files/{upload_id}/complete":
        whole(town())
    _calls[operation] = _calls.get(operation, 0) + 1
    if operation in GOOD and _calls[operation] % 2:
        good = GOOD[operation](town())
        if isinstance(good.get("body"), bytes):
            if case.media_type in PICTURE_OR_BYTES:
                case.body = good["body"]
        elif "body" in good:
            case.body = good["body"]
        if "query" in good:
            case.query = good["query"]


def _whole_numbers(value: Any) -> Any:
    """For JSON Schema 1.0 is an integer; clients write 1, and nothing else is one here."""
    if isinstance(value, dict):
        return {name: _whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Notes every status, and whether things or the session may have ended: by a refusal, or by what was changed."""
    global _doubtful
    with open(os.environ["ANSWERS_AT"], "a") as answers:
        answers.write(f"{response.status_code} {case.method.upper()} {case.path}\n")
    if response.status_code == 401:
        _doubtful = True
    if response.status_code < 300 and case.method.upper() != "GET":
        _doubtful = True
        town().things.clear()


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """A request line of more than 8 KiB is refused by the HTTP parser, before there is anybody to write a document."""
    return not (response.status_code == 400 and len(response.request.url) > MAX_LINE)


@schemathesis.auth(refresh_interval=None)
class Session:
    token = ""

    def get(self, case: Any, context: Any) -> str:
        global _doubtful
        if _doubtful or not Session.token:
            Session.token = town().settle()
            _doubtful = False
        return Session.token

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}
