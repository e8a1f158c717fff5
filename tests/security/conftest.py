from __future__ import annotations

from tests.security.doors import doors as doors  # a fixture
