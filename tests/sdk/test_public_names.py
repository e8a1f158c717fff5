from __future__ import annotations

import subprocess
import sys

import hypersend_client.sdk as sdk

DOCUMENTED = """
Account ApiError Changes Chat ClientTooOld ConnectionFailed Draft Entry File FileTokenStore HyperSend HyperSendError
InvalidAddress KeyringTokenStore LocalStorageFailed Member MemoryTokenStore Message NotHyperSend OtherServer Page
ServerInfo ServerTooOld SignedOut TlsFailed TokenStore User
"""


def test_the_public_names_are_the_documented_ones() -> None:
    assert sdk.__all__ == DOCUMENTED.split()
    assert all(hasattr(sdk, name) for name in sdk.__all__)


def test_every_error_has_a_code_of_its_own_and_says_whether_a_retry_helps() -> None:
    kinds = [getattr(sdk, name) for name in sdk.__all__]
    errors = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, sdk.HyperSendError)]
    codes = [kind.code for kind in errors if kind is not sdk.ApiError]
    assert len(set(codes)) == len(codes)
    assert [kind.__name__ for kind in errors if kind.retryable] == ["ConnectionFailed"]


def test_the_sdk_needs_neither_flet_nor_the_server_nor_what_has_no_android_wheel() -> None:
    program = (
        "import sys, hypersend_client.sdk\n"
        "bad = {'flet', 'msgspec', 'pydantic', 'hypersend_server', 'hypersend_storage', 'keyring'} & set(sys.modules)\n"
        "sys.exit(', '.join(bad) or 0)")
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
