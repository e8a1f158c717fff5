from __future__ import annotations

from pathlib import Path

import pytest

from hypersend_server.settings import SETTINGS, Settings, SettingsError, example_env, size_bytes
from tests.process import REPOSITORY


def test_every_setting_stands_in_the_example_with_its_default() -> None:
    assert (REPOSITORY / "config" / "example.env").read_text() == example_env()


def test_settings_have_a_field_for_each_row_of_the_table_and_no_other() -> None:
    assert set(Settings.__dataclass_fields__) == {setting.attribute for setting in SETTINGS}


def test_the_defaults_are_themselves_valid() -> None:
    settings = Settings.from_env({})
    assert settings.max_file_size == 40 * 1024**3
    assert settings.registration == "invite"
    assert settings.host == "127.0.0.1"


WRONG = {
    "PORT": "http",
    "PUBLIC_URL": "chat.example.org",
    "SECRET_KEY": "short",
    "APP_NAME": "x" * 61,
    "ACCENT_COLOR": "blue",
    "LOGO": "/nowhere/logo.png",
    "REGISTRATION": "maybe",
    "MAX_FILE_SIZE": "big",
    "USER_QUOTA": "-1",
    "UPLOAD_TTL": "a week",
    "STORAGE_BACKEND": "tape",
    "X_ACCEL_PREFIX": "files",
    "TRUSTED_PROXIES": "the proxy",
    "ALLOWED_ORIGINS": "example.org",
    "WEB_CLIENT": "maybe",
    "RATE_LIMITS": "yes",
    "BACKGROUND_JOBS": "1",
    "LOG_FORMAT": "xml",
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_wrong_setting_is_named(name: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_env({name: WRONG[name]})
    (problem,) = raised.value.problems
    assert problem.startswith(f"{name} must be ")


def test_all_problems_are_reported_together_and_no_secret_among_them() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_env(WRONG)
    assert len(raised.value.problems) == len(WRONG)
    assert "short" not in str(raised.value)


def test_an_empty_variable_is_an_unset_one() -> None:
    assert Settings.from_env({"PORT": "", "USER_QUOTA": ""}) == Settings.from_env({})


@pytest.mark.parametrize(("text", "size"), [
    ("0", 0), ("40GiB", 40 * 2**30), ("500MB", 500_000_000), ("1.5 GiB", 3 * 2**29), ("64k", 65536), ("7B", 7)])
def test_sizes(text: str, size: int) -> None:
    assert size_bytes(text) == size


def test_the_data_root_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.from_env({}).data_root == tmp_path / "data"
