"""A Flet page without a client: what is drawn can be asked, and clicked, as a person would."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import flet as ft
import msgpack
from flet.components.component import Component
from flet.controls.base_control import BaseControl
from flet.controls.context import _context_page
from flet.messaging.connection import Connection
from flet.messaging.protocol import Message, MessageAction, configure_encode_object_for_msgpack
from flet.messaging.session import Session
from flet.pubsub.pubsub_hub import PubSubHub

from hypersend_client.app.state import AppState
from hypersend_client.main import show


def encode(what: Any) -> None:
    """As it is done for the network: Flet notes in passing what the client has seen."""
    msgpack.packb(what, default=configure_encode_object_for_msgpack(BaseControl))


class Wire(Connection):
    """Answers what a client would: an address that is pushed comes back as a change of the route."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.pubsubhub = PubSubHub(self.loop)
        self.page_url = "ws://127.0.0.1/ws"
        self.session: Session | None = None
        self.crashes: list[str] = []

    def send_message(self, message: Message) -> None:
        encode([message.action, message.body])
        body = message.body
        if message.action == MessageAction.SESSION_CRASHED:
            self.crashes.append(str(body))
        if message.action == MessageAction.INVOKE_METHOD:
            assert self.session is not None
            self.loop.call_soon(self.session.handle_invoke_method_results, body.control_id, body.call_id, None, None)
            if body.name == "push_route":
                self.loop.create_task(self._route(body.args["route"]))

    async def _route(self, route: str) -> None:
        assert self.session is not None
        page = self.session.page
        page.route = route
        await self.session.dispatch_event(page._i, "route_change", {"route": route})


class Stage:
    def __init__(self, page: ft.Page, wire: Wire) -> None:
        self.page = page
        self.wire = wire

    def controls(self) -> Iterator[BaseControl]:
        """All that is drawn, from the topmost view and the dialogs."""
        views = self.page.views
        top = views if isinstance(views, BaseControl) else views[-1]
        yield from _walk(_last_view(top))
        for dialog in self.page._dialogs.controls:
            if dialog.open:
                yield from _walk(dialog)

    def texts(self) -> list[str]:
        found = []
        for control in self.controls():
            if isinstance(control, ft.Text):
                found.append(" ".join(control.value.split()))  # however its lines are broken
            for name in ("label", "hint_text", "tooltip", "helper"):
                value = getattr(control, name, None)
                if isinstance(value, str):
                    found.append(value)
        return found

    def find(self, identifier: str) -> ft.Semantics | None:
        for control in self.controls():
            if isinstance(control, ft.Semantics) and control.identifier == identifier:
                return control
        return None

    def within(self, part: BaseControl) -> Iterator[BaseControl]:
        """It, and all that is drawn in it."""
        yield from _walk(part)

    async def sees(self, identifier: str) -> ft.Semantics:
        return await self.until(lambda: self.find(identifier), identifier)

    async def reads(self, text: str) -> None:
        await self.until(lambda: any(text in shown for shown in self.texts()), text)

    async def until(self, holds: Callable[[], Any], what: object = "") -> Any:
        try:
            async with asyncio.timeout(30):
                while not (found := holds()):
                    assert not self.wire.crashes, self.wire.crashes
                    await asyncio.sleep(0.005)
                return found
        except TimeoutError:
            raise AssertionError(f"{what}: not in {self.texts()}") from None

    async def click(self, identifier: str) -> None:
        part = await self.sees(identifier)
        for control in _walk(part):
            if getattr(control, "on_click", None) is not None and not getattr(control, "disabled", False):
                await self.page.session.dispatch_event(control._i, "click", None)
                return
        if part.on_tap is not None:
            await self.page.session.dispatch_event(part._i, "tap", None)
            return
        raise AssertionError(f"{identifier} cannot be clicked")

    async def fill(self, identifier: str, text: str) -> None:
        part = await self.sees(identifier)
        field = next(control for control in _walk(part) if isinstance(control, ft.TextField))
        self.page.session.apply_patch(field._i, {"value": text})
        await self.page.session.dispatch_event(field._i, "change", text)

    async def submit(self, identifier: str) -> None:
        part = await self.sees(identifier)
        field = next(control for control in _walk(part) if isinstance(control, ft.TextField))
        await self.page.session.dispatch_event(field._i, "submit", field.value)

    async def press(self, key: str) -> None:
        pressed = {"key": key, "shift": False, "ctrl": False, "alt": False, "meta": False}
        await self.page.session.dispatch_event(self.page._i, "keyboard_event", pressed)

    async def resize(self, width: float, height: float) -> None:
        self.page.session.apply_page_patch({"width": width, "height": height})
        await self.page.session.dispatch_event(self.page._i, "resize", {"width": width, "height": height})

    async def go(self, route: str) -> None:
        await self.wire._route(route)

    async def reconnect(self) -> None:
        await self.page.session.disconnect(600)
        await self.page.session.connect(self.wire)


def _last_view(control: Any) -> Any:
    """The topmost view of what a component rendered."""
    while isinstance(control, Component):
        control = control._b
        if isinstance(control, list):
            control = control[-1] if control else None
    return control


def _walk(control: Any) -> Iterator[BaseControl]:
    if isinstance(control, list):
        for item in control:
            yield from _walk(item)
    elif isinstance(control, Component):
        yield from _walk(control._b)
    elif isinstance(control, BaseControl):
        if getattr(control, "visible", True) is False:
            return
        yield control
        for field in dataclasses.fields(control):
            if not field.name.startswith("_") and field.name not in ("parent", "page"):
                yield from _walk(getattr(control, field.name, None))


@asynccontextmanager
async def staged(app: AppState, *, width: float = 400, height: float = 850, route: str = "/") -> Any:
    wire = Wire()
    session = wire.session = Session(wire)
    page = session.page
    token = _context_page.set(page)
    encode(session.get_page_patch())
    session.apply_page_patch({"width": width, "height": height, "route": route})
    try:
        await show(page, app)
        yield Stage(page, wire)
        assert not wire.crashes, wire.crashes
    finally:
        await session.dispatch_event(page._i, "close", None)
        session.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        _context_page.reset(token)
