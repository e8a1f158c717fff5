"""The one place where parts are wired: from settings to rooms, and from rooms to an application.

`open_parts` is what commands beside a running server use too; `build_app` adds the edges and what recurs.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import msgspec
from aiohttp import web

from hypersend_server.auth import handlers as auth_handlers
from hypersend_server.auth.authenticator import TokenAuthenticator
from hypersend_server.auth.guesses import Guesses
from hypersend_server.auth.live_sessions import LiveSessions
from hypersend_server.auth.operator import AccountOperator
from hypersend_server.auth.passwords import Passwords
from hypersend_server.auth.service import AuthService
from hypersend_server.auth.tokens import AccessTokens, RefreshTokens
from hypersend_server.auth.web_sessions import WebSessions
from hypersend_server.background import Background
from hypersend_server.chats import handlers as chat_handlers
from hypersend_server.chats.commands import commands
from hypersend_server.chats.present import ChatPresenter
from hypersend_server.chats.service import ChatService
from hypersend_server.client_address import came_over_tls, client_address
from hypersend_server.clock import Clock, Ids, system_clock
from hypersend_server.errors import HyperSendError
from hypersend_server.files import handlers as file_handlers
from hypersend_server.files import handlers_download
from hypersend_server.files.bodies import Bodies
from hypersend_server.files.deletions import Deletions
from hypersend_server.files.direct import DirectParts
from hypersend_server.files.downloads import Downloads
from hypersend_server.files.durability import Durability
from hypersend_server.files.housekeeping import Housekeeping
from hypersend_server.files.media import media_type
from hypersend_server.files.names import clean_name
from hypersend_server.files.present import FilePresenter
from hypersend_server.files.progress import ProgressEvents
from hypersend_server.files.service import FileService
from hypersend_server.files.tickets import Tickets
from hypersend_server.files.types import Uploader
from hypersend_server.files.uploads import Uploads
from hypersend_server.http import Route, register
from hypersend_server.keys import load_secret_key
from hypersend_server.limits import Buckets, NoLimits, network_of
from hypersend_server.measures import Measures
from hypersend_server.metadata.backend import make_metadata
from hypersend_server.metadata.base import Metadata
from hypersend_server.metrics import Metrics
from hypersend_server.middleware import build_middleware, install_headers
from hypersend_server.p2p import handlers as transfer_handlers
from hypersend_server.p2p.edge import OPENINGS_BURST, OPENINGS_PER_S, RelayEdge
from hypersend_server.p2p.edge import PATH as RELAY_PATH
from hypersend_server.p2p.endings import Endings
from hypersend_server.p2p.relay import Relay
from hypersend_server.p2p.service import Device, TransferService
from hypersend_server.p2p.wire import ROLES
from hypersend_server.peers import Peers
from hypersend_server.pictures import Pictures
from hypersend_server.probe import ProbeEdge, probe_signer
from hypersend_server.realtime.bus_local import LocalBus
from hypersend_server.realtime.describe import websocket_document
from hypersend_server.realtime.events import AnyEvent, Bus, Resync, SessionsEnded, TransferEnded
from hypersend_server.realtime.hub import Hub
from hypersend_server.realtime.presence import PresenceTracker
from hypersend_server.realtime.socket import FRAMES_BURST, FRAMES_PER_S, PATH, SocketEdge
from hypersend_server.realtime.unknown import UnknownSockets
from hypersend_server.settings import Network, Settings
from hypersend_server.signer import Signer
from hypersend_server.stores import Stores
from hypersend_server.system import System
from hypersend_server.updates import handlers as update_handlers
from hypersend_server.updates.service import Build, FindBuild, UpdateService
from hypersend_server.users import admin_handlers
from hypersend_server.users import handlers as user_handlers
from hypersend_server.users.admin import AdminService
from hypersend_server.users.deletion import AccountDeletion
from hypersend_server.users.present import UserPresenter
from hypersend_server.users.service import UserService
from hypersend_server.web_client import CONNECTS_BURST, CONNECTS_PER_S, WebClient
from hypersend_server.web_client.sign_in import WebSignIn
from hypersend_storage import Store

MESSAGES_PER_S, MESSAGES_BURST = 50, 1000
# More than anybody types, for clients that ask at every key (ours waits until 0.3 s after the last); the burst is for a
# backspace that is held. At 2 to 6 ms of a processor each (docs/growth.md), nobody takes more than 5 % of one.
SEARCHES_PER_S, SEARCHES_BURST = 8, 40
UPLOADS_PER_S, UPLOADS_BURST = 2, 500
OFFERS_PER_S, OFFERS_BURST = 2, 200
FEATURES = ("p2p", "updates")
LOCAL_INSTANCE = "here"  # how the name of a process begins that no other one can reach
READ_CHUNK_BYTES = 256 * 1024  # what aiohttp gathers of a body before it asks the client to wait
log = logging.getLogger(__name__)



@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that works without HTTP."""

    settings: Settings
    process: str
    secret_key: str
    clock: Clock
    new_id: Callable[[], str]
    metadata: Metadata
    opened: Stores
    stores: dict[str, Store]
    metrics: Metrics
    bus: Bus
    presence: PresenceTracker
    pictures: Pictures
    people: UserPresenter
    passwords: Passwords
    sessions: LiveSessions
    chats: ChatService
    uploads: Uploads
    deletions: Deletions
    files: FileService
    downloads: Downloads
    transfers: TransferService
    transfer_endings: Endings
    updates: UpdateService
    housekeeping: Housekeeping
    account_deletion: AccountDeletion
    accounts: AccountOperator
    admin: AdminService


SYSTEM = web.AppKey("system", System)
BODIES = web.AppKey("bodies", Bodies)
PARTS = web.AppKey("parts", Parts)
RELAY = web.AppKey("relay", Relay)
STORES = web.AppKey("stores", Stores)
HOUSEKEEPING = web.AppKey("housekeeping", Housekeeping)
START_INVITE = web.AppKey("start_invite", str)
WEB_SIGN_IN = web.AppKey("web_sign_in", WebSignIn)


@asynccontextmanager
async def open_parts(
    settings: Settings, *, clock: Clock = system_clock, passwords: Passwords | None = None, must_exist: bool = False,
    must_open: Collection[str] = (),
) -> AsyncIterator[Parts]:
    """The parts, open: metadata connected and storage checked. Nothing recurs yet.

    must_exist: refuse to make a new server; a mistyped DATA_ROOT is not an empty one. must_open: names of stores
    that have to be there; another one than the local one may else join later.
    Raises: MetadataError, StorageError, OSError with sentences for the operator.
    """
    async with AsyncExitStack() as stack:
        new_id = Ids(clock)
        metrics = Metrics()
        metadata = make_metadata(settings.mongodb_uri, settings.data_root, new_id=new_id, must_exist=must_exist)
        secret_key = load_secret_key(settings.secret_key, settings.data_root)
        await metadata.open()
        stack.push_async_callback(metadata.close)
        opened = Stores(settings, metadata.files.backends)
        stack.push_async_callback(opened.close)
        await opened.start(must=must_open)
        stores = opened.open

        def require_room() -> None:
            if not metadata.has_room:
                deletions.hasten()
                raise HyperSendError("storage_full", "The server's disk is full.")

        process = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"
        bus = await _make_bus(settings, process, metadata)
        stack.push_async_callback(bus.close)
        metadata.on_unheard(lambda: bus.publish(Resync()))
        passwords = passwords or Passwords()
        stack.callback(passwords.close)
        pictures = Pictures(secret_key, metadata.accounts.get_picture, clock)
        stack.callback(pictures.close)

        async def visible(viewer_id: str, user_ids: Collection[str]) -> Mapping[str, int | None]:
            return await people.visible(viewer_id, user_ids)  # presence and people ask each other

        async def record_seen(user_ids: Collection[str], at: int) -> None:
            await metadata.accounts.set_last_seen(dict.fromkeys(user_ids, at))

        presence = PresenceTracker(bus, visible, record_seen, clock, process=process)
        stack.push_async_callback(presence.close)
        people = UserPresenter(metadata.accounts, pictures.url, presence.online)
        present_file = FilePresenter(pictures.url)
        chats = ChatService(
            metadata.chats, bus, ChatPresenter(people.users, present_file, pictures.url),
            _limit(settings, MESSAGES_PER_S, MESSAGES_BURST, clock),
            _limit(settings, SEARCHES_PER_S, SEARCHES_BURST, clock), clock, new_id, require_room, visible,
            on_posted=metrics.posted)
        stack.push_async_callback(chats.close)
        deletions = Deletions(metadata.files, stores, clock)
        stack.push_async_callback(deletions.close)
        direct = DirectParts(metadata.files, stores, clock)
        uploads = Uploads(
            metadata.files, stores, Durability(metadata.files, stores), direct, ProgressEvents(bus),
            upload_ttl_s=settings.upload_ttl, clock=clock, on_full=deletions.hasten, on_stored=metrics.stored,
            require_room=require_room)
        stack.push_async_callback(uploads.close)
        files = FileService(
            metadata.files, stores, uploads, direct, present_file, backend=settings.storage_backend,
            max_file_size=settings.max_file_size, default_quota_bytes=settings.user_quota,
            upload_ttl_s=settings.upload_ttl, is_member=chats.is_member, file_removed=chats.upkeep.file_removed,
            reencode=pictures.reencode, init_limit=_limit(settings, UPLOADS_PER_S, UPLOADS_BURST, clock),
            clock=clock, new_id=new_id, on_full=deletions.hasten, require_room=require_room)
        transfers = TransferService(
            metadata.transfers, bus, chats, device_of=_devices(metadata), begin_upload=files.begin_for,
            abort_upload=lambda user_id, file_id: files.remove(Uploader(user_id), file_id),
            clean_name=clean_name, media_type=media_type,
            limit=_limit(settings, OFFERS_PER_S, OFFERS_BURST, clock), clock=clock, new_id=new_id)
        transfer_endings = Endings(metadata.transfers, transfers.withdraw)
        chats.groups.on_gone(transfer_endings.left)
        chats.on_offer_deleted(transfer_endings.message_deleted)
        downloads = Downloads(metadata.files, stores, x_accel_prefix=settings.x_accel_prefix)
        updates = UpdateService(
            metadata.releases, bus, find_build=_builds(files, downloads), clock=clock, new_id=new_id)
        account_deletion = AccountDeletion(
            metadata.accounts, bus, clock, transfer_endings.forget_user, chats.forget_in_chats, files.forget_files)
        sessions = LiveSessions(metadata.accounts, bus, clock)
        yield Parts(
            settings=settings, process=process, secret_key=secret_key, clock=clock, new_id=new_id, metadata=metadata,
            opened=opened, stores=stores, metrics=metrics, bus=bus, presence=presence, pictures=pictures, people=people,
            passwords=passwords, sessions=sessions, chats=chats, uploads=uploads, deletions=deletions, files=files,
            transfers=transfers, transfer_endings=transfer_endings, updates=updates, downloads=downloads,
            housekeeping=Housekeeping(
                metadata.files, metadata.server, stores, uploads, deletions, files.discard, clock),
            account_deletion=account_deletion,
            accounts=AccountOperator(
                metadata.accounts, passwords, clock=clock, new_id=new_id, entropy=os.urandom),
            admin=AdminService(
                metadata.accounts, metadata.server, bus, presenter=people, deletion=account_deletion,
                users_changed=sessions.forget, clock=clock, new_id=new_id, entropy=os.urandom))


async def _make_bus(settings: Settings, process: str, metadata: Metadata) -> Bus:
    if not settings.redis_url:
        return LocalBus()
    try:
        from hypersend_server.realtime.bus_redis import RedisBus
    except ImportError as error:
        raise OSError(f"REDIS_URL needs the extra `redis`: pip install 'hypersend[redis]' ({error})") from None
    # The channel is the deployment's own: several may share a Redis.
    return RedisBus(settings.redis_url, f"hypersend:{(await metadata.server.identity()).server_id}", process)


def _devices(metadata: Metadata) -> Callable[[str], Awaitable[Device | None]]:
    async def device_of(session_id: str) -> Device | None:
        session = await metadata.accounts.get_session(session_id)
        if session is None or session.ended_at is not None:
            return None
        return Device(session.device_key, is_web=session.kind == "web")

    return device_of


def _builds(files: FileService, downloads: Downloads) -> FindBuild:
    async def find(user_id: str, file_id: str) -> Build:
        file = await files.require_readable(user_id, file_id)
        if file.owner_id != user_id or file.chat_id is not None:
            raise HyperSendError("not_allowed", "A release is a file of one's own that was uploaded without a chat.")
        downloads.source(file)
        digest = hashlib.sha256()
        async for part in downloads.read(file, 0, file.size):
            digest.update(part)
        return Build(file.id, file.size, digest.digest())

    return find


def _release_sender(parts: Parts) -> update_handlers.SendFile:
    send = handlers_download.sender(parts.downloads)

    async def send_build(request: web.Request, file_id: str, name: str) -> web.StreamResponse:
        file = await parts.metadata.files.get(file_id)
        if file is None or file.state != "complete":
            raise HyperSendError("not_found", "The build was removed.")
        return await send(request, msgspec.structs.replace(file, name=name))

    return send_build


def _identities(
    authenticator: TokenAuthenticator, trusted: Sequence[Network]
) -> Callable[[web.Request], Awaitable[str]]:
    async def identity(request: web.Request) -> str:
        if "Authorization" in request.headers:
            return (await authenticator.authenticate(request, accept_upload_ticket=False)).user_id
        return client_address(request, trusted)

    return identity


def _limit(settings: Settings, per_s: float, burst: float, clock: Clock) -> Buckets | NoLimits:
    return Buckets(per_s, burst, clock) if settings.rate_limits else NoLimits()


async def build_app(
    settings: Settings, *, clock: Clock = system_clock, passwords: Passwords | None = None
) -> web.Application:
    """The whole server. Its parts are open when this returns, and close with the application.

    Raises: as `open_parts`.
    """
    stack = AsyncExitStack()
    parts = await stack.enter_async_context(open_parts(settings, clock=clock, passwords=passwords))
    try:
        return await _assemble(parts, stack)
    except BaseException:
        await stack.aclose()
        raise


async def _assemble(parts: Parts, stack: AsyncExitStack) -> web.Application:
    settings, metadata, clock = parts.settings, parts.metadata, parts.clock
    identity = await metadata.server.identity()
    metrics = parts.metrics
    access_tokens = AccessTokens(parts.secret_key, identity.server_id, clock)
    guesses = Guesses(metadata.accounts, parts.secret_key, clock, enabled=settings.rate_limits)
    auth = AuthService(
        metadata.accounts, parts.bus, registration=settings.registration, passwords=parts.passwords,
        access_tokens=access_tokens, refresh_tokens=RefreshTokens(parts.secret_key), sessions=parts.sessions,
        guesses=guesses, present_me=parts.people.me, clock=clock, new_id=parts.new_id, entropy=os.urandom)
    users = UserService(
        metadata.accounts, presenter=parts.people, deletion=parts.account_deletion,
        check_password=auth.check_password, avatar=parts.pictures.avatar, storage_use=parts.files.storage_use,
        on_blocked=parts.transfer_endings.blocked,
        default_quota=settings.user_quota, clock=clock, new_id=parts.new_id)
    tickets = Tickets(parts.secret_key, clock, parts.new_id)
    authenticator = TokenAuthenticator(
        access_tokens, parts.sessions, settings.trusted_proxies, tickets.open_upload)
    hub = Hub(parts.bus, _chat_renderer(parts.chats), parts.presence)
    origins = {*settings.allowed_origins, settings.public_url} - {""}
    unknown = UnknownSockets((lambda request: network_of(client_address(request, settings.trusted_proxies)))
                             if settings.rate_limits else None)
    edge = SocketEdge(
        hub, parts.presence, authenticator, commands(parts.chats), epoch=identity.epoch, origins=origins,
        limits=_limit(settings, FRAMES_PER_S, FRAMES_BURST, clock), clock=clock,
        unknown=unknown)
    bodies = Bodies(is_limited=settings.rate_limits)
    downloads = parts.downloads

    async def is_active(user_id: str) -> bool:
        user = await metadata.accounts.get_user(user_id)
        return user is not None and not user.disabled and user.deleted_at is None

    probes = _probes(parts)
    measures = Measures(metrics, probes=probes, stores=parts.stores, count=metadata.accounts.stats)
    system = System(settings, identity.server_id, lambda: [*parts.files.features(), *FEATURES], probes, metrics,
                    measures.refresh)
    relay = Relay(
        parts.transfers, name=settings.instance_url or f"{LOCAL_INSTANCE}:{parts.process}",
        claim=metadata.transfers.claim, release=metadata.transfers.release, clock=clock)
    relay_edge = RelayEdge(
        parts.transfers, relay, authenticator, Signer(parts.secret_key, "relay"), clock, origins=origins,
        unknown=unknown, limit=_limit(settings, OPENINGS_PER_S, OPENINGS_BURST, clock))
    parts.bus.subscribe(lambda event: _end_relays(relay, event))
    parts.transfer_endings.listen(parts.bus)
    web_sign_in = WebSignIn(
        WebSessions(metadata.accounts, access_tokens, clock), parts.secret_key, identity.server_id,
        is_https=lambda request: came_over_tls(request, settings.trusted_proxies, settings.public_url), clock=clock,
        entropy=os.urandom, origins=origins)
    routes: list[Route] = [
        *system.routes(),
        *auth_handlers.routes(auth, settings.trusted_proxies),
        *user_handlers.routes(users),
        *parts.pictures.routes(),
        *admin_handlers.routes(parts.admin),
        *chat_handlers.routes(parts.chats, parts.pictures.avatar),
        *file_handlers.routes(parts.files, parts.uploads, tickets, settings.public_url, bodies),
        *handlers_download.routes(
            parts.files, downloads, tickets, authenticator, is_active, settings.public_url),
        *transfer_handlers.routes(parts.transfers),
        *update_handlers.routes(
            parts.updates, _release_sender(parts), _identities(authenticator, settings.trusted_proxies),
            settings.app_name),
        *web_sign_in.routes(),
    ]
    relay_paths = [RELAY_PATH.format(role=role, id="{transfer_id}") for role in ROLES]
    system.describe(routes, {
        PATH: websocket_document(PATH),
        **{path: transfer_handlers.websocket_document(path) for path in relay_paths}})
    _measure(metrics, parts, hub, relay)
    probe = ProbeEdge(
        probe_signer(parts.secret_key), clock, server_id=identity.server_id, stores=parts.stores,
        send=handlers_download.sender(downloads), trusted=settings.trusted_proxies)

    app = web.Application(
        middlewares=[*build_middleware(settings, parts.new_id, metrics), probe.middleware()],
        # Encoded bodies are refused; unpacked meanwhile, a bomb would cost memory and a broken one its connection.
        handler_args={"read_bufsize": READ_CHUNK_BYTES, "auto_decompress": False})
    install_headers(app, settings)
    under_way = register(app, routes, authenticator)
    app.router.add_get(PATH, edge.handle, allow_head=False)
    relay_edge.add_to(app)
    WebClient(
        settings.web_client, app_name=settings.app_name, accent_color=settings.accent_color, host=settings.host,
        logo=settings.logo,
        origins=origins, trusted_proxies=settings.trusted_proxies, direct_origins=parts.opened.direct_origins(),
        limit=_limit(settings, CONNECTS_PER_S, CONNECTS_BURST, clock), sign_in=web_sign_in).add_to(app)
    app[SYSTEM] = system
    app[BODIES] = bodies
    app[STORES] = parts.opened
    app[HOUSEKEEPING] = parts.housekeeping
    app[PARTS] = parts
    app[RELAY] = relay
    app[WEB_SIGN_IN] = web_sign_in
    app[START_INVITE] = await parts.accounts.ensure_first_invite() or ""

    await parts.bus.start()
    peers = _make_peers(parts, hub)
    when_chosen = peers.when_chosen if settings.mongodb_uri else _always

    async def life(app: web.Application) -> AsyncIterator[None]:
        background = Background()
        parts.opened.keep_trying()
        await parts.sessions.start()
        await parts.chats.start()
        await parts.uploads.start()
        await hub.start()
        relay.start()
        if settings.mongodb_uri:
            await peers.start()
            if peers.others and not settings.redis_url:
                log.warning("REDIS_URL is not set, and other server processes use this database: people who are"
                            " connected to them hear of new messages late")
        await parts.updates.poll()
        background.every(5, parts.updates.poll)
        if settings.background_jobs:
            background.every(60, when_chosen(parts.housekeeping.each_minute), first_after_s=5)
            background.every(3600, when_chosen(parts.housekeeping.each_hour), first_after_s=600)
            background.every(30, when_chosen(parts.housekeeping.check_claims), first_after_s=15)
            background.every(3600, when_chosen(parts.housekeeping.verify_some), first_after_s=1200)
            background.every(3600, when_chosen(parts.accounts.tidy), first_after_s=300)
            background.every(600, when_chosen(parts.account_deletion.resume), first_after_s=1)
            background.every(30, when_chosen(parts.transfers.tidy), first_after_s=3)
            background.every(3600, when_chosen(parts.transfer_endings.sweep), first_after_s=10)
        system.ready = True
        yield
        system.ready = False
        await background.close()
        await asyncio.gather(edge.close(), under_way.close())
        await relay.close()
        await relay_edge.close()
        await hub.close()
        await parts.sessions.close()
        await parts.transfer_endings.close()
        await peers.close()
        await stack.aclose()

    async def say_goodbye(app: web.Application) -> None:
        system.ready = False
        relay_edge.stop()
        await asyncio.gather(hub.close_all(), relay.close())

    app.cleanup_ctx.append(life)
    app.on_shutdown.append(say_goodbye)
    return app


def _make_peers(parts: Parts, hub: Hub) -> Peers:
    def ended(process: str, died: bool) -> None:
        parts.presence.process_ended(process, parts.clock() if died else None)
        if died:
            hub.resync()

    return Peers(parts.metadata.server, parts.process, ended, parts.clock, takes_jobs=parts.settings.background_jobs)


def _always(job: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
    return job


def _chat_renderer(chats: ChatService) -> Callable[[str, str], Awaitable[object]]:
    async def render(chat_id: str, user_id: str) -> object:
        try:
            return await chats.groups.get(user_id, chat_id)
        except HyperSendError as error:
            if error.code == "not_found":
                return None
            raise

    return render


def _end_relays(relay: Relay, event: AnyEvent) -> None:
    if isinstance(event, SessionsEnded):
        relay.end_sessions(event.session_ids)
    elif isinstance(event, TransferEnded):
        relay.end(event.transfer_id, event.status)


def _probes(parts: Parts) -> dict[str, Callable[[], Awaitable[None]]]:
    async def metadata() -> None:
        if not parts.metadata.has_room:
            raise HyperSendError("storage_full")
        await parts.metadata.server.ping()

    return {"metadata": metadata, "storage": parts.opened.check, "bus": parts.bus.check}


def _measure(metrics: Metrics, parts: Parts, hub: Hub, relay: Relay) -> None:
    metrics.gauge("sockets", "Open WebSockets.", lambda: hub.sockets)
    metrics.gauge("people_online", "People with a socket open.", lambda: parts.presence.online_count)
    metrics.gauge("writes_waiting", "Jobs waiting for the database's writer.", lambda: parts.metadata.waiting)
    metrics.gauge("hashing_waiting", "Passwords that are being checked or wait for it.",
                  lambda: parts.passwords.waiting)
    metrics.gauge("relay_sockets", "Sockets of transfers from person to person.", lambda: relay.sockets)
    metrics.gauge("relay_transfers", "Transfers from person to person that are open here.", lambda: relay.meetings)
    metrics.family("relayed_bytes", "Bytes passed on from person to person.", "way",
                   lambda: {"relay": relay.relayed_bytes}, counts=True)
