"""A file that goes from device to device: what stands in its bubble and on the screen of transfers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import flet as ft

from hypersend_client.app.chat.file_body import ICONS, progress_words
from hypersend_client.app.chat.model import file_kind, short_name
from hypersend_client.app.components import forms, states
from hypersend_client.app.components.text import text
from hypersend_client.app.i18n import Translator
from hypersend_client.app.open_file import hand_over, share
from hypersend_client.app.peer_list import Choice, PeerView
from hypersend_client.app.router import use_app, use_t, watch
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import ChatSize, Colour, Corner, Size, Space, Type
from hypersend_client.app.words import size


@ft.component
def PeerBody(transfer: dict[str, Any]) -> ft.Control:
    """In a bubble. transfer: of its message."""
    app = use_app()
    view = watch(app.peers).view(transfer)
    if view is None:
        return text(str(transfer.get("name") or ""), Type.BODY_STRONG, lines=2)
    return ft.Container(content=PeerCard(view), width=ChatSize.FILE_WIDE)


@ft.component
def PeerCard(view: PeerView) -> ft.Control:
    """Icon or ring, name, how it stands, and what can be done."""
    app, t = use_app(), use_t()
    people = watch(app.people)
    nothing: Choice | None = None
    asking, set_asking = ft.use_state(nothing)

    def do(choice: Choice) -> None:
        if choice == "store" or (choice == "cancel" and view.done_bytes):
            set_asking(choice)
        else:
            app.spawn(app.peers.do(view.id, choice))

    def yes(choice: Choice) -> None:
        set_asking(None)
        app.spawn(app.peers.do(view.id, choice))

    dialog = None
    if asking is not None and asking in view.choices:
        dialog = _question(view, asking, t, yes, lambda: set_asking(None))
    ft.use_dialog(dialog)
    words = standing_words(view, t, people.name(view.other_id) or t("someone"), app)
    lost = (
        view.standing in ("failed", "expired")
        or (view.standing == "here" and view.row.state == "failed")
        or view.server_copy == "unvouched"
    )
    lines: list[ft.Control] = [
        text(short_name(view.name), Type.BODY_STRONG, lines=2),
        ft.Semantics(
            identifier=f"peer-state-{view.id}",
            live_region=True,
            content=text(_with_units(words), Type.SECONDARY, color=Colour.LOSS if lost else Colour.SECONDARY),
        ),
    ]
    if view.standing == "offer_web":
        lines.append(text(t("chat.p2p_web", name=app_name(app, t)), Type.SMALL, color=Colour.SECONDARY))
    elif view.group != "done":
        lines.append(text(t("chat.p2p"), Type.SMALL, color=Colour.SECONDARY))
    if view.is_new_device and view.standing in ("offer", "here"):
        name = people.name(view.other_id) or t("someone")
        key = "p2p.new_device_offer" if view.standing == "offer" else "p2p.new_device"
        lines.append(text(t(key, name=name), Type.SMALL, color=Colour.LOSS))
    if view.safety_number:
        number = number_lines(view.safety_number)
        lines.append(text(t("p2p.number", number=number), Type.SECONDARY, color=Colour.SECONDARY))
    icons, buttons = _buttons(view, t, app, do)
    top = ft.Row(
        [_lead(view), ft.Column(lines, spacing=Space.XXS, tight=True, expand=True)],
        spacing=Space.M,
        vertical_alignment=ft.CrossAxisAlignment.START,
    )
    parts: list[ft.Control] = [top]
    if icons or buttons:
        # Below, so that the name keeps its ending and the figures stand in one line.
        parts.append(ft.Row([*icons, *buttons], spacing=Space.XS, run_spacing=Space.XS, wrap=True))
    return ft.Semantics(
        identifier=f"peer-{view.id}",
        container=True,
        content=ft.Column(parts, spacing=Space.S, tight=True, horizontal_alignment=ft.CrossAxisAlignment.STRETCH),
    )


def _question(
    view: PeerView, choice: Choice, t: Translator, yes: Callable[[Choice], None], no: Callable[[], None]
) -> ft.AlertDialog:
    """Before something is thrown away, or leaves the two devices."""
    if choice == "store":
        return states.confirm(
            t("p2p.store_title"), t("p2p.store_line", size=size(view.size_bytes, t)), yes=t("p2p.store_yes"),
            no=t("p2p.store_no"), on_yes=lambda: yes("store"), on_no=no, danger=False,
        )  # fmt: skip
    return states.confirm(
        t("file.cancel_title"), t("file.cancel_line"), yes=t("file.cancel_yes"), no=t("file.cancel_no"),
        on_yes=lambda: yes("cancel"), on_no=no,
    )  # fmt: skip


def _with_units(words: str) -> str:
    """No line ends between a figure and its unit."""
    return re.sub(r"(?<=\d) ", "\u00a0", words)


def number_lines(number: str) -> str:
    """A safety number in two lines of the same length, which are easier to compare."""
    groups = number.split()
    half = (len(groups) + 1) // 2
    return "\n".join("\u00a0".join(part) for part in (groups[:half], groups[half:]))


def app_name(app: AppState, t: Translator) -> str:
    """What the app is called here: by its server, else by its build."""
    server = app.session.server
    return server.name if server is not None and server.name else t("app.name")


def standing_words(view: PeerView, t: Translator, name: str, app: AppState) -> str:
    """One line: how it stands."""
    whole, done = size(view.size_bytes, t), size(view.done_bytes, t)
    if view.standing == "here":
        if view.row.state == "waiting":
            return t("p2p.waiting", name=name, done=done, size=whole)
        return progress_words(view.row, t, address=app.session.address)
    key = f"p2p.{view.standing}"
    if view.standing in ("declined", "done", "failed", "expired"):
        key += "_out" if view.mine else "_in"
    if not view.is_confirmed and view.standing == "done":
        key = "p2p.done_unconfirmed"
    if view.server_copy:
        key = f"p2p.stored_{view.server_copy}"
    return t(key, name=name, size=whole, done=done)


def _lead(view: PeerView) -> ft.Control:
    """An icon; around it, while it moves, how far it is."""
    moves = view.standing in ("here", "away_out", "away_in")
    good = view.standing in ("done",)
    icon = ft.Icons.CHECK if good else ft.Icons.DEVICES if view.group != "done" else ICONS[file_kind(view.name, "")]
    disc = ft.Container(
        content=ft.Icon(icon, color=Colour.ACCENT if moves else Colour.ON_ACCENT, size=Size.ICON),
        width=Size.TOUCH,
        height=Size.TOUCH,
        bgcolor=None if moves else Colour.ACCENT,
        border_radius=Corner.ROUND,
        alignment=ft.Alignment.CENTER,
    )
    if not moves:
        return disc
    value = view.done_bytes / view.size_bytes if view.size_bytes else None
    ring = ft.ProgressRing(
        value=value, width=Size.TOUCH, height=Size.TOUCH, stroke_width=ChatSize.RING, color=Colour.ACCENT,
        bgcolor=Colour.LINE,
    )  # fmt: skip
    return ft.Stack([ring, disc], width=Size.TOUCH, height=Size.TOUCH)


def _buttons(
    view: PeerView, t: Translator, app: AppState, do: Callable[[Choice], None]
) -> tuple[list[ft.Control], list[ft.Control]]:
    """Small ones; those with words."""
    icons: list[ft.Control] = []
    glyphs: dict[Choice, tuple[ft.IconData, str]] = {
        "pause": (ft.Icons.PAUSE, "file.pause"),
        "resume": (ft.Icons.PLAY_ARROW, "file.resume"),
        "retry": (ft.Icons.REFRESH, "file.retry"),
    }
    for choice, (glyph, key) in glyphs.items():
        if choice in view.choices:
            icons.append(
                forms.icon_button(
                    glyph, t(key, name=view.name), lambda e, choice=choice: do(choice),
                    identifier=f"peer-{choice}-{view.id}",
                )
            )  # fmt: skip
    below: list[ft.Control] = []
    if "accept" in view.choices:
        below.append(
            states.primary_button(t("p2p.accept"), lambda e: do("accept"), identifier=f"peer-accept-{view.id}")
        )
    labels: tuple[Choice, ...] = ("decline", "store", "cancel")
    for choice in labels:
        if choice in view.choices:
            below.append(
                states.quiet_button(
                    t(f"p2p.{choice}"), lambda e, choice=choice: do(choice), identifier=f"peer-{choice}-{view.id}",
                    danger=choice != "store",
                )
            )  # fmt: skip
    if view.standing == "done" and not view.mine and view.path:
        below.append(_opening(view, t, app))
    return icons, below


def _opening(view: PeerView, t: Translator, app: AppState) -> ft.Control:
    touch = ft.context.page.platform in (ft.PagePlatform.ANDROID, ft.PagePlatform.IOS)
    work = share if touch else hand_over
    label = t("p2p.share" if touch else "p2p.open")
    return states.quiet_button(
        label, lambda e: app.spawn(work(app, view.path)), identifier=f"peer-open-{view.id}"
    )
