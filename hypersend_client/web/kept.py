"""The session that a browser keeps for a page: tokens in memory alone, renewed without a refresh token.

Where the browser came signed in, its handshake brought an access token and a renewal (`account_in`). Where somebody
signs in on the page, they get a session as on any device, and then:

    url, renewal = await hs.web_ticket(browser.browser)      # the browser opens the url in a frame
    await hs.is_kept(renewal)                                 # True once it did

From then on the account's refresh token is `KEPT` and a renewal, good for a day, and `POST /web/token` takes it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

from hypersend_client.sdk import Account, ApiError, HyperSend, NotHyperSend
from hypersend_client.web.browser import Browser

KEPT = "kept:"


def is_kept(account: Account | None) -> bool:
    """Whether the browser keeps this session, rather than this page alone."""
    return account is not None and account.refresh_token.startswith(KEPT)


def account_in(browser: Browser, url: str) -> Account | None:
    """Who is signed in there; None: nobody. url: of the server, normalised.

    The token is the server's own word, and goes back to it: what it says is read and not checked.
    """
    if browser.access_token is None or browser.renewal is None:
        return None
    try:
        payload = browser.access_token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        ids = [claims[name] for name in ("iss", "sub", "sid")]
    except (ValueError, IndexError, KeyError, TypeError):
        return None
    if not all(isinstance(text, str) and text for text in ids):
        return None
    server_id, user_id, session_id = ids
    return Account(server_id, user_id, url, session_id, browser.access_token, KEPT + browser.renewal)


class WebHyperSend(HyperSend):
    """The client of one page."""

    async def web_ticket(self, browser: str) -> tuple[str, str]:
        """(path that the browser is to open in a frame within a minute, renewal). Raises: HyperSendError."""
        answer = await self.transport.call(
            "POST", f"{self.url}/web/ticket", json={"browser": browser}, idempotent=True
        )
        try:
            return str(answer.data["url"]), str(answer.data["renewal"])
        except (KeyError, TypeError) as error:
            raise NotHyperSend(self.url, "the ticket cannot be read") from error

    async def is_kept(self, renewal: str) -> bool:
        """Whether the browser keeps this session by now; if so, this client renews it that way from now on.

        Raises: HyperSendError where the server cannot be asked.
        """
        try:
            answer = await self._renewed(renewal)
        except ApiError as error:
            if error.code == "session_ended":
                return False
            raise
        account = self.account
        if account is None:
            return False
        await self.session.begin(
            replace(account, access_token=answer["access_token"], refresh_token=KEPT + answer["renewal"]),
            float(answer["expires_in"]),
        )
        return True

    async def _renewed(self, renewal: str) -> dict[str, Any]:
        answer = await self.transport.call(
            "POST", f"{self.url}/web/token", json={"renewal": renewal}, auth=False, idempotent=True
        )
        found = answer.data if isinstance(answer.data, dict) else {}
        if not all(isinstance(found.get(name), str) for name in ("access_token", "renewal")) or not isinstance(
            found.get("expires_in"), int
        ):
            raise NotHyperSend(self.url, "the token cannot be read")
        return found

    async def _refresh(self, refresh_token: str) -> dict[str, Any]:
        account = self.account
        if account is None or not refresh_token.startswith(KEPT):
            return await super()._refresh(refresh_token)
        answer = await self._renewed(refresh_token.removeprefix(KEPT))
        user = {
            "id": account.user_id,
            "email": account.email,
            "username": account.username,
            "display_name": account.display_name,
        }
        return {
            "access_token": answer["access_token"],
            "refresh_token": KEPT + answer["renewal"],
            "expires_in": answer["expires_in"],
            "session_id": account.session_id,
            "user": user,
        }
