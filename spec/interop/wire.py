"""Frames and HELLOs of docs/protocol.md as bytes."""
import binascii
import json
import re
import struct
import zlib

MAGIC = bytes.fromhex('ff005650524f58590d0a1a0a111300ff')
(HELLO, AUTH, SERVICES, OPEN, ACCEPT, REFUSE, DATA, CREDIT, FIN, STOP, RESET, PING, PONG, GOAWAY, SECRET, RESUME,
 ACK) = range(1, 18)
OF_SESSION = (AUTH, SERVICES, PING, PONG, GOAWAY, SECRET, RESUME, ACK)
SIZES = {ACCEPT: 0, CREDIT: 8, FIN: 0, PING: 8, PONG: 8, SECRET: 32, RESUME: 40, ACK: 8}
LIMITS = {
    'frame': (4096, 1 << 20, 131072), 'streamCredit': (1024, 1 << 30, 65536), 'inFlight': (1024, 1 << 30, 1 << 20),
    'streams': (1, 1 << 20, 1024), 'opens': (1, 65536, 256),
}
NAME = re.compile('[a-z0-9][a-z0-9._-]{0,63}')
CODE = re.compile('[a-z0-9-]{1,64}')


class Ended(Exception):
    """The session ends with a code; `hello` is the HELLO that ended it, and the peer is not told of a silent end.
    `outlived`: invalid input that a resumable session outlives (R-RESUME-6)."""

    def __init__(self, code, message='', hello=None, silent=False):
        super().__init__(code, message)
        self.code, self.message, self.hello = code, message, hello
        self.outlived = code in ('peer-restarted', 'desync')
        self.silent = silent or self.outlived


def check_of(sequence, head, tail):
    """R-FRAME-2: `head` is bytes 0 and 1 of the header, `tail` bytes 4 to 15."""
    return binascii.crc_hqx(struct.pack('>I', sequence) + head + tail, 0xFFFF)


def tag_of(sender, receiver):
    """R-INTEGRITY-2: the tag in the trailers of a direction."""
    return zlib.crc32((sender + receiver).encode())


def encode(sequence, kind, stream, payload=b'', tag=None):
    """`tag` is given in `frame`."""
    trailed = tag is not None and kind == DATA
    tail = struct.pack('>III', stream, len(payload), 0 if trailed else zlib.crc32(payload))
    head = bytes((kind, 0))
    trailer = struct.pack('>I', tag ^ sequence) if trailed else b''
    return head + struct.pack('>H', check_of(sequence, head, tail)) + tail + payload + trailer


def as_json(value):
    return json.dumps(value, separators=(',', ':'), ensure_ascii=False).encode()


def read_json(payload):
    """R-FRAME-7; None if it is not an object."""
    def refuse(text):
        raise ValueError(text)

    def number(text):
        value = float(text)
        return int(value) if value.is_integer() else value

    try:
        value = json.loads(bytes(payload).decode('utf-8'), parse_constant=refuse, parse_float=number)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_int(value, low, high):
    return type(value) is int and low <= value <= high


def is_text(value):
    return type(value) is str


def is_nonce(value):
    return is_text(value) and re.fullmatch('[0-9a-f]{32}', value) is not None


def is_list_of_texts(value):
    return type(value) is list and all(map(is_text, value))


def is_auth(auth):
    """R-OPEN-5: only with this method it must have `keys`."""
    if type(auth) is not dict:
        return False
    keys = auth.get('keys')
    return auth.get('method') != 'psk-sha256' or (
        is_list_of_texts(keys) and all(re.fullmatch('[0-9a-f]{8}', key) for key in keys))


def is_valid_hello(hello):
    """R-OPEN-5, the fields."""
    def may(name, is_right):
        return hello.get(name) is None or is_right(hello[name])
    version, limits = hello.get('version'), hello.get('limits')
    return (
        type(version) is dict and type(limits) is dict
        and is_int(version.get('min'), 0, 1 << 53) and is_int(version.get('max'), version['min'], 1 << 53)
        and is_nonce(hello.get('nonce')) and 'ack' in hello and may('ack', is_nonce)
        and all(is_int(limits.get(name), low, high) for name, (low, high, _) in LIMITS.items())
        and hello.get('integrity') in ('frame', 'full') and may('instance', is_nonce) and may('agent', is_text)
        and may('name', is_text) and may('auth', is_auth)
        and may('tls', lambda it: type(it) is bool) and may('features', is_list_of_texts)
    )


def read_hello(buffer):
    """Reads what begins with a magic: (hello, its bytes), None if more must come, False if it is invalid."""
    if len(buffer) < 32:
        return None
    kind, flags, check, stream, length, crc = struct.unpack('>BBHIII', buffer[16:32])
    right = check == check_of(0, bytes(buffer[16:18]), bytes(buffer[20:32]))
    if not right or kind != HELLO or flags != 0 or stream != 0 or length > 4096:
        return False
    if len(buffer) < 32 + length:
        return None
    payload = bytes(buffer[32:32 + length])
    hello = read_json(payload) if zlib.crc32(payload) == crc else None
    return (hello, 32 + length) if hello is not None and is_valid_hello(hello) else False


def read_ending(payload):
    """REFUSE, STOP, RESET and GOAWAY: code and message."""
    body = read_json(payload)
    if body is None or not is_text(body.get('code')) or not is_text(body.get('message')):
        raise Ended('protocol-error', 'an ending without code and message')
    if not CODE.fullmatch(body['code']):
        raise Ended('protocol-error', 'no code')
    return body
