from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypersend_server.auth.tokens import ACCESS_TTL_S, AccessTokens, RefreshTokens
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import SessionRecord
from hypersend_server.signer import derive_key
from tests.auth.parts import SECRET, ManualClock

SESSION = SessionRecord(
    id="s1",
    user_id="u1",
    device="",
    ip="",
    salt=b"salt" * 4,
    generation=3,
    rotated_at=0,
    used_at=None,
    device_key=None,
    created_at=0,
    last_seen_at=0,
    ended_at=None,
)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(HyperSendError) as caught:
        call()
    return caught.value.code


def forged(key: bytes, **changes: Any) -> str:
    """A token like ours, with other claims; None leaves a claim out."""
    clock = ManualClock()
    ours = AccessTokens(SECRET, "server", clock).issue(SESSION, clock.now)
    headers = {"kid": jwt.get_unverified_header(ours)["kid"]}
    headers.update(changes.pop("headers", {}))
    algorithm = changes.pop("algorithm", "HS256")
    claims = {**jwt.decode(ours, options={"verify_signature": False}), **changes}
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm=algorithm, headers=headers)


def test_an_access_token_says_who_and_until_when() -> None:
    clock = ManualClock()
    tokens = AccessTokens(SECRET, "server", clock)
    token = tokens.issue(SESSION, clock.now)
    assert tokens.verify(token) == ("u1", "s1", 3, clock.now + ACCESS_TTL_S * 1000)
    clock.advance(ACCESS_TTL_S - 0.001)
    tokens.verify(token)
    clock.advance(0.001)
    assert code_of(lambda: tokens.verify(token)) == "token_expired"
    assert code_of(lambda: AccessTokens(SECRET, "server", clock).verify(token)) == "token_expired"


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")  # our key, under HS512
@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other"},
        {"aud": None},
        {"iss": "other"},
        {"iss": None},
        {"sub": None},
        {"sub": 7},
        {"exp": None},
        {"exp": "soon"},
        {"iat": None},
        {"sid": None},
        {"sid": 7},
        {"gen": None},
        {"gen": "3"},
        {"headers": {"kid": "other"}},
        {"algorithm": "HS512"},
    ],
    ids=str,
)
def test_a_token_with_other_claims_is_invalid_even_under_our_key(changes: dict[str, Any]) -> None:
    token = forged(derive_key(SECRET, "access-token"), **changes)
    assert code_of(lambda: AccessTokens(SECRET, "server", ManualClock()).verify(token)) == "token_invalid"


def test_foreign_keys_and_alg_none_are_invalid() -> None:
    tokens = AccessTokens(SECRET, "server", ManualClock())
    assert code_of(lambda: tokens.verify(forged(b"x" * 32))) == "token_invalid"
    assert code_of(lambda: tokens.verify(AccessTokens("z" * 40, "server", ManualClock()).issue(SESSION, 0))) == (
        "token_invalid"
    )
    claims = forged(b"x" * 32).split(".")[1]
    for alg in ("none", "None", "NONE", ""):
        header = base64.urlsafe_b64encode(json.dumps({"alg": alg, "typ": "JWT"}).encode()).rstrip(b"=").decode()
        for signature in ("", "AAAA"):
            bare = f"{header}.{claims}.{signature}"
            assert code_of(lambda bare=bare: tokens.verify(bare)) == "token_invalid"  # type: ignore[misc]


@given(
    st.one_of(
        st.text(),
        st.text(alphabet="eyJ.AQ0_-[]{}\ud800\x00", max_size=80),
        st.integers(1, 1500).map(lambda depth: base64.urlsafe_b64encode(b"[" * depth).decode().rstrip("=") + ".e30.AA"),
    )
)
def test_any_text_is_refused_with_one_code(text: str) -> None:
    assert code_of(lambda: AccessTokens(SECRET, "server", ManualClock()).verify(text)) == "token_invalid"


def test_verified_tokens_are_forgotten_when_there_are_many() -> None:
    tokens = AccessTokens(SECRET, "server", ManualClock())
    tokens._verified = {str(number): tokens.verify(tokens.issue(SESSION, ManualClock().now)) for number in range(8192)}
    tokens.verify(tokens.issue(SESSION, ManualClock().now))
    assert len(tokens._verified) == 8192


def test_a_refresh_token_is_the_same_each_time_and_of_its_session_alone() -> None:
    tokens = RefreshTokens(SECRET)
    token = tokens.issue(SESSION)
    assert token == RefreshTokens(SECRET).issue(SESSION)
    assert tokens.read(token) == ("s1", 3)
    tokens.check(token, SESSION)
    others = [None, msgspec.structs.replace(SESSION, salt=b"x" * 16), msgspec.structs.replace(SESSION, id="s2")]
    for other in others:
        assert code_of(lambda other=other: tokens.check(token, other)) == "token_invalid"  # type: ignore[misc]
    assert code_of(lambda: RefreshTokens("z" * 40).check(token, SESSION)) == "token_invalid"
    assert code_of(lambda: tokens.check(token.replace(".3.", ".4."), SESSION)) == "token_invalid"


@given(st.one_of(st.text(), st.text(alphabet="hsr1.0²9\ud800", max_size=40).map(lambda rest: "hsr1." + rest)))
def test_any_text_as_a_refresh_token_is_refused_with_one_code(text: str) -> None:
    def try_it() -> None:
        RefreshTokens(SECRET).check(text, SESSION)

    assert code_of(try_it) == "token_invalid"
