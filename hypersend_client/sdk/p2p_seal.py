"""What two devices say to each other through a relay that they do not trust: who they are, and sealed frames. No I/O.

Key agreement, once a round (each time that both ends have come together, and each direct connection):

    secret = DH(e_s, e_r) ‖ DH(e_s, S_r) ‖ DH(S_s, e_r) ‖ DH(S_s, S_r)        X25519; e ephemeral, S of the device
    keys   = HKDF-SHA256(secret, salt = none, info = the fields of `_info`)   64 bytes: sender's key ‖ receiver's key

Only who holds the secret half of a device's key gets the keys of a round, and nobody gets those of a round that is
over, even with the devices' keys. Whatever a relay changes of what was agreed (keys, round, offset, cipher, which
transfer) gives other keys, so the first frame does not open.

A frame: kind (1 byte), offset (8 bytes, big-endian), ciphertext, tag (16 bytes). The first nine bytes are the
additional data; the nonce is four zero bytes and the number of the frame in its direction, from 0. Nothing else than
the very next frame opens: one left out, repeated, moved, turned back to where it came from or altered does not.

    kind 0   data     1 to 65,536 bytes of the file, from `offset`, which is where the last one ended
    kind 1   control  a JSON object of at most 16 KiB; offset 0

The whole file has a tag, too: Poly1305 over all its bytes, with a key of its own for this transfer, of DH(S_s, S_r).
Frames say that each byte arrived as it was sent; the tag says that the file on the disk is the one that was read, over
all rounds and restarts. It is told sealed, and costs a seventh of what SHA-256 does.

Source: RFC 7748, RFC 5869, NIST SP 800-38D, RFC 8439; the agreement is that of Noise KK (noiseprotocol.org) with its
transcript in the HKDF's info.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hypersend_client.sdk.transfer_errors import KeyMissing, Tampered

PROTOCOL = b"hypersend-p2p-1"
DATA, CONTROL = 0, 1
DATA_BYTES = 65_536
CONTROL_BYTES = 16 * 1024
HEAD = struct.Struct(">BQ")
TAG_BYTES = 16
FRAME_OVERHEAD = HEAD.size + TAG_BYTES
FRAME_BYTES = FRAME_OVERHEAD + DATA_BYTES
MOST_FRAMES = 2**40  # of one key and direction; 64 PiB
HAS_INTO = hasattr(AESGCM, "encrypt_into") and hasattr(ChaCha20Poly1305, "encrypt_into")  # from cryptography 47 on

Role = Literal["sender", "receiver"]
Way = Literal["relay", "direct"]
Cipher = Literal["aes-256-gcm", "chacha20-poly1305"]


def encode_key(key: bytes) -> str:
    """base64url without padding, as the API has it."""
    return base64.urlsafe_b64encode(key).rstrip(b"=").decode()


def decode_key(text: Any) -> bytes:
    """32 bytes. Raises: KeyMissing where there is none; Tampered where it is no key."""
    if not text:
        raise KeyMissing
    if not isinstance(text, str):  # it comes from the server as JSON
        raise Tampered("a key is no key")
    try:
        key = base64.b64decode(text + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Tampered("a key is no key") from None
    if len(key) != 32:
        raise Tampered("a key is no key")
    return key


def cipher_of_machine(cpuinfo: str) -> Cipher:
    """What is fast here. cpuinfo: /proc/cpuinfo, or '' where that cannot be read: then it has AES instructions."""
    for line in cpuinfo.splitlines():
        name, _, flags = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return "aes-256-gcm" if "aes" in flags.split() else "chacha20-poly1305"
    return "aes-256-gcm"


def file_key(device: X25519PrivateKey, peer: bytes, transfer_id: str) -> bytes:
    """32 bytes: of the tag of a whole file, the same on both devices and in every round. Raises: Tampered."""
    fields = [PROTOCOL, b"file", transfer_id.encode()]
    try:
        secret = device.exchange(X25519PublicKey.from_public_bytes(peer))
    except ValueError:
        raise Tampered("a key is no key") from None
    return HKDF(SHA256(), 32, salt=None, info=_joined(fields)).derive(secret)


def safety_number(one: bytes, other: bytes) -> str:
    """Six groups of five digits of two devices' keys, the same on both: two people compare them.

    About 99 bits; a relay that wanted keys of its own with the same number would have to try that many.
    """
    digest = hashlib.sha512(PROTOCOL + b" safety number" + b"".join(sorted((one, other)))).digest()
    for _ in range(5000):  # makes each try as expensive
        digest = hashlib.sha512(digest + b"".join(sorted((one, other)))).digest()
    groups = (int.from_bytes(digest[at * 5 : at * 5 + 5], "big") % 100_000 for at in range(6))
    return " ".join(f"{group:05d}" for group in groups)


class Handshake:
    """One end's half of a round.

    device: this device's secret key. peer: the other device's public key. cipher: what is fast here. way: a direct
    connection never has the keys of a relayed one. ephemeral: for test vectors alone.
    """

    def __init__(
        self, role: Role, device: X25519PrivateKey, peer: bytes, *, transfer_id: str, round_: int, cipher: Cipher,
        way: Way = "relay", ephemeral: X25519PrivateKey | None = None,
    ) -> None:
        self.role = role
        self.cipher = cipher
        self._device = device
        self._peer = peer
        self._transfer_id = transfer_id
        self._round = round_
        self._way = way
        self._ephemeral = ephemeral or X25519PrivateKey.generate()

    @property
    def key(self) -> str:
        """Of this round, for the other end."""
        return encode_key(self._ephemeral.public_key().public_bytes_raw())

    def finish(self, key: str | None, cipher: Cipher, offset: int) -> tuple[Sealer, Opener]:
        """key, cipher: the other end's. offset: from which the receiver wants the file. Raises: Tampered, KeyMissing.
        """
        theirs = decode_key(key)
        is_sender = self.role == "sender"
        pairs = [(self._ephemeral, theirs), (self._ephemeral, self._peer), (self._device, theirs),
                 (self._device, self._peer)]
        if not is_sender:
            pairs[1], pairs[2] = pairs[2], pairs[1]  # as the sender counts them
        try:
            secret = b"".join(own.exchange(X25519PublicKey.from_public_bytes(other)) for own, other in pairs)
        except ValueError:  # a point of small order, which gives everybody the same secret
            raise Tampered("a key is no key") from None
        mine = (_public(self._device), _public(self._ephemeral), self.cipher)
        other = (self._peer, theirs, cipher)
        sender, receiver = (mine, other) if is_sender else (other, mine)
        info = _info(self._way, self._transfer_id, self._round, offset, sender, receiver)
        keys = HKDF(SHA256(), 64, salt=None, info=info).derive(secret)
        kind = ChaCha20Poly1305 if "chacha20-poly1305" in (self.cipher, cipher) else AESGCM
        own_key, other_key = (keys[:32], keys[32:]) if is_sender else (keys[32:], keys[:32])
        return Sealer(kind(own_key)), Opener(kind(other_key), offset)


def _public(key: X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _info(
    way: Way, transfer_id: str, round_: int, offset: int, sender: tuple[bytes, bytes, str],
    receiver: tuple[bytes, bytes, str],
) -> bytes:
    fields = [PROTOCOL, way.encode(), transfer_id.encode(), str(round_).encode(), str(offset).encode()]
    for device, ephemeral, cipher in (sender, receiver):
        fields += [device, ephemeral, cipher.encode()]
    return _joined(fields)


def _joined(fields: list[bytes]) -> bytes:
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


class Sealer:
    """Frames of this end, in the order in which they are to be sent."""

    def __init__(self, aead: AESGCM | ChaCha20Poly1305) -> None:
        self._aead = aead
        self._count = 0

    def data(self, offset: int, data: bytes | memoryview) -> bytes:
        """data: 1 to 65,536 bytes."""
        return self._seal(HEAD.pack(DATA, offset), data)

    def batch_into(
        self, target: memoryview, offset: int, data: memoryview, header: Callable[[int], bytes]
    ) -> deque[int]:
        """The frames of `data`, each behind the header for its size, into `target`; where each of them ends there."""
        ends, at = deque[int](), 0
        for start in range(0, len(data), DATA_BYTES):
            piece = data[start : start + DATA_BYTES]
            before = header(FRAME_OVERHEAD + len(piece))
            head = HEAD.pack(DATA, offset + start)
            begin = at + len(before) + HEAD.size
            target[at:begin] = before + head
            at = begin + len(piece) + TAG_BYTES
            _encrypt_into(self._aead, self._nonce(), piece, head, target[begin:at])
            ends.append(at)
        return ends

    def control(self, message: dict[str, Any]) -> bytes:
        return self._seal(HEAD.pack(CONTROL, 0), json.dumps(message).encode())

    def _seal(self, head: bytes, data: bytes | memoryview) -> bytes:
        return head + self._aead.encrypt(self._nonce(), data, head)

    def _nonce(self) -> bytes:
        if self._count >= MOST_FRAMES:
            raise OverflowError("too many frames under one key")
        nonce = self._count.to_bytes(12, "big")
        self._count += 1
        return nonce


class Opener:
    """Frames of the other end, in the order in which they came. offset: of the next byte of the file.

    After an error it opens nothing any more.
    """

    def __init__(self, aead: AESGCM | ChaCha20Poly1305, offset: int) -> None:
        self.offset = offset
        self._aead: AESGCM | ChaCha20Poly1305 | None = aead
        self._count = 0

    def open(self, frame: bytes | memoryview) -> bytes | dict[str, Any]:
        """Bytes of the file that belong at `offset` as it was, or a control message. Raises: Tampered."""
        data = memoryview(bytearray(max(0, len(frame) - FRAME_OVERHEAD)))
        control = self.open_into(data, frame)
        return bytes(data) if control is None else control

    def open_into(self, target: memoryview, frame: bytes | memoryview) -> dict[str, Any] | None:
        """A control message, or None for bytes of the file that belong at `offset` as it was. target: gets what was
        sealed, and has exactly the size of that: FRAME_OVERHEAD less than the frame. Raises: Tampered."""
        aead, self._aead = self._aead, None
        if aead is None or not FRAME_OVERHEAD <= len(frame) <= FRAME_BYTES:
            raise Tampered("a frame of no possible size came")
        frame = memoryview(frame)
        head = bytes(frame[: HEAD.size])
        kind, offset = HEAD.unpack(head)
        try:
            _decrypt_into(aead, self._count.to_bytes(12, "big"), frame[HEAD.size :], head, target)
        except InvalidTag:
            raise Tampered("a frame is not the one that was sent next") from None
        found = None
        if kind == DATA:
            if offset != self.offset or not target:
                raise Tampered("bytes came for another place in the file")
            self.offset += len(target)
        else:
            found = _control(kind, offset, bytes(target))
        self._count += 1
        self._aead = aead
        return found

    def at(self, offset: int) -> None:
        """The next bytes of the file belong here: where a direct connection takes over."""
        self.offset = offset


def _encrypt_into(
    aead: AESGCM | ChaCha20Poly1305, nonce: bytes, data: memoryview, associated: bytes, target: memoryview
) -> None:
    if HAS_INTO:
        aead.encrypt_into(nonce, data, associated, target)
    else:
        target[:] = aead.encrypt(nonce, data, associated)


def _decrypt_into(
    aead: AESGCM | ChaCha20Poly1305, nonce: bytes, data: memoryview, associated: bytes, target: memoryview
) -> None:
    if HAS_INTO:
        aead.decrypt_into(nonce, data, associated, target)
    else:
        target[:] = aead.decrypt(nonce, data, associated)


def _control(kind: int, offset: int, data: bytes) -> dict[str, Any]:
    if kind != CONTROL or offset != 0 or len(data) > CONTROL_BYTES:
        raise Tampered("a frame of a kind that is not known came")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise Tampered("a control frame cannot be read") from None
    if not isinstance(found, dict):
        raise Tampered("a control frame cannot be read")
    return found
