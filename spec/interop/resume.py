"""Sessions that continue on another channel (R-RESUME of docs/protocol.md). The comments name the rules."""
import asyncio
import hashlib
import hmac
import struct

from proof import mac_of
from session import Session
from wire import ACK, AUTH, GOAWAY, RESUME, Ended, read_ending

ACK_BYTES, ACK_SECONDS = 131072, 0.2


class ByteStream:
    """What a resumable session has sent and the peer may not have, and how much has come (R-RESUME-2, R-RESUME-5)."""

    def __init__(self, session, own, bound):
        self.session, self.own, self.bound = session, own, bound
        self.key = self.id = self.timer = None
        self.kept, self.acknowledged, self.reached = bytearray(), 0, 0
        self.received = self.said = self.acks = 0

    def is_full(self):
        return len(self.kept) >= self.bound

    def sent(self, data):
        self.kept += data
        if self.session.link is not None:
            self.reached = self.acknowledged + len(self.kept)

    def secret(self, part):
        """R-RESUME-1."""
        if self.key is not None:
            raise Ended('protocol-error', 'a second SECRET')
        parts = (self.own, part) if self.session.odd else (part, self.own)
        self.key = hashlib.sha256(b''.join(parts)).digest()
        self.id = mac_of(self.key, b'vproxy-resume-id')[:8].hex()

    def proof(self, sender, receiver, total):
        return mac_of(self.key, b'vproxy-resume-v1', sender, receiver, total)

    def came(self, size, kind):
        self.received += size
        self.acks += size if kind == ACK else 0
        owed = self.received - self.said - self.acks
        if owed >= ACK_BYTES:
            self.say_ack()
        elif owed > 0 and self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(ACK_SECONDS, self.say_ack)

    def say_ack(self):
        self.stop()
        if self.session.link is not None and self.session.link.session is self.session:
            self.said, self.acks = self.received, 0
            self.session.send(ACK, 0, struct.pack('>Q', self.received))

    def stop(self):
        if self.timer is not None:
            self.timer.cancel()
        self.timer = None

    def has(self, total, again=False):
        """The peer has this much: by ACK, or by RESUME."""
        if total > self.reached or (again and total < self.acknowledged):
            raise Ended('protocol-error', f'{total} bytes, of {self.acknowledged} to {self.reached}')
        if total > self.acknowledged:
            del self.kept[:total - self.acknowledged]
            self.acknowledged = total


def common(ours, theirs):
    """R-RESUME-3: the id of the session that both HELLOs name, or None."""
    first, second = (ours, theirs) if ours['nonce'] > theirs['nonce'] else (theirs, ours)
    named = [it for it in first.get('features') or [] if it.startswith('resume:') and it in (second.get('features') or [])]
    return named[0][len('resume:'):] if named else None


class Resumption(Session):
    """The first frames on a channel on which a session is resumed (R-RESUME-3, R-RESUME-4)."""

    def __init__(self, link, ours, theirs, payloads, kept):
        super().__init__(link, ours, theirs)
        self.own, self.other, self.kept = *payloads, kept
        self.trusted = self.said = False

    def trust(self):
        self.trusted, self.proof = True, None
        if self.kept.link is None:
            self.say_resume()

    def say_resume(self):
        self.said = True
        total = struct.pack('>Q', self.kept.stream.received)
        self.send(RESUME, 0, total + self.kept.stream.proof(self.own, self.other, total))

    def handle(self, kind, number, payload):
        if kind == AUTH and self.proof is not None:
            self.proof.verify(payload)
            return self.trust()
        if kind == GOAWAY:
            raise Ended(read_ending(payload)['code'], 'before RESUME')
        if kind != RESUME or not self.trusted:
            raise Ended('protocol-error', f'type {kind:02x} before RESUME')
        total = payload[:8]
        if not hmac.compare_digest(payload[8:], self.kept.stream.proof(self.other, self.own, total)):
            raise Ended('auth-failed', 'a wrong RESUME')
        if self.kept.link is not None:
            self.kept.link.displace()
        if not self.said:
            self.say_resume()
        self.link.go_on(self.kept, struct.unpack('>Q', total)[0])
