"""`Accounts` on SQLite."""

from __future__ import annotations

from hypersend_server.metadata.sqlite.accounts_admin import Administration
from hypersend_server.metadata.sqlite.accounts_codes import Codes
from hypersend_server.metadata.sqlite.accounts_guesses import GuessCounts
from hypersend_server.metadata.sqlite.accounts_sessions import Sessions
from hypersend_server.metadata.sqlite.accounts_users import Users
from hypersend_server.metadata.sqlite.engine import Engine


class SqliteAccounts(Users, Sessions, Codes, Administration, GuessCounts):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
