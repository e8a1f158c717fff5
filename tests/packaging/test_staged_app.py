"""The packaged app starts from its staged folder, with what it declares and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.phone import Phone
from tests.packaging.staging import clean_env, make_python, settings, stage

WHEELS = json.loads((Path(__file__).with_name("android_wheels.json")).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Python with the app's own dependencies alone."""
    try:
        yield make_python(tmp_path_factory.mktemp("packaged") / "env")
    except subprocess.CalledProcessError as error:
        reason = f"the app's dependencies could not be installed: {error.stderr}"
        if os.environ.get("HYPERSEND_REQUIRE_PARTS"):
            pytest.fail(reason)
        pytest.skip(reason)  # a laptop without a network


async def start(app: Path, python: Path, home: Path, **env: str) -> asyncio.subprocess.Process:
    """As Flutter starts it: the entry module run as the main one, by its name."""
    home.mkdir(exist_ok=True)
    entry = settings()["tool"]["flet"]["app"]["module"]
    return await asyncio.create_subprocess_exec(
        python, "-c", f"import runpy, sys; sys.path.insert(0, {str(app)!r}); runpy.run_module({entry!r}, "
        "run_name='__main__')", cwd=home, stderr=asyncio.subprocess.PIPE,
        env=clean_env(
            HOME=str(home), LANG="en_GB.UTF-8", FLET_PLATFORM="android", FLET_SERVER_UDS_PATH=str(home / "flutter"),
            FLET_APP_STORAGE_DATA=str(home / "data"), PYTHONDONTWRITEBYTECODE="1", **env))


async def opens_with(wanted: str, app: Path, python: Path, home: Path, **env: str) -> list[str]:
    """All that was drawn until `wanted` was."""
    process = await start(app, python, home, **env)
    phone = None
    try:
        async with asyncio.timeout(120):
            phone = await Phone.connect(home / "flutter", process)
            await phone.register()
            await phone.see(wanted)
        return phone.drawn
    except (AssertionError, asyncio.IncompleteReadError, TimeoutError) as error:
        process.kill()
        assert process.stderr is not None
        drawn = phone.drawn[-20:] if phone is not None else []
        pytest.fail(f"{error!r}; drawn last: {drawn}; {(await process.stderr.read()).decode()[-3000:]}")
    finally:
        if phone is not None:
            phone.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("compiled", [False, True], ids=["sources", "bytecode"])
async def test_staged_app_opens_on_a_phone_and_asks_for_the_server(
    tmp_path: Path, python: Path, compiled: bool
) -> None:
    app = stage(tmp_path / "app", compiled=compiled)
    if compiled:
        # The phone's Python compiled it; here that is the one of the tests, and of the environment made from it.
        assert not list(app.rglob("*.py"))
    drawn = await opens_with("chat.example.org", app, python, tmp_path / "home")
    assert "HyperSend" in drawn


async def test_build_with_a_name_and_a_server_of_its_own_shows_both(tmp_path: Path, python: Path) -> None:
    app = stage(tmp_path / "app")
    file = app / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    for old, new in (('server = ""', 'server = "http://127.0.0.1:9"'),
                     ('product = "HyperSend"', 'product = "Tea house"')):
        assert text.count(old) == 1
        text = text.replace(old, new)
    file.write_text(text, encoding="utf-8")
    drawn = await opens_with("127.0.0.1:9", app, python, tmp_path / "home")
    assert "Welcome to Tea house" in drawn
    assert not any("chat.example.org" in text for text in drawn)


def test_staged_folder_holds_the_app_and_leaves_the_web_and_the_command_line_behind(tmp_path: Path) -> None:
    app = stage(tmp_path / "app")
    files = {path.relative_to(app).as_posix() for path in app.rglob("*") if path.is_file()}
    assert {"packaged.py", "main.py", "sdk/client.py", "app/i18n/hi.json", "assets/icon.png"} <= files
    assert not [name for name in files if name.startswith(("cli/", "android/", "web/static/", "web/fonts/"))]
    assert sum((app / name).stat().st_size for name in files) < 3_000_000


def test_every_dependency_is_pure_python_or_has_wheels_for_android(tmp_path: Path, python: Path) -> None:
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        check=True, capture_output=True, text=True)
    installed = {
        package["name"].lower(): package["version"] for package in json.loads(listed.stdout)
        if package["name"].lower() not in ("pip", "setuptools")}
    assert {"flet", "aiohttp", "msgpack"} <= installed.keys()
    asked = [f"{name}=={version}" for name, version in installed.items() if name not in WHEELS["packages"]]
    for abi in ("arm64_v8a", "x86_64"):
        found = subprocess.run(
            [python, "-m", "pip", "install", "--dry-run", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--ignore-installed", "--only-binary", ":all:", "--target", tmp_path / abi, "--implementation", "cp",
             "--python-version", "3.14", "--abi", "cp314", "--abi", "abi3", "--abi", "none",
             "--platform", f"android_24_{abi}", "--platform", f"android_21_{abi}", *asked],
            capture_output=True, text=True, env=clean_env(), check=False)
        assert found.returncode == 0, found.stderr
    assert WHEELS["packages"].keys() <= installed.keys(), "the table names a package that nothing needs"


def test_app_on_a_phone_imports_none_of_the_servers_packages(tmp_path: Path, python: Path) -> None:
    app = stage(tmp_path / "app")
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import packaged\n"
        "packaged.name_folder(Path(sys.argv[1])); import hypersend_client.main\n"
        "print(sorted({n.split('.')[0] for n in sys.modules} & "
        "{'uvicorn', 'rich', 'flet_web', 'flet_webview', 'brotli', 'msgspec', 'fastapi', 'hypersend_server'}))")
    done = subprocess.run(
        [python, "-c", script, app], cwd=tmp_path, capture_output=True, text=True, env=clean_env(), check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_table_of_wheels_names_its_source() -> None:
    assert "https://flet.dev/" in WHEELS["source"]
    assert all(recipe.startswith("recipes/") for recipe in WHEELS["packages"].values())
    assert sys.version_info >= (3, 11)
