from __future__ import annotations

from pathlib import Path

import pytest

from hypersend_server.settings import SETTINGS, Settings, SettingsError, example_env, settings_page, size_bytes
from tests.process import REPOSITORY


def test_every_setting_stands_in_the_example_with_its_default() -> None:
    assert (REPOSITORY / "config" / "example.env").read_text() == example_env()


def test_the_page_of_settings_is_the_one_made_from_the_table() -> None:
    assert (REPOSITORY / "docs" / "settings.md").read_text() == settings_page()


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
    "S3_ENDPOINT": "minio:9000",
    "S3_PUBLIC_ENDPOINT": "ftp://files.example.org",
    "S3_BUCKET": "Not A Bucket",
    "S3_DIRECT": "sometimes",
    "S3_BUFFER_BYTES": "a lot",
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


S3 = {"S3_ENDPOINT": "http://127.0.0.1:9000", "S3_BUCKET": "files", "S3_ACCESS_KEY": "key", "S3_SECRET_KEY": "hush"}


def test_object_storage_needs_its_address_bucket_and_key() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_env({"STORAGE_BACKEND": "s3", "PORT": "http"})
    assert [problem.split()[0] for problem in raised.value.problems] == [
        "PORT", "S3_ENDPOINT", "S3_BUCKET", "S3_ACCESS_KEY", "S3_SECRET_KEY"]
    with pytest.raises(SettingsError) as raised:
        Settings.from_env({**S3, "S3_BUCKET": ""})
    assert raised.value.problems == ["S3_BUCKET must be set where S3_ENDPOINT is"]
    assert Settings.from_env({**S3, "STORAGE_BACKEND": "s3"}).s3_direct


def test_the_buffer_for_object_storage_holds_two_of_the_largest_chunks() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_env({**S3, "MAX_FILE_SIZE": "400GiB", "S3_BUFFER_BYTES": "91MiB"})
    assert raised.value.problems == [
        f"S3_BUFFER_BYTES must be at least {92 * 2**20}, twice the largest chunk that MAX_FILE_SIZE allows"]
    assert Settings.from_env({**S3, "MAX_FILE_SIZE": "400GiB", "S3_BUFFER_BYTES": "92MiB"})
    assert Settings.from_env({"MAX_FILE_SIZE": "400GiB", "S3_BUFFER_BYTES": "1MiB"}).storage_backend == "local"


def test_an_empty_variable_is_an_unset_one() -> None:
    assert Settings.from_env({"PORT": "", "USER_QUOTA": ""}) == Settings.from_env({})


@pytest.mark.parametrize(("text", "size"), [
    ("0", 0), ("40GiB", 40 * 2**30), ("500MB", 500_000_000), ("1.5 GiB", 3 * 2**29), ("64k", 65536), ("7B", 7)])
def test_sizes(text: str, size: int) -> None:
    assert size_bytes(text) == size


def test_the_data_root_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.from_env({}).data_root == tmp_path / "data"


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret_key"
    file.write_text("k" * 40 + "\n")
    assert Settings.from_env({"SECRET_KEY_FILE": str(file)}).secret_key == "k" * 40
    assert Settings.from_env({"SECRET_KEY_FILE": str(file), "SECRET_KEY": "s" * 40}).secret_key == "s" * 40
    for name, text, why in (("short", "tooshort", "at least 32 bytes"), ("empty", "\n", "it is empty"),
                            ("missing", None, "No such file")):
        file = tmp_path / name
        if text is not None:
            file.write_text(text)
        with pytest.raises(SettingsError, match=why) as raised:
            Settings.from_env({"SECRET_KEY_FILE": str(file)})
        (problem,) = raised.value.problems
        assert problem.startswith("SECRET_KEY must be ")
        assert "tooshort" not in problem


def test_the_templates_own_secret_is_refused() -> None:
    values = dict(line.split("=", 1) for line in example_env().splitlines() if line and not line.startswith("#"))
    assert len(values["SECRET_KEY"]) >= 32
    with pytest.raises(SettingsError, match="not the template's") as raised:
        Settings.from_env(values)
    assert values["SECRET_KEY"] not in str(raised.value)
    assert Settings.from_env({**values, "SECRET_KEY": "k" * 40}).data_root
