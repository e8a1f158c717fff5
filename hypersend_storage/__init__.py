"""Where file bytes live. Drivers stand in one table and are imported only when they are configured."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from hypersend_storage.base import Store

DRIVERS: dict[str, tuple[str, str]] = {
    "local": ("hypersend_storage.local", "LocalStore"),
}
"""Name → (module, class)."""


def open_store(name: str, *arguments: Any, **options: Any) -> Store:
    """Make the driver `name` with its own arguments; call its `open` before anything else. Raises: KeyError."""
    module, driver = DRIVERS[name]
    factory: Callable[..., Store] = getattr(import_module(module), driver)
    return factory(*arguments, **options)


__all__ = ["DRIVERS", "Store", "open_store"]
