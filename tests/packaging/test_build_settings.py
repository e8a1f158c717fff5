"""The settings of `flet build`, the pictures, the texts for the stores, and the workflow that builds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import hypersend_client
from hypersend_client.app.tokens import DEFAULT_ACCENT
from tests.packaging.staging import CLIENT, settings

REPOSITORY = CLIENT.parent
STORE = REPOSITORY / "fastlane" / "metadata" / "android"
WORKFLOW = REPOSITORY / ".github" / "workflows" / "apk.yml"
# What `flet build` 1.0.5 reads. Source: flet_cli.commands.build_base, and the Android template of that version.
KNOWN = {
    "": {"product", "company", "copyright", "org", "bundle_id", "artifact", "build_number", "app", "splash", "android",
         "linux", "macos", "windows"},
    "app": {"module", "exclude"},
    "splash": {"color", "dark_color", "android"},
    "android": {"adaptive_icon_background", "min_sdk_version", "target_sdk_version", "split_per_abi", "target_arch",
                "permission", "manifest_application", "gradle_properties"},
    "linux": {"dependencies"}, "macos": {"dependencies"}, "windows": {"dependencies"},
}


def flet() -> dict[str, Any]:
    found: dict[str, Any] = settings()["tool"]["flet"]
    return found


def test_version_of_the_app_is_that_of_the_package() -> None:
    assert settings()["project"]["version"] == hypersend_client.__version__


def test_flet_is_pinned_to_the_version_that_everything_else_uses() -> None:
    pinned = next(name for name in settings()["project"]["dependencies"] if name.startswith("flet="))
    assert pinned in (REPOSITORY / "setup.cfg").read_text(encoding="utf-8")
    assert f'"flet[cli]{pinned.removeprefix("flet")}"' in WORKFLOW.read_text(encoding="utf-8")


@pytest.mark.parametrize("table", KNOWN)
def test_no_setting_is_misspelt(table: str) -> None:
    assert (flet()[table] if table else flet()).keys() <= KNOWN[table]


def test_what_is_left_out_exists_and_the_entry_is_there() -> None:
    # The static copy of the web app is built, so a fresh checkout has none.
    missing = [path for path in flet()["app"]["exclude"] if not (CLIENT / path).exists()]
    assert set(missing) <= {"web/static"}
    assert (CLIENT / f"{flet()['app']['module']}.py").is_file()


def test_app_asks_for_no_permission_that_the_manual_does_not_explain() -> None:
    manual = (REPOSITORY / "docs" / "android.md").read_text(encoding="utf-8")
    for permission in flet()["android"]["permission"]:
        assert f"`{permission.rpartition('.')[2]}`" in manual


def test_no_password_stands_in_the_settings() -> None:
    assert "signing" not in flet()["android"]
    assert not re.search("password|secret", (CLIENT / "pyproject.toml").read_text(encoding="utf-8"), re.IGNORECASE)


@pytest.mark.parametrize("name", ["icon.png", "icon_android.png", "splash.png"])
def test_pictures_are_large_enough_for_every_screen(name: str) -> None:
    with Image.open(CLIENT / "assets" / name) as picture:
        assert picture.format == "PNG"
        assert picture.size == (1024, 1024)


def test_androids_icon_keeps_its_mark_inside_what_every_launcher_shows() -> None:
    with Image.open(CLIENT / "assets" / "icon_android.png") as picture:
        rgb = picture.convert("RGB")
    around = tuple(int(DEFAULT_ACCENT[i : i + 2], 16) for i in (1, 3, 5))
    assert rgb.getpixel((0, 0)) == around
    assert flet()["android"]["adaptive_icon_background"] == DEFAULT_ACCENT
    mark = [
        (x, y) for x in range(0, 1024, 8) for y in range(0, 1024, 8) if rgb.getpixel((x, y)) == (255, 255, 255)]
    assert mark
    # A circle of two thirds of the side: the adaptive icon's safe zone is 72 of 108 dp.
    assert max(((x - 512) ** 2 + (y - 512) ** 2) ** 0.5 for x, y in mark) <= 1024 / 3


@pytest.mark.parametrize("language", ["en-US", "hi-IN"])
def test_store_texts_fit_the_stores_limits(language: str) -> None:
    folder = STORE / language
    for name, most in (("title", 30), ("short_description", 80), ("full_description", 4000)):
        text = (folder / f"{name}.txt").read_text(encoding="utf-8").strip()
        assert 0 < len(text) <= most, name
        assert "HyperSend" in text or name == "short_description"
        assert bool(re.search("[\u0900-\u097f]", text)) is (language == "hi-IN")
    assert (folder / "changelogs" / f"{flet()['build_number']}.txt").read_text(encoding="utf-8").strip()


def test_every_action_of_the_workflow_is_pinned_to_a_commit() -> None:
    used = re.findall(r"uses: (\S+)( # v[\d.]+)?$", WORKFLOW.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(used) >= 4
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
        assert comment


@pytest.mark.parametrize("tool", [
    ["yamllint", "--strict", "-c", ".yamllint.yml"], ["zizmor", "--offline", "--quiet", "--persona=pedantic"],
], ids=lambda tool: tool[0])
def test_workflow_passes(tool: list[str]) -> None:
    program = Path(sys.executable).with_name(tool[0])
    if not program.exists():
        pytest.skip(f"{tool[0]} is not installed: pip install -e '.[dev]'")
    done = subprocess.run([program, *tool[1:], WORKFLOW], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
