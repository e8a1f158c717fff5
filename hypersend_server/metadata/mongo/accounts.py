"""`Accounts` on MongoDB."""

from __future__ import annotations

from hypersend_server.metadata.mongo.accounts_admin import Administration
from hypersend_server.metadata.mongo.accounts_codes import Codes
from hypersend_server.metadata.mongo.accounts_guesses import GuessCounts
from hypersend_server.metadata.mongo.accounts_sessions import Sessions
from hypersend_server.metadata.mongo.accounts_users import Users
from hypersend_server.metadata.mongo.engine import Engine


class MongoAccounts(Users, Sessions, Codes, Administration, GuessCounts):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
