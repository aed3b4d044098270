#!/usr/bin/env python3
"""Encodes and decodes every frame of spec/fixtures/frames.json, and prints the differences."""
import binascii
import json
import sys
import zlib

import wire
from resume import ByteStream
from session import Session, Stream


class Quiet:
    """A link and a peer that keep what is sent, and offer nothing."""

    def __init__(self):
        self.peer, self.session, self.services, self.keys, self.written = self, self, {}, {}, b''

    def write(self, data):
        self.written += data

    def owe(self, what, send):
        send()

    def is_own(self, hello):
        return False


def payload_of(frame):
    payload = frame.get('payload', {'hex': ''})
    if 'json' in payload:
        return wire.as_json(payload['json'])
    return int(payload['total']).to_bytes(8, 'big') if 'total' in payload else bytes.fromhex(payload['hex'])


def session_of(fixtures, integrity='full'):
    """The receiver's session, with the limits of the first HELLO."""
    sender, receiver = fixtures['nonces']
    theirs, ours = ({**fixtures['hellos'][0]['hello'], 'integrity': integrity, 'nonce': it} for it in (sender, receiver))
    return Session(Quiet(), ours, theirs)


def code_of(session, data):
    session.services_came = True
    try:
        while session.take(data):
            pass
    except wire.Ended as ended:
        return ended.code
    return None


def main():
    fixtures = json.load(open(sys.argv[1], encoding='utf-8'))
    wrong = []

    def check(what, got, expected):
        if got != expected:
            wrong.append(what)
            print(f'{what}: {got!r} instead of {expected!r}')

    for it in fixtures['checks']:
        check('CRC-16', f'{binascii.crc_hqx(it["text"].encode(), 0xFFFF):04x}', it['crc16'])
        check('CRC-32', f'{zlib.crc32(it["text"].encode()):08x}', it['crc32'])
    for it in fixtures['hellos']:
        data = bytes.fromhex(it['hex'])
        check(it['what'], (wire.MAGIC + wire.encode(0, wire.HELLO, 0, wire.as_json(it['hello']))).hex(), it['hex'])
        check(it['what'], wire.read_hello(data), (it['hello'], len(data)))
    tag = wire.tag_of(*fixtures['nonces'])
    frames = [(it['integrity'], frame) for it in fixtures['sessions'] for frame in it['frames']]
    for integrity, it in frames + [(it['integrity'], it) for it in fixtures['single']]:
        kind = getattr(wire, it['type'], None) or int(it['type'], 16)
        check(it, wire.encode(it['sequence'], kind, it['stream'], payload_of(it), tag if integrity == 'frame' else None).hex(), it['hex'])
        session, taken = session_of(fixtures, integrity), []
        session.sequence_in = it['sequence']
        session.handle = lambda *frame: taken.append(frame)
        check(it, code_of(session, bytearray.fromhex(it['hex'])), None)
        check(it, taken, [] if kind >= 0x80 else [(kind, it['stream'], payload_of(it))])
    for it in fixtures['wrong']:
        check(it['what'], code_of(session_of(fixtures, it.get('integrity', 'full')), bytearray.fromhex(it['hex'])), it['code'])
    flow = Stream(session_of(fixtures), 'flow', 'flow', mine=False, datagram=True)
    data = bytes.fromhex(fixtures['flow']['hex'])
    flow.take_message = flow.messages.append
    for at in range(len(data)):
        flow.data(data[at:at + 1])
    check('a flow', [it.hex() for it in flow.messages], fixtures['flow']['messages'])
    it = fixtures['resume']
    stream = ByteStream(session_of(fixtures), bytes.fromhex(it['odd']), 0)
    stream.session.odd = True
    stream.secret(bytes.fromhex(it['even']))
    check('the id of a session', stream.id, it['id'])
    other, own = (bytes.fromhex(hello['hex'])[32:] for hello in fixtures['hellos'])
    total = int(it['total']).to_bytes(8, 'big')
    check('RESUME', (total + stream.proof(own, other, total)).hex(), it['resume'])
    print(f'{len(frames)} frames, {len(wrong)} wrong')


main()
