"""Draw assets/ anew from web/icons/icon.svg; needs Playwright and Chromium: `python …/android/make_icons.py`.

icon.png: the icon on its tile. icon_android.png: to the edges and with the mark in the middle two thirds, as the
launcher cuts its own shape out.
splash.png: the tile within the circle that Android 12 shows of a splash picture.
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import sync_playwright

CLIENT = Path(__file__).resolve().parents[1]
SIDE = 1024
STORE = CLIENT.parent / "fastlane/metadata/android/en-US/images/icon.png"
# name: how much of the side the tile takes, and what stands around it.
PICTURES = {"icon.png": (1.0, "transparent"), "icon_android.png": (0.72, "#2F6BED"), "splash.png": (0.6, "transparent")}


def main() -> None:
    svg = (CLIENT / "web/icons/icon.svg").read_text(encoding="utf-8")
    assets = CLIENT / "assets"
    assets.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": SIDE, "height": SIDE})

        def draw(path: Path, part: float, around: str, side: int = SIDE) -> None:
            width = round(side * part)
            page.set_viewport_size({"width": side, "height": side})
            page.set_content(
                f'<body style="background:{around};margin:0;display:grid;place-items:center;height:100vh">'
                f'<div style="width:{width}px;height:{width}px">{svg}</div>'
            )
            page.screenshot(path=path, omit_background=True)

        for name, (part, around) in PICTURES.items():
            draw(assets / name, part, around)
        draw(STORE, 1.0, "#2F6BED", 512)
        browser.close()


if __name__ == "__main__":
    main()
