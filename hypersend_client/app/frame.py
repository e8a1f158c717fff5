"""The frame around every screen: top bar, banner, bottom bar or rail, panes, and the tree of addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import flet as ft

from hypersend_client.app.components import forms, states
from hypersend_client.app.components.text import text
from hypersend_client.app.components.update import UpdateNeeded, use_update_dialog
from hypersend_client.app.router import (
    SIGNED_IN,
    SIGNED_OUT,
    TABS,
    Place,
    back,
    go,
    match,
    set_app,
    use_app,
    use_t,
    watch,
)
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import LIST_WIDTH, RAIL_WIDTH, Colour, Corner, Size, Space, Type
from hypersend_client.app.transfer_list import running_count
from hypersend_client.app.words import explain

TAB_PATHS = ("/", "/transfers", "/settings")
TAB_ICONS = (
    (ft.Icons.CHAT_BUBBLE_OUTLINE, ft.Icons.CHAT_BUBBLE),
    (ft.Icons.SWAP_VERT, ft.Icons.SWAP_VERT),
    (ft.Icons.SETTINGS_OUTLINED, ft.Icons.SETTINGS),
)


@ft.component
def Screen(
    title: str | ft.Control,
    body: ft.Control,
    *,
    actions: Sequence[ft.Control] = (),
    leads_back: bool | None = None,
    floating: ft.Control | None = None,
) -> ft.Control:
    """One screen: a top bar with its title (text, or a control such as avatar and name), the banner, the body.

    leads_back: whether the top bar has a back button; None decides by the address and the width. floating: a
    button at the bottom right.
    """
    app, t = use_app(), use_t()
    panes = watch(app.layout).panes
    place, _ = match(ft.context.page.route or "/")
    if leads_back is None:
        leads_back = place is not None and place.parent is not None and (panes == 1 or place.parent not in TAB_PATHS)
    head: list[ft.Control] = []
    if leads_back:
        head.append(forms.icon_button(ft.Icons.ARROW_BACK, t("back"), lambda e: back(), identifier="back"))
    heading = ft.Semantics(content=text(title, Type.TITLE, lines=1), header=True) if isinstance(title, str) else title
    head.append(ft.Container(content=heading, expand=True, padding=ft.Padding.only(left=0 if leads_back else Space.L)))
    layers: list[ft.Control] = [ft.Column([Banner(), ft.Container(content=body, expand=True)], spacing=0, expand=True)]
    if floating is not None:
        layers.append(ft.Container(content=floating, right=Space.L, bottom=Space.L))
    return ft.Column(
        [
            ft.Container(
                padding=ft.Padding.symmetric(horizontal=Space.XS, vertical=Space.XS),
                content=ft.Row(
                    [*head, *actions, ft.Container(height=Size.TOUCH)],
                    spacing=Space.XS,
                    vertical_alignment=ft.CrossAxisAlignment.CENTER,
                ),
            ),
            ft.Stack(layers, expand=True, fit=ft.StackFit.EXPAND),
        ],
        spacing=0,
        expand=True,
    )


@ft.component
def Banner() -> ft.Control:
    """The thin line about the connection; it shows only when a break lasts."""
    app, t = use_app(), use_t()
    banner = watch(app.link).banner
    return ft.Container(
        visible=bool(banner),
        bgcolor=Colour.BANNER,
        padding=ft.Padding.symmetric(horizontal=Space.L, vertical=Space.XS),
        content=ft.Semantics(
            live_region=True,
            identifier="banner",
            content=text(
                t(f"banner.{banner}") if banner else "",
                Type.SECONDARY,
                color=Colour.ON_BANNER,
                align=ft.TextAlign.CENTER,
            ),
        ),
    )


# Bars


# One look for bar and rail, with names that tests and screen readers can use.


def _tab(
    name: str, path: str, icons: tuple[ft.IconData, ft.IconData], chosen: bool, label: str, badge: int
) -> ft.Control:
    icon, selected = icons
    mark: list[ft.Control] = [
        ft.Container(
            content=ft.Icon(
                selected if chosen else icon, color=Colour.ON_SELECTED if chosen else Colour.SECONDARY, size=Size.ICON
            ),
            bgcolor=Colour.SELECTED if chosen else None,
            border_radius=Corner.ROUND,
            padding=ft.Padding.symmetric(horizontal=Space.L, vertical=Space.XS),
        )
    ]
    if badge:
        mark.append(
            ft.Container(
                content=text(str(badge), Type.SMALL_STRONG, color=Colour.ON_LOSS),
                bgcolor=Colour.LOSS,
                border_radius=Corner.ROUND,
                padding=ft.Padding.symmetric(horizontal=Space.XS),
                right=0,
                top=0,
            )
        )
    return ft.Semantics(
        label=label,
        identifier=f"tab-{name}",
        button=True,
        selected=chosen,
        exclude_semantics=True,
        on_tap=lambda e: go(path),
        content=ft.Container(
            ink=True,
            border_radius=Corner.CARD,
            padding=ft.Padding.symmetric(horizontal=Space.XS, vertical=Space.S),
            on_click=lambda e: go(path),
            content=ft.Column(
                [
                    ft.Stack(mark, clip_behavior=ft.ClipBehavior.NONE),
                    text(label, Type.SMALL_STRONG, color=Colour.TEXT if chosen else Colour.SECONDARY, lines=1),
                ],
                spacing=Space.XXS,
                tight=True,
                horizontal_alignment=ft.CrossAxisAlignment.CENTER,
            ),
        ),
    )


def _tabs(tab: str, t: Callable[[str], str], unread: int, moving: int, newer: bool) -> list[ft.Control]:
    badges = {"chats": unread, "transfers": moving, "settings": int(newer)}
    return [
        _tab(name, path, icons, name == tab, t(f"tab.{name}"), badges.get(name, 0))
        for name, path, icons in zip(TABS, TAB_PATHS, TAB_ICONS, strict=True)
    ]


@ft.component
def BottomBar(tab: str) -> ft.Control:
    app, t = use_app(), use_t()
    unread, peers = watch(app.chats).unread, watch(app.peers)
    moving = running_count(watch(app.transfers)) + peers.moving + peers.offers
    newer = watch(app.update).release is not None
    tabs: list[ft.Control] = [ft.Container(content=item, expand=True) for item in _tabs(tab, t, unread, moving, newer)]
    return ft.Container(
        bgcolor=Colour.BAR, padding=ft.Padding.symmetric(vertical=Space.XS), content=ft.Row(tabs, spacing=0)
    )


@ft.component
def Rail(tab: str) -> ft.Control:
    app, t = use_app(), use_t()
    unread, peers = watch(app.chats).unread, watch(app.peers)
    moving = running_count(watch(app.transfers)) + peers.moving + peers.offers
    newer = watch(app.update).release is not None
    return ft.Container(
        bgcolor=Colour.BAR,
        width=RAIL_WIDTH,
        padding=ft.Padding.symmetric(vertical=Space.S),
        content=ft.Column(
            _tabs(tab, t, unread, moving, newer), spacing=Space.S, horizontal_alignment=ft.CrossAxisAlignment.STRETCH
        ),
    )


def _view(content: ft.Control, *, route: str, navigation_bar: Any = None) -> ft.View:
    if navigation_bar is not None:
        content = ft.Column(
            [ft.Container(content=content, expand=True), navigation_bar],
            spacing=0,
            horizontal_alignment=ft.CrossAxisAlignment.STRETCH,
        )
    controls: list[ft.BaseControl] = [ft.SafeArea(content=content, expand=True)]
    return ft.View(route=route, controls=controls, padding=0, spacing=0, bgcolor=Colour.SURFACE)


# One pane: every address is a view of its own


def _narrow(place: Place) -> Callable[[], Any]:
    @ft.component
    def NarrowView() -> ft.View:
        bar = BottomBar(place.tab) if place.tab and place.parent is None else None
        path = ft.use_view_path()
        return _view(place.component(key=path), route=path, navigation_bar=bar)

    return NarrowView


def _narrow_routes(places: Sequence[Place]) -> list[ft.Route]:
    tops = {
        place.path: ft.Route(path=place.path, component=_narrow(place), children=[])
        for place in places
        if place.parent is None
    }
    for place in places:
        if place.parent is not None:
            top = next(
                (p for p in sorted(tops, key=len, reverse=True) if p != "/" and place.path.startswith(p + "/")), "/"
            )
            path = place.path if top == "/" else place.path.removeprefix(top)
            children = tops[top].children
            assert children is not None
            children.append(ft.Route(path=path, component=_narrow(place)))
    return [*(route for path, route in tops.items() if path != "/"), tops["/"]]


# Two panes: one view; the list of the tab stands at the left


@ft.component
def WideShell() -> ft.View:
    use_t()
    path = ft.use_route_location() or "/"
    place, _ = match(path)
    tab = place.tab if place is not None else "chats"
    outlet = ft.use_route_outlet()
    parts: list[ft.Control] = [Rail(tab)]
    if tab == "chats":
        side = next(p for p in SIGNED_IN if p.path == ("/archive" if path == "/archive" else "/"))
        parts.append(_side(side))
    elif tab == "settings":
        parts.append(_side(next(p for p in SIGNED_IN if p.path == "/settings")))
    parts.append(ft.Container(content=outlet, expand=True, bgcolor=Colour.SURFACE))
    row = ft.Row(parts, spacing=0, expand=True, vertical_alignment=ft.CrossAxisAlignment.STRETCH)
    return _view(row, route="/")


def _side(place: Place) -> ft.Control:
    return ft.Container(
        content=place.component(key=place.path),
        width=LIST_WIDTH,
        bgcolor=Colour.PANE,
        border=ft.Border.only(right=ft.BorderSide(Size.LINE, Colour.LINE)),
    )


def _wide(place: Place) -> Callable[[], Any]:
    @ft.component
    def WideLeaf() -> Any:
        path = ft.use_route_location()
        if place.path in ("/", "/archive"):
            return NothingChosen()
        if place.path == "/settings":
            return next(p for p in SIGNED_IN if p.path == "/settings/profile").component(key=path)
        return place.component(key=path)

    return WideLeaf


@ft.component
def NothingChosen() -> ft.Control:
    t = use_t()
    return ft.Container(
        expand=True,
        alignment=ft.Alignment.CENTER,
        content=ft.Container(
            content=text(t("chats.choose"), Type.SECONDARY, color=Colour.SECONDARY),
            bgcolor=Colour.CARD,
            border_radius=Corner.ROUND,
            padding=ft.Padding.symmetric(horizontal=Space.L, vertical=Space.S),
        ),
    )


def _wide_routes(places: Sequence[Place]) -> list[ft.Route]:
    children = [
        ft.Route(index=True, component=_wide(place))
        if place.path == "/"
        else ft.Route(path=place.path, component=_wide(place))
        for place in places
    ]
    return [ft.Route(path="/", component=WideShell, outlet=True, children=children)]


_ROUTES = {
    "signed_out": _narrow_routes(SIGNED_OUT),
    "narrow": _narrow_routes(SIGNED_IN),
    "wide": _wide_routes(SIGNED_IN),
}


# The root


@ft.component
def App(app: AppState) -> Any:
    """For `page.render_views(App, app)`."""
    set_app(app)
    return Root()


@ft.component
def Root() -> Any:
    app, t = use_app(), use_t()
    session = watch(app.session)
    panes = watch(app.layout).panes
    use_update_dialog(app)
    if watch(app.update).blocks:
        return [_view(UpdateNeeded(), route="/")]
    if session.status == "starting":
        return [_view(states.loading(t("starting")), route="/")]
    if session.status == "failed":
        assert session.error is not None
        line = explain(session.error, t, address=session.address)
        return [_view(states.failed(line, t("retry"), app.open), route="/")]
    name = "signed_out" if session.status == "signed_out" else "narrow" if panes == 1 else "wide"
    return cast(Any, ft.Router)(_ROUTES[name], SignedOutElsewhere if name == "signed_out" else NotFound, True, key=name)


@ft.component
def SignedOutElsewhere() -> Any:
    """At any address, who is not signed in is asked to."""
    return SIGNED_OUT[0].component()


@ft.component
def NotFound() -> ft.Control:
    t = use_t()
    return states.empty(ft.Icons.SEARCH_OFF, t("not_found"), action=t("not_found.action"), on_action=lambda e: go("/"))
