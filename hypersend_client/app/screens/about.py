"""Versions, the server and licences."""

from __future__ import annotations

import flet as ft

from hypersend_client import __version__
from hypersend_client.app.components import forms
from hypersend_client.app.frame import Screen
from hypersend_client.app.router import use_app, use_t, watch
from hypersend_client.app.screens.settings import pair
from hypersend_client.app.words import size


@ft.component
def About() -> ft.Control:
    app, t = use_app(), use_t()
    session = watch(app.session)
    server = session.server
    unknown = t("about.unknown")
    lines = [
        pair(t("about.version"), __version__),
        pair(t("about.server"), session.address),
        pair(t("about.server_version"), server.version if server is not None else unknown),
        pair(t("about.max_file"), size(server.max_file_size, t) if server is not None else unknown),
    ]
    body = [forms.section("", lines), forms.section("", [pair(t("about.licences"), t("about.licences_text"))])]
    return Screen(t("about.title"), forms.page_of(body))
