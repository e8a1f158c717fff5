"""What a screen asks the server for when it opens: loading, there, or failed with a way to try again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import flet as ft

from hypersend_client.app.components import states
from hypersend_client.app.router import use_app, use_t
from hypersend_client.app.words import explain
from hypersend_client.sdk import HyperSendError, SignedOut

T = TypeVar("T")


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """value: None until it is there. set: replaces it without asking again."""

    value: T | None
    error: HyperSendError | None
    reload: Callable[[], Awaitable[None]]
    set: Callable[[T], None]


def use_loaded(fetch: Callable[[], Awaitable[T]]) -> Loaded[T]:
    """A hook: asks once when the component appears."""
    value, set_value = ft.use_state(cast("T | None", None))
    error, set_error = ft.use_state(cast(HyperSendError | None, None))

    async def load() -> None:
        set_error(None)
        try:
            set_value(await fetch())
        except SignedOut:
            return  # the sign-in screen is on its way
        except HyperSendError as problem:
            set_error(problem)

    ft.on_mounted(load)
    return Loaded(value, error, load, set_value)


def show(loaded: Loaded[T], draw: Callable[[T], ft.Control]) -> ft.Control:
    """To be called in a component: its content, or the spinner, or what went wrong."""
    app, t = use_app(), use_t()
    if loaded.value is not None:
        return draw(loaded.value)
    if loaded.error is not None:
        return states.failed(explain(loaded.error, t, address=app.session.address), t("retry"), loaded.reload)
    return states.loading(t("starting"))
