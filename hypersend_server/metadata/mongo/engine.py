"""MongoDB for any number of server processes: queues of writes, and transactions that retry.

Every change is a job, a function of a `Tx`, under a key that names what it changes (`chat:…`, `file:…`,
`accounts`). Jobs of one key wait for each other inside this process, and those that wait together are committed
together in one transaction; processes meet at the document that each of them writes first, where MongoDB lets one
through and the others begin again. It is the very first step of the transaction, since its snapshot begins there:
whoever reads first has mostly lost by the time they write, and beside a busy process never gets a turn. A process
whose transactions follow each other does not hear of those that it turns away, so it lets a turn pass now and then.
A job may run several times, so its ids are made before it is queued.

A job that raises before it wrote anything fails alone. One that raises after that spoils its transaction, whose
jobs are then run one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pymongo import ReturnDocument
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError, ServerSelectionTimeoutError

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.mongo.driver import in_transaction, open_session

T = TypeVar("T")
Doc = dict[str, Any]
Job = Callable[["Tx"], Awaitable[T]]
log = logging.getLogger(__name__)

DUPLICATE_KEY = 11000
MAX_BATCH = 256  # jobs a transaction: bounds how long the first of them waits
WAIT_S = 30.0  # the longest a caller waits for its write; afterwards nobody knows whether it came to be
CLOSE_S = 3.0
GIVE_UP_S = 20.0  # a transaction that collides for so long is given up
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.002, 0.05  # between attempts, doubling, each a random part of it
TURNS_AT_ONCE, TURNS_FOR_S = 8, 3.0  # transactions under one key after which the time of the last is left to others
LONGEST_TURN_S = 1.0
LINGER_S = 0.05
UNHEARD_S = 3.0  # from the first write that succeeds again to the word that something may have been missed
TURNS = {"chat": "chats", "file": "files"}
"""Where the turn of a key (`chat:ID`) is taken: the collection of the document that is written first."""
NOW = {"$toLong": "$$NOW"}
"""In an update with a pipeline: the primary's own time, Unix milliseconds."""
STAMP = {"$max": [{"$add": [{"$ifNull": ["$changed", 0]}, 1]}, NOW]}
"""A stamp for `changed`: the primary's time, but always above the document's last one."""


class Grouped:
    """A job that may share one step with its neighbours of the same function: `together(tx, arguments)` answers a
    result or a HyperSendError for each argument, and raises no HyperSendError itself."""

    __slots__ = ("argument", "together")

    def __init__(self, together: Callable[[Tx, list[Any]], Awaitable[list[Any]]], argument: Any) -> None:
        self.together = together
        self.argument = argument


class _Waiting(NamedTuple):
    job: Job[Any] | Grouped
    future: asyncio.Future[Any]


class _Queue(deque[_Waiting]):
    """What waits under one key. filled: set when something came."""

    def __init__(self) -> None:
        super().__init__()
        self.filled = asyncio.Event()


class _Spoilt(Exception):
    """A job wrote and then failed, so that its transaction cannot go on."""


class _GaveUp(Exception):
    """It collided with others for too long."""


class Tx:
    """What a job sees: the database within one session. `wrote`: whether anything was written through it."""

    __slots__ = ("db", "session", "wrote")

    def __init__(self, db: Any, session: Any) -> None:
        self.db = db
        self.session = session
        self.wrote = False

    # reading

    async def one(self, name: str, where: Mapping[str, Any], fields: Mapping[str, int] | None = None) -> Doc | None:
        found: Doc | None = await self.db[name].find_one(where, fields, session=self.session)
        return found

    async def many(
        self, name: str, where: Mapping[str, Any], fields: Mapping[str, int] | None = None, *,
        sort: Sequence[tuple[str, int]] = (), limit: int = 0,
    ) -> list[Doc]:
        cursor = self.db[name].find(where, fields, session=self.session)
        if sort:
            cursor = cursor.sort(list(sort))
        found: list[Doc] = await cursor.limit(limit).to_list(None)
        return found

    async def count(self, name: str, where: Mapping[str, Any], limit: int = 0) -> int:
        bound = {"limit": limit} if limit else {}
        return int(await self.db[name].count_documents(where, session=self.session, **bound))

    async def grouped(self, name: str, pipeline: list[Doc]) -> list[Doc]:
        """The answer of a pipeline that ends in a $group of few groups."""
        answer = await self.db.command(
            {"aggregate": name, "pipeline": pipeline, "cursor": {"batchSize": 10_000}}, session=self.session)
        found: list[Doc] = answer["cursor"]["firstBatch"]
        return found

    async def distinct(self, name: str, field: str, where: Mapping[str, Any]) -> list[Any]:
        found: list[Any] = await self.db[name].distinct(field, where, session=self.session)
        return found

    # writing

    async def insert(self, name: str, *docs: Doc) -> None:
        self.wrote = True
        if len(docs) == 1:
            await self.db[name].insert_one(docs[0], session=self.session)
        elif docs:
            try:
                await self.db[name].insert_many(docs, ordered=True, session=self.session)
            except BulkWriteError as error:
                codes = {problem["code"] for problem in error.details.get("writeErrors", [])}
                if codes == {DUPLICATE_KEY}:
                    raise DuplicateKeyError(str(error)[:300], DUPLICATE_KEY) from error
                raise

    async def update(self, name: str, where: Mapping[str, Any], change: Any, *, upsert: bool = False) -> int:
        """Change one; how many were matched or made."""
        self.wrote = True
        done = await self.db[name].update_one(where, change, upsert=upsert, session=self.session)
        return int(done.matched_count) + (done.upserted_id is not None)

    async def update_all(self, name: str, where: Mapping[str, Any], change: Any) -> int:
        self.wrote = True
        return int((await self.db[name].update_many(where, change, session=self.session)).modified_count)

    async def changed(
        self, name: str, where: Mapping[str, Any], change: Any, *, upsert: bool = False, before: bool = False
    ) -> Doc | None:
        """Change one and answer it as it is then, or was before."""
        self.wrote = True
        found: Doc | None = await self.db[name].find_one_and_update(
            where, change, upsert=upsert, session=self.session,
            return_document=ReturnDocument.BEFORE if before else ReturnDocument.AFTER)
        return found

    async def delete(self, name: str, where: Mapping[str, Any]) -> int:
        """Delete all that match."""
        self.wrote = True
        return int((await self.db[name].delete_many(where, session=self.session)).deleted_count)


def unavailable(error: Exception) -> HyperSendError:
    """A driver's error as the client may see it; the text stays in the log."""
    # Without what follows in some of them: the state of each server.
    log.error("MongoDB: %s: %s", type(error).__name__, str(error).split(", Timeout:")[0][:300])
    return HyperSendError("metadata_unavailable", retry_after_s=5)


class Engine:
    def __init__(self, client: Any, db: Any, *, rand: Callable[[], float] = random.random) -> None:
        self._client = client
        self.db = db
        self._rand = rand
        self._queues: dict[str, _Queue] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self.collisions = 0  # transactions that had to begin again
        self.on_unheard: Callable[[], None] = lambda: None  # see Metadata
        self._is_unsure = False
        self._telling: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Writes in the queues, for metrics."""
        return sum(len(queue) for queue in self._queues.values())

    async def close(self) -> None:
        """Finish what is queued, unless the database holds it up: nobody was told that it is done."""
        if self._workers:
            await asyncio.wait(self._workers, timeout=CLOSE_S)
        for worker in self._workers:
            worker.cancel()
        while self._workers:
            await asyncio.wait(self._workers)
        if self._telling is not None:
            self._telling.cancel()

    async def read(self, job: Job[T]) -> T:
        """Run `job`, whose reads each see at least what the ones before saw. Raises: what it raises;
        `metadata_unavailable`."""
        try:
            session = await open_session(self._client)
            async with session:
                return await job(Tx(self.db, session))
        except PyMongoError as error:
            raise unavailable(error) from error

    async def snapshot(self, job: Job[T]) -> T:
        """Run `job` on one snapshot. Raises: as `read`."""
        return await self._transaction(job)

    async def single(self, job: Job[T]) -> T:
        """Run a job that changes at most one document, which needs neither a queue nor a transaction.

        Raises: as `read`.
        """
        tx = Tx(self.db, None)
        try:
            for is_last in (False, False, False, True):
                try:
                    found = await job(tx)
                    break
                except DuplicateKeyError:  # made by somebody else at the same moment: now it is there to be changed
                    if is_last:
                        raise
        except PyMongoError as error:
            self._is_unsure |= tx.wrote
            raise unavailable(error) from error
        self._made()
        return found

    async def write(self, key: str, job: Job[T] | Grouped) -> T:
        """Run `job` in a transaction, after those before it under `key`; the answer comes after the commit.

        Raises: what the job raised, nothing of it being kept; `metadata_unavailable` where MongoDB failed, or did not
        answer in time.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue()
            worker = asyncio.create_task(self._work(key, queue))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        queue.append(_Waiting(job, future))
        queue.filled.set()
        try:
            done, _ = await asyncio.wait([future], timeout=WAIT_S)
        except asyncio.CancelledError:
            future.cancel()
            raise
        if not done:
            future.set_exception(HyperSendError("metadata_unavailable", retry_after_s=5))
        return future.result()

    async def _work(self, key: str, queue: _Queue) -> None:
        clock = asyncio.get_running_loop().time
        turns = 0
        took_in_all = 0.0
        batch: list[_Waiting] = []
        try:
            while queue or await self._more(queue):
                batch = [queue.popleft() for _ in range(min(len(queue), MAX_BATCH))]
                batch = [waiting for waiting in batch if not waiting.future.done()]
                began = clock()
                answers = await self._commit(key, batch)
                for waiting, answer in zip(batch, answers, strict=True):
                    is_made = not isinstance(answer, Exception)
                    if waiting.future.done():
                        self._is_unsure |= is_made and not waiting.future.cancelled()
                    elif is_made:
                        waiting.future.set_result(answer)
                    else:
                        waiting.future.set_exception(answer)
                    if is_made:
                        self._made()
                turns += 1
                took = clock() - began
                took_in_all += took
                if turns == TURNS_AT_ONCE or took_in_all > TURNS_FOR_S:
                    turns, took_in_all = 0, 0.0
                    await asyncio.sleep(min(LONGEST_TURN_S, took))
        finally:
            del self._queues[key]
            for waiting in (*batch, *queue):  # none is left but where this was cancelled
                waiting.future.cancel()

    def _made(self) -> None:
        """Writes succeed: where one may have been made whose writer heard otherwise, that is told, with the others of
        a moment, since an outage leaves many."""
        if self._is_unsure and self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(UNHEARD_S, self._tell_unheard)

    def _tell_unheard(self) -> None:
        self._telling, self._is_unsure = None, False
        self.on_unheard()

    async def _more(self, queue: _Queue) -> bool:
        """Whether more comes soon: those who were just answered write again, and are the same turn of this process."""
        queue.filled.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await queue.filled.wait()
        return bool(queue)

    async def _commit(self, key: str, batch: list[_Waiting]) -> list[Any]:
        """A result or an exception for each."""
        if not batch:
            return []
        try:
            return await self._transaction(lambda tx: _run(tx, key, batch))
        except _Spoilt as spoilt:
            if len(batch) == 1:
                cause = spoilt.__cause__
                return [unavailable(cause) if isinstance(cause, PyMongoError) else cause]
        except Exception as error:
            return [error] * len(batch)
        return [answer for waiting in batch for answer in await self._commit(key, [waiting])]

    async def _transaction(self, job: Job[T]) -> T:
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + GIVE_UP_S
        attempts = 0

        async def attempt(session: Any) -> T:
            nonlocal attempts
            if attempts:
                self.collisions += 1
                if clock() > give_up_at:
                    raise _GaveUp
                await asyncio.sleep(self._rand() * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(attempts, 10)))
            attempts += 1
            try:
                return await job(Tx(self.db, session))
            except ServerSelectionTimeoutError as error:  # it was waited for already
                raise unavailable(error) from error

        for is_last in (False, False, True):
            try:
                return await in_transaction(self._client, attempt)
            except _GaveUp:
                log.error("MongoDB: a transaction was given up after %d attempts", attempts)
                raise HyperSendError("metadata_unavailable", retry_after_s=5) from None
            except DuplicateKeyError as error:
                # Another process inserted the same between our snapshot and our insert: from now on we see it.
                if is_last:
                    raise _Spoilt from error
            except PyMongoError as error:
                self._is_unsure |= error.has_error_label("UnknownTransactionCommitResult")
                raise unavailable(error) from error
        raise AssertionError


async def _run(tx: Tx, key: str, batch: list[_Waiting]) -> list[Any]:
    kind, _, subject = key.partition(":")
    if kind in TURNS:
        await tx.update(TURNS[kind], {"_id": subject}, {"$inc": {"turn": 1}})
    answers: list[Any] = []
    at = 0
    while at < len(batch):
        job = batch[at].job
        if isinstance(job, Grouped):
            group = [job.argument]
            while at + len(group) < len(batch):
                following = batch[at + len(group)].job
                if not isinstance(following, Grouped) or following.together != job.together:
                    break
                group.append(following.argument)
            answers += await job.together(tx, group)
            at += len(group)
            continue
        tx.wrote = False
        try:
            answers.append(await job(tx))
        except HyperSendError as error:
            if tx.wrote:
                raise _Spoilt from error
            answers.append(error)
        at += 1
    return answers
