"""Where the app begins, on every platform."""

from __future__ import annotations

import flet as ft


def main(page: ft.Page) -> None:
    """Draw a new page."""
    page.title = "HyperSend"
    page.add(ft.Text("HyperSend", size=20, weight=ft.FontWeight.W_600))


if __name__ == "__main__":
    ft.run(main)
