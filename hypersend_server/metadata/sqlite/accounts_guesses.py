"""Failed guesses on SQLite: rows that survive a restart."""

from __future__ import annotations

from collections.abc import Sequence

from hypersend_server.metadata.accounts import GuessLimit
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx


class GuessCounts:
    """A key that is known rather than failed has a row with 0 failures."""

    _engine: Engine

    async def guess_wait(self, limits: Sequence[GuessLimit], *, now_ms: int) -> int:
        def job(tx: ReadTx) -> int:
            wait = 0
            for limit in limits:
                row = tx.execute("SELECT blocked_until FROM guesses WHERE key = ?", (limit.key,)).fetchone()
                if row is not None:
                    # min: a clock that was set back must not turn a short wait into a long one
                    wait = max(wait, min(row[0] - now_ms, limit.cap_s * 1000))
            return wait

        return await self._engine.read(job)

    async def is_known(self, key: str) -> bool:
        return await self._engine.read(
            lambda tx: tx.execute("SELECT 1 FROM guesses WHERE key = ?", (key,)).fetchone() is not None
        )

    async def guess_failed(self, limits: Sequence[GuessLimit], *, now_ms: int, forget_after_ms: int) -> None:
        def job(tx: Tx) -> None:
            for limit in limits:
                row = tx.execute(
                    "INSERT INTO guesses VALUES (?1, 1, 0, ?2) ON CONFLICT (key) DO UPDATE SET"
                    " failures = CASE WHEN updated_at < ?2 - ?3 THEN 1 ELSE failures + 1 END, updated_at = ?2"
                    " RETURNING failures",
                    (limit.key, now_ms, forget_after_ms),
                ).fetchone()
                if wait := limit.wait_ms(row[0]):
                    tx.execute("UPDATE guesses SET blocked_until = ? WHERE key = ?", (now_ms + wait, limit.key))

        await self._engine.write(job)

    async def guess_succeeded(self, clear: Sequence[str], *, now_ms: int, remember: str | None = None) -> None:
        def job(tx: Tx) -> None:
            tx.executemany("DELETE FROM guesses WHERE key = ?", [(key,) for key in clear])
            if remember is not None:
                tx.execute(
                    "INSERT INTO guesses VALUES (?1, 0, 0, ?2) ON CONFLICT (key) DO UPDATE SET updated_at = ?2",
                    (remember, now_ms),
                )

        await self._engine.write(job)

    async def tidy(self, *, guesses_before: int, known_before: int, sessions_before: int, now_ms: int) -> None:
        def job(tx: Tx) -> None:
            tx.execute(
                "DELETE FROM guesses WHERE updated_at < CASE failures WHEN 0 THEN ? ELSE ? END",
                (known_before, guesses_before),
            )
            tx.execute("DELETE FROM sessions WHERE ended_at < ?", (sessions_before,))
            tx.execute("DELETE FROM resets WHERE expires_at < ?", (now_ms,))

        await self._engine.write(job)
