"""The OpenAPI 3.1 document and its readable page, made from the route table and the msgspec types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import msgspec

from hypersend_server import __version__
from hypersend_server.errors import ERRORS
from hypersend_server.http import MAX_JSON_BYTES, MAX_UNKNOWN_JSON_BYTES, Route

_REF = "#/components/schemas/{name}"
# What any call can answer, whatever else it does.
_EVERYWHERE = ("malformed_body", "validation_failed", "rate_limited", "request_timeout", "internal", "not_ready",
               "metadata_unavailable")
_SIGNED_IN = ("unauthenticated", "token_expired", "token_invalid", "session_ended")


def build_document(routes: Iterable[Route], websockets: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """The whole document as plain JSON values.

    websockets: path → description of the frames, for `x-websockets`.
    """
    table = list(routes)
    types = _types(table)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = dict(zip((_key(t) for t in types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": __version__,
            "description": "JSON in UTF-8; ids are opaque and sort by time; times are RFC 3339 in UTC; sizes are "
            f"bytes. A JSON body may have {MAX_JSON_BYTES} bytes, before one has signed in {MAX_UNKNOWN_JSON_BYTES}. "
            "Errors are problem documents with a stable `code`.",
        },
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _problem_schema()},
            "securitySchemes": {
                "session": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                            "description": "The access token of a session."},
                "upload_ticket": {"type": "http", "scheme": "bearer",
                                  "description": "An upload ticket, good for what its maker may upload."},
                "download_ticket": {"type": "apiKey", "in": "query", "name": "ticket",
                                    "description": "A ticket for this file."},
            },
        },
        "x-websockets": dict(websockets),
    }


def _key(kind: Any) -> str:
    return repr(kind)


def _types(table: Sequence[Route]) -> list[Any]:
    found: dict[str, Any] = {}
    for route in table:
        for kind in (route.body, route.query, *route.replies.values()):
            if kind is not None and not isinstance(kind, str):
                found[_key(kind)] = kind
    return list(found.values())


def _operation(route: Route, schema_of: Mapping[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, kind in route.replies.items():
        answer: dict[str, Any] = {"description": _REASONS.get(status, "Done")}
        if isinstance(kind, str):
            answer["content"] = {kind: {}}
        elif kind is not None:
            answer["content"] = {"application/json": {"schema": schema_of[_key(kind)]}}
        responses[str(status)] = answer
    codes = [*route.errors, *_EVERYWHERE]
    if route.auth != "none":
        codes += _SIGNED_IN
        codes += ["busy"] if route.goes_on_alone and "busy" not in codes else []
    if route.auth == "admin":
        codes.append("not_allowed")
    if "{" in route.path:
        codes.append("not_found")
    if route.body is not None:
        codes += ["unsupported_media_type", "body_too_large"]
    for status, listed in sorted(_by_status(codes).items()):
        lines = "\n".join(f"- `{code}`: {ERRORS[code].title}" for code in listed)
        answer = {"description": lines,
                  "content": {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}}
        if str(status) in responses:  # a status that is both, such as 404 of a plain file
            responses[str(status)]["content"] = {**responses[str(status)].get("content", {}), **answer["content"]}
        else:
            responses[str(status)] = answer
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route, schema_of),
        "responses": responses,
        "security": _security(route),
    }
    if route.body is not None:
        operation["requestBody"] = {"required": not route.body_optional,
                                    "content": {"application/json": {"schema": schema_of[_key(route.body)]}}}
    elif route.accepts:
        binary = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(route.accepts, binary)}
    return operation


def _operation_id(route: Route) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", route.path.removeprefix("/api/v1").lower()).strip("_")
    return f"{route.method.lower()}_{words}"


def _by_status(codes: Iterable[str]) -> dict[int, list[str]]:
    listed: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        listed.setdefault(ERRORS[code].status, []).append(code)
    return listed


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.auth == "none":
        return []
    if route.auth == "upload":
        return [{"session": []}, {"upload_ticket": []}]
    if route.auth == "ticket":
        return [{"session": []}, {"download_ticket": []}]
    return [{"session": []}]


def _parameters(route: Route, schema_of: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)", route.path)
    ]
    if route.query is not None:
        schema = msgspec.json.schema(route.query)
        definition = next(iter(schema["$defs"].values())) if "$ref" in schema else schema
        required = set(definition.get("required", ()))
        for name, field in definition["properties"].items():
            found.append({"name": name, "in": "query", "required": name in required, "schema": _without_null(field)})
    found += [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in route.headers.items()
    ]
    return found


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query key is there or not; it cannot be null."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    if not choices:
        return schema
    plain = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**plain, **choices[0]} if len(choices) == 1 else {**plain, "anyOf": choices}


def _problem_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "RFC 9457, with a stable code.",
        "required": ["type", "title", "status", "detail", "code", "retryable", "request_id"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": sorted(ERRORS)},
            "retryable": {"type": "boolean"},
            "request_id": {"type": "string"},
            "errors": {"type": "array", "items": {
                "type": "object",
                "required": ["field", "problem"],
                "properties": {"field": {"type": "string"}, "problem": {"type": "string"}}}},
        },
    }


_REASONS = {200: "OK", 201: "Created", 202: "Under way; repeat the call", 204: "Done, no body",
            206: "A part of the file", 304: "Not modified", 307: "The bytes are elsewhere", 404: "Not found"}


def render_page(document: Mapping[str, Any]) -> str:
    """The document as one HTML page without scripts."""
    rows: list[str] = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            rows.append(_section(path, method, operation))
    for path, frames in document["x-websockets"].items():
        body = escape(msgspec.json.format(msgspec.json.encode(frames), indent=2).decode())
        rows.append(f"<details><summary><b>WS</b> <code>{escape(path)}</code></summary><pre>{body}</pre></details>")
    schemas = "".join(
        f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary><pre>"
        f"{escape(msgspec.json.format(msgspec.json.encode(schema), indent=2).decode())}</pre></details>"
        for name, schema in sorted(document["components"]["schemas"].items()))
    info = document["info"]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>"
        f"<h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>"
        f"<p>{escape(info['description'])}</p>"
        "<p>The same as data: <a href='/api/v1/openapi.json'>openapi.json</a></p>"
        f"<h2>Calls</h2>{''.join(rows)}<h2>Types</h2>{schemas}</html>"
    )


_STYLE = (
    "body{font:16px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1f;"
    "background:#fff}summary{cursor:pointer;padding:.4rem 0}b{display:inline-block;min-width:4.5rem;color:#2f6bed}"
    "pre{overflow:auto;background:#f3f4f8;padding:.75rem;border-radius:8px}small{color:#666}"
    "@media(prefers-color-scheme:dark){body{color:#e4e4e9;background:#151519}pre{background:#23232a}a{color:#8fb0ff}}"
)


def _schema_html(schema: Mapping[str, Any]) -> str:
    if ref := schema.get("$ref"):
        name = ref.rsplit("/", 1)[-1]
        return f"<a href='#{escape(name)}'>{escape(name)}</a>"
    return f"<code>{escape(msgspec.json.encode(schema).decode())}</code>"


def _section(path: str, method: str, operation: Mapping[str, Any]) -> str:
    lines = [f"<p>{escape(operation['summary'])}</p>"]
    for parameter in operation["parameters"]:
        lines.append(f"<li><code>{escape(parameter['name'])}</code> in {parameter['in']} "
                     f"{_schema_html(parameter['schema'])} {escape(parameter.get('description', ''))}</li>")
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        lines.append(f"<li>body {escape(media)} {_schema_html(content['schema'])}</li>")
    for status, answer in operation["responses"].items():
        shapes = " ".join(_schema_html(c["schema"]) for c in answer.get("content", {}).values() if "schema" in c)
        lines.append(f"<li><b>{status}</b> {escape(answer['description'])} {shapes}</li>")
    return (f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> "
            f"{escape(operation['summary'])}</summary><ul>{''.join(lines)}</ul></details>")
