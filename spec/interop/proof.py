"""Keys, and the proof that both sides have the same one (R-AUTH-2 of docs/protocol.md)."""
import hashlib
import hmac
import re
import struct

from wire import Ended


def mac_of(key, *parts):
    """HMAC-SHA256 over byte strings, each preceded by its length."""
    return hmac.new(key, b''.join(struct.pack('>I', len(part)) + part for part in parts), hashlib.sha256).digest()


class Key:
    """32 random bytes, in a file of 64 hex digits and a newline."""

    def __init__(self, path):
        with open(path, encoding='ascii') as file:
            text = file.read()
        if not re.fullmatch('[0-9a-fA-F]{64}\n?', text):
            raise ValueError(f'{path} is no key')
        self.secret = bytes.fromhex(text)
        self.id = hashlib.sha256(self.secret).hexdigest()[:8]


class Proof:
    """The AUTH that this side sends, and the one it expects."""

    def __init__(self, key, ours, theirs):
        self.key = key.id
        self.own = mac_of(key.secret, b'vproxy-auth-v1', ours, theirs)
        self.expected = mac_of(key.secret, b'vproxy-auth-v1', theirs, ours)

    @staticmethod
    def of(session, ours, theirs, keys):
        """`ours` and `theirs` are the payloads of both establishing HELLOs; None if neither requires a proof."""
        own, other = session.ours.get('auth'), session.theirs.get('auth')
        if own is None and other is None:
            return None
        if own is None or other is None or other.get('method') != 'psk-sha256':
            raise Ended('auth-failed', 'only one side has a key, or its method is unknown')
        first, second = (own, other) if session.odd else (other, own)
        common = [it for it in first['keys'] if it in second['keys']]
        if not common:
            raise Ended('auth-failed', 'no key in common')
        return Proof(next(key for key in keys if key.id == common[0]), ours, theirs)

    def verify(self, payload):
        if not hmac.compare_digest(payload, self.expected):
            raise Ended('auth-failed', 'a wrong AUTH')
