"""The way in, as people's devices take it: does the address lead to this server, is its certificate good, and whom does
the server take the sender for."""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from hypersend_server import __version__
from hypersend_server.doctor.findings import Area
from hypersend_server.probe import SCHEME, Seen

FORGED = "198.51.100.7"  # RFC 5737: an address that is nobody's
ANSWER_S = 20.0
EXPIRES_SOON_D = 14
FORWARD = "nginx, in the location that passes to the server:\n    proxy_set_header X-Forwarded-For {value};"


@dataclass(frozen=True, slots=True)
class Reached:
    """verify: whether the certificate can be checked; the other checks then go on without."""

    seen: Seen
    is_behind_proxy: bool
    verify: bool


async def check(url: str, token: str, server_id: str, tls: Area, way: Area, address: Area) -> Reached | None:
    """server_id: of this deployment; '' where it is not known. Returns: None where the address leads nowhere."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http" and not _is_here(host):
        tls.problem(f"{url} is without TLS: passwords and messages can be read on their way",
                    "Get a certificate for the name and set PUBLIC_URL=https://… (docs/nginx.md)")
    verify = True
    found: _Answer | OSError | http.client.HTTPException
    try:
        found = await asyncio.to_thread(_ask, url, token, verify=True)
    except ssl.SSLCertVerificationError as error:
        tls.problem(f"the certificate at {url} is not accepted: {error.verify_message or error.reason}",
                    "A certificate for this very name, with its whole chain:\n"
                    f"    certbot certonly --webroot -w /var/www/letsencrypt -d {host}\n"
                    "    ssl_certificate …/fullchain.pem;")
        verify = False
        try:
            found = await asyncio.to_thread(_ask, url, token, verify=False)
        except (OSError, http.client.HTTPException) as second:
            found = second
    except (OSError, http.client.HTTPException) as error:
        found = error
    if isinstance(found, ssl.SSLError):
        tls.problem(f"what answers at {url} speaks no TLS there, or has no certificate for {host}: {found.reason}",
                    f"nginx:\n    listen 443 ssl;\n    server_name {host};\n    ssl_certificate …; "
                    "ssl_certificate_key …;\nand PUBLIC_URL with http:// where there is none (docs/nginx.md).")
        return None
    if not isinstance(found, _Answer):
        way.problem(f"nothing answers at {url}: {found or type(found).__name__}",
                    "Is the server running, is the name's address this machine's, does the firewall let port "
                    f"{parts.port or (443 if parts.scheme == 'https' else 80)} in? Where this machine cannot reach its "
                    "own public address, run doctor elsewhere with the same SECRET_KEY, or with --url.")
        return None
    if found.expires_at is not None:
        _judge_expiry(tls, url, found.expires_at)
    seen = _judge_answer(way, url, found, server_id)
    if seen is None:
        return None
    is_behind_proxy = (seen.peer, seen.peer_port) != found.local
    _judge_address(address, seen, found.local[0], is_behind_proxy)
    return Reached(seen, is_behind_proxy, verify)


@dataclass(frozen=True, slots=True)
class _Answer:
    """local: our end of the connection. expires_at: of the certificate, Unix seconds."""

    status: int
    server: str
    body: bytes
    local: tuple[str, int]
    expires_at: float | None


def _ask(url: str, token: str, *, verify: bool) -> _Answer:
    """Raises: OSError (ssl.SSLError among them), http.client.HTTPException."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(parts.netloc, timeout=ANSWER_S, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=ANSWER_S)
    try:
        connection.connect()
        address = connection.sock.getsockname()
        certificate = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
        expires = str(certificate["notAfter"]) if certificate else None
        connection.request("GET", f"{parts.path}/api/v1/server", headers={
            "Authorization": f"{SCHEME} {token}", "X-Forwarded-For": FORGED})
        answer = connection.getresponse()
        return _Answer(answer.status, answer.getheader("Server", ""), answer.read(65536), (address[0], address[1]),
                       ssl.cert_time_to_seconds(expires) if expires else None)
    finally:
        connection.close()


def _judge_expiry(tls: Area, url: str, expires_at: float) -> None:
    days = (expires_at - time.time()) / 86400
    if days < EXPIRES_SOON_D:
        tls.warn(f"the certificate at {url} ends in {days:.0f} days, and nothing has renewed it",
                 "certbot renew --dry-run    (and see that its timer runs: systemctl list-timers)")
    else:
        tls.ok(f"the certificate is good for {days:.0f} more days")


def _judge_answer(way: Area, url: str, found: _Answer, server_id: str) -> Seen | None:
    try:
        seen = msgspec.json.decode(found.body, type=Seen) if found.status == 200 else None
    except msgspec.MsgspecError:
        seen = None
    if seen is None:
        if found.status in (502, 503, 504):
            way.problem(f"the proxy at {url} answers {found.status}: it does not reach the server",
                        "Start the server, and name its address to the proxy:\n    proxy_pass http://127.0.0.1:8000;")
        elif b'"server_id"' in found.body or b'"code"' in found.body:
            way.problem(f"the server at {url} does not take this machine's SECRET_KEY, or is of another version",
                        "Run doctor with the settings of that server (its SECRET_KEY or DATA_ROOT), after `serve` was "
                        "started again with them.")
        else:
            what = f"{found.server or 'something else'} (HTTP {found.status})"
            way.problem(f"what answers at {url} is {what}, not HyperSend",
                        "The proxy must pass everything under / to the server:\n"
                        "    location / { proxy_pass http://127.0.0.1:8000; }")
        return None
    if server_id and seen.server_id != server_id:
        way.problem(f"{url} leads to another HyperSend server than the one whose database this is",
                    "Look at PUBLIC_URL, at DATA_ROOT or MONGODB_URI, and at the proxy's upstream.")
    elif seen.version != __version__:
        way.warn(f"the server at {url} is version {seen.version}, this program is {__version__}",
                 "Start the server again after an upgrade.")
    else:
        way.ok(f"{url} leads to this server, version {seen.version}")
    return seen


def _judge_address(address: Area, seen: Seen, local: str, is_behind_proxy: bool) -> None:
    if not is_behind_proxy:
        address.ok("no proxy is in front: people's addresses are those of their connections")
        return
    if not seen.peer_is_trusted:
        address.problem(f"requests come from a proxy at {seen.peer}, which is not trusted: everybody is taken for it",
                        f"TRUSTED_PROXIES={seen.peer}")
        return
    entries = seen.forwarded_for
    if not entries or entries[-1] == FORGED:
        forged = "passes on what the client claims" if entries else "does not say who sent a request"
        address.problem(f"the proxy at {seen.peer} {forged} (X-Forwarded-For): limits and the list of devices show the "
                        "wrong address", FORWARD.format(value="$proxy_add_x_forwarded_for")
                        + "\nand real_ip_header only together with set_real_ip_from of your own proxies.")
        return
    others = [entry for entry in entries if entry not in (FORGED, local)]
    if seen.client != local and local in entries and not _is_here(local):
        address.problem(f"there is one more proxy, {seen.client}, and everybody is taken for it",
                        f"TRUSTED_PROXIES={seen.peer},{seen.client}")
    elif seen.client == FORGED and not _is_here(local) and local not in entries:
        address.problem("a client can claim any address: X-Forwarded-For is believed further than your own proxies go",
                        "Name only your own proxies in TRUSTED_PROXIES, and let the outermost one set the header:\n"
                        + FORWARD.format(value="$remote_addr"))
    else:
        address.ok(f"the proxy at {seen.peer} says who sends ({others[-1] if others else local})")


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
