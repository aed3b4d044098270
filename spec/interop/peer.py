#!/usr/bin/env python3
"""A second implementation of docs/protocol.md: one side of a channel, written from that document alone.

    peer.py unix-connect:PATH | unix-listen:PATH [options]

Driven by one JSON object per line on stdin ({"do": "open", "key": "a", "service": "echo"}, see Peer.do_...) and
reports events as one JSON object per line on stdout. It ends when stdin does. The comments name the rules.
"""
import argparse
import asyncio
import hashlib
import json
import os
import random
import signal
import sys
import time

from local import Local, dial
from proof import Key, Proof
from resume import ByteStream, Resumption, common
from session import Session, Stream, say
from wire import AUTH, HELLO, LIMITS, MAGIC, REFUSE, RESET, SECRET, STOP, Ended, as_json, encode, read_hello


class Link(asyncio.Protocol):
    """One channel: the handshake, and the successive sessions on it."""

    def __init__(self, peer):
        self.peer, self.buffer, self.session, self.hello = peer, bytearray(), None, None
        self.opening, self.nonce, self.theirs, self.answered_at = False, None, None, None
        self.attempts = self.short_sessions = self.skipped = 0
        self.features, self.bytes_to_cut = [], None
        self.owed, self.closed = {}, asyncio.get_running_loop().create_future()

    # The channel

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(0)
        self.peer.add(self)
        self.attempt()
        self.ticking = asyncio.ensure_future(self.tick())

    def connection_lost(self, error):
        self.ticking.cancel()
        self.opening = False
        session = self.session
        if session is not None and session.stream is not None and session.stream.key and self.peer.current is self:
            self.suspend()
        elif session is not None:
            self.end(Ended('channel-closed', str(error or ''), silent=True))
        self.closed.set_result(None)

    def data_received(self, data):
        self.buffer += self.until_cut(data)
        if self.session is not None:
            self.session.probed = False
        try:
            while self.search() if self.session is None else self.session.take(self.buffer):
                self.leave_if_drained()
        except Ended as ended:
            self.end(ended)
            self.data_received(b'')
        self.work()

    def resume_writing(self):
        owed, self.owed = self.owed, {}
        for send in owed.values():
            send()
        self.work()

    def write(self, data):
        self.transport.write(self.until_cut(data))
        if self.bytes_to_cut == 0:
            self.transport.abort()

    def until_cut(self, data):
        """The part of these bytes, of either direction, that the channel still carries."""
        if self.bytes_to_cut is None:
            return data
        data = data[:self.bytes_to_cut]
        self.bytes_to_cut -= len(data)
        if self.bytes_to_cut == 0:
            asyncio.get_running_loop().call_soon(self.transport.abort)
        return data

    def unwritten(self):
        return self.transport.get_write_buffer_size()

    def owe(self, what, send):
        if self.unwritten() == 0:
            send()
        else:
            self.owed[what] = send

    def work(self):
        if self.session is not None and self.session.proof is None:
            self.session.pump()
            self.leave_if_drained()

    def leave_if_drained(self):
        session = self.session
        if session is not None and session.draining and not session.streams:
            self.end(Ended('shutdown', 'drained', silent=True))

    async def tick(self):
        while True:
            await asyncio.sleep(1)
            if self.session is not None and (self.session.proof is not None or isinstance(self.session, Resumption)):
                if time.monotonic() - self.session.begun >= 10:
                    self.end(Ended('auth-failed', 'no proof of the key'))
            elif self.session is not None:
                self.session.tick(time.monotonic())
            elif self.opening and self.answered_at is not None and time.monotonic() >= self.give_up_at:
                self.attempts += 1
                self.attempt()
            elif self.opening and self.unwritten() == 0:
                self.say_hello()

    # Opening

    def attempt(self, hello=None):
        """R-OPEN-11; `hello` is the one that ended a session or came since (R-OPEN-13)."""
        parity = self.peer.options.parity
        first = {'odd': 'f', 'even': '0'}.get(parity, '')
        self.nonce = (first * 8 + os.urandom(16).hex())[:32]
        self.opening, self.theirs, self.answered_at, self.owed = True, None, None, {}
        self.features = self.peer.features()
        self.write(bytes(self.peer.limits['frame'] + 16))
        self.bytes_to_cut = self.peer.next_cut()
        self.theirs = hello and hello['nonce']
        self.say_hello()

    def own_hello(self):
        options, keys = self.peer.options, self.peer.secrets
        return {
            'version': {'min': options.version, 'max': options.version}, 'nonce': self.nonce, 'ack': self.theirs,
            'instance': self.peer.instance, 'agent': 'peer.py', 'name': options.name, 'limits': self.peer.limits,
            'integrity': options.integrity, 'tls': False, 'features': self.features,
            'auth': {'method': 'psk-sha256', 'keys': [key.id for key in keys]} if keys else None,
        }

    def say_hello(self):
        self.write(MAGIC + encode(0, HELLO, 0, as_json(self.own_hello())))
        if self.theirs is not None and self.answered_at is None:
            self.answered_at = time.monotonic()
            self.give_up_at = self.answered_at + min(40, 5 * 2 ** self.attempts) * random.uniform(0.75, 1.25)

    def is_own(self, hello):
        return hello['nonce'] == self.nonce or hello.get('instance') == self.peer.instance  # R-OPEN-6

    def search(self):
        """R-OPEN-3: takes a magic and a HELLO off the buffer; false if more must come."""
        at = self.buffer.find(MAGIC)
        if at != 0:
            self.skip(at if at > 0 else max(0, len(self.buffer) - len(MAGIC) + 1))
            return at > 0
        found = read_hello(self.buffer)
        if found is None:
            return False
        if not found:
            self.skip(1)
            return True
        hello, size = found
        payload = bytes(self.buffer[32:size])
        del self.buffer[:size]
        if self.is_own(hello):
            say('own-echo')
        elif not self.opening:
            self.hello = hello
        else:
            self.hear(hello, payload)
        return True

    def skip(self, count):
        self.skipped += count
        del self.buffer[:count]

    def hear(self, hello, payload):
        """R-OPEN-7, R-OPEN-8."""
        if hello['nonce'] != self.theirs:
            self.theirs, self.answered_at = hello['nonce'], None
            self.owe('answer', self.say_hello)
        if hello['ack'] == self.nonce:
            answer = self.owed.pop('answer', None)
            if answer is not None:
                answer()
            self.establish(hello, payload)

    def establish(self, hello, payload):
        ours = self.own_hello()
        session = self.session = Session(self, ours, hello)
        self.opening, self.attempts = False, 0
        low, high, version = hello['version']['min'], hello['version']['max'], self.peer.options.version
        if not low <= version <= high:
            return self.end(Ended('version-mismatch', f'{version} to {version} here, {low} to {high} there'))
        if hello.get('tls'):
            return self.end(Ended('auth-failed', 'this side does not support TLS'))
        kept = self.peer.kept.get(common(ours, hello))
        if kept is not None:
            session = self.session = Resumption(self, ours, hello, (as_json(ours), payload), kept)
        elif 'resume' in self.features and 'resume' in (hello.get('features') or []):
            session.stream = ByteStream(session, os.urandom(32), self.peer.options.resume_memory)
        try:
            session.proof = Proof.of(session, as_json(ours), payload, self.peer.secrets)
            session.key = session.proof and session.proof.key
            if kept is not None and kept.key != session.key:
                raise Ended('auth-failed', 'another key than that of the session')
        except Ended as ended:
            return self.end(ended)
        if session.proof is None:
            return self.begin() if kept is None else session.trust()
        session.send(AUTH, 0, session.proof.own)

    def begin(self):
        """The session is established, and proved if required (R-AUTH-2)."""
        session, hello = self.session, self.session.theirs
        if session.stream is not None:
            session.send(SECRET, 0, session.stream.own)
        self.peer.end_waiting(hello)
        self.peer.established(self)
        say('established', parity='odd' if session.odd else 'even', integrity=session.integrity,
            skipped=self.skipped, hello=hello)
        self.skipped = 0
        session.send_services()

    def end(self, ended):
        """R-CODE-3, R-OPEN-12."""
        session = self.session
        fails = isinstance(session, Resumption)  # R-RESUME-4
        waits = ended.outlived and not fails and session.stream is not None and session.stream.key  # R-RESUME-6
        if not ended.silent and not fails:
            session.send_goaway(ended.code, ended.message)
        if waits:
            self.suspend()
        self.session, self.hello, self.owed = None, ended.hello, {}
        if fails:
            say('resume-failed', code=ended.code, message=ended.message)
        elif not waits:
            self.peer.over(session, ended.code, ended.message)
        patient = ended.code in ('version-mismatch', 'auth-failed')
        if time.monotonic() - session.begun >= 10 and not patient:
            self.short_sessions = 0
            return self.again()
        wait = min(60 if patient else 5, 0.1 * 2 ** self.short_sessions) * random.uniform(0.75, 1.25)
        self.short_sessions += 1
        asyncio.get_running_loop().call_later(wait, self.again)

    def again(self):
        if not self.transport.is_closing():
            hello, self.hello = self.hello, None
            self.attempt(hello)

    def restart(self, half):
        """As if the process had been killed, in mid-frame if `half`, and another one had started."""
        session, self.session = self.session, None
        if half:
            self.write(encode(session.sequence_out, 0x80, 0, os.urandom(1000))[:500])
        self.peer.over(session, 'restart', '', quiet=True)
        self.attempt()

    # Another channel

    def suspend(self):
        """R-RESUME-6: an incomplete frame is forgotten, and comes again (R-RESUME-2)."""
        session, self.session, owed, self.owed = self.session, None, self.owed, {}
        session.link = None
        session.stream.stop()
        for send in owed.values():
            send()
        self.peer.wait(session)

    def displace(self):
        self.suspend()
        self.transport.close()

    def go_on(self, session, total):
        """R-RESUME-5."""
        stream, session.link, self.session = session.stream, self, session
        self.peer.expiries.pop(stream.id).cancel()
        self.peer.established(self)
        again = stream.reached - total
        stream.has(total, again=True)
        stream.said, stream.acks = stream.received, 0
        session.heard = session.spoke = time.monotonic()
        stream.reached = stream.acknowledged + len(stream.kept)
        say('resumed', again=again, skipped=self.skipped)
        self.skipped = 0
        self.write(bytes(stream.kept))


class Peer:
    """The process: its channel, the services that it offers, and the commands that drive it."""

    def __init__(self, options):
        self.options, self.instance = options, os.urandom(16).hex()
        self.limits = {name: usual for name, (_, _, usual) in LIMITS.items()} | options.limits
        self.secrets = [Key(path) for path in options.key]
        self.services = dict(it.split('=') for it in options.service)
        self.links, self.current, self.keys = [], None, {}
        self.kept, self.expiries, self.cuts, self.chance = {}, {}, (0, 0), random.Random(options.seed)

    def add(self, link):
        """R-CHANNEL-2."""
        self.links = [it for it in self.links if not it.transport.is_closing()] + [link]
        waiting = [it for it in self.links[:-1] if it is not self.current]
        if len(waiting) >= 16:
            silent = [it for it in waiting if it.session is None]
            random.choice(silent or waiting).transport.close()

    def established(self, link):
        if self.current not in (None, link):
            self.current.transport.close()
        self.current = link

    # Sessions that outlive their channels

    def features(self):
        datagrams = ['datagram'] if self.options.datagrams else []
        if self.options.resume is None:
            return datagrams
        return [*datagrams, 'resume', *('resume:' + it for it in [*reversed(self.kept)][:4])]

    def keep(self, session):
        self.kept[session.stream.id] = session
        say('resumable')

    def wait(self, session):
        again = asyncio.get_running_loop().call_later(self.options.resume, self.over, session, 'resume-expired', '')
        self.expiries[session.stream.id] = again
        say('suspended', received=session.stream.received)

    def end_waiting(self, hello):
        for session in [it for it in self.kept.values() if it.link is None]:
            same = session.theirs.get('instance') == hello.get('instance')
            self.over(session, 'resume-refused' if same else 'peer-restarted', '')

    def over(self, session, code, message, quiet=False):
        session.draining = True
        if session.stream is not None:
            session.stream.stop()
            self.kept.pop(session.stream.id, None)
            if session.stream.id in self.expiries:
                self.expiries.pop(session.stream.id).cancel()
        for stream in [*session.held, *session.streams.values()]:
            session.forget(stream, code, message)
        if not quiet:
            say('session-ended', code=code, message=message)

    def next_cut(self):
        """After how many bytes of both directions the channel is lost; None: never."""
        count, within = self.cuts
        if count == 0:
            return None
        self.cuts = count - 1, within
        return self.chance.randint(1, within)

    async def run(self):
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=1 << 20)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        loop.add_signal_handler(signal.SIGTERM, self.leave)
        if self.options.far is not None:
            await loop.create_unix_server(lambda: Local(self), self.options.far)
        kind, path = self.options.channel.split(':', 1)
        if kind == 'unix-listen':
            await loop.create_unix_server(lambda: Link(self), path)
            say('listening')
        else:
            self.connecting = asyncio.ensure_future(self.connect(path))
        while line := await reader.readline():
            command = json.loads(line)
            getattr(self, 'do_' + command.pop('do'))(**command)
            if self.current is not None:
                self.current.work()

    def dial(self, stream, path):
        stream.dialling = asyncio.ensure_future(dial(self, stream, path))

    def leave(self):
        """R-LIVE-3."""
        session = self.session()
        for stream in [*session.streams.values()] if session is not None else []:
            session.end_stream(stream, RESET if stream.mine or stream.answered else REFUSE, 'shutdown')
        if session is not None and session.link is not None:
            session.send_goaway('shutdown', 'SIGTERM')
            session.link.transport.close()
        asyncio.get_running_loop().call_soon(sys.exit)

    async def connect(self, path):
        while True:
            try:
                _, link = await asyncio.get_running_loop().create_unix_connection(lambda: Link(self), path)
                await link.closed
            except OSError:
                pass
            await asyncio.sleep(0.05)

    def session(self):
        waiting = [it for it in self.kept.values() if it.link is None]
        return self.current and self.current.session or (waiting[-1] if waiting else None)

    # Commands

    def do_open(self, key, service, paused=False, datagram=False):
        session = self.session()
        if session is None:
            return say('stream-refused', key=key, code='no-session')
        stream = self.keys[key] = Stream(session, key, service, mine=True, paused=paused, datagram=datagram)
        if session.draining:
            return session.forget(stream, 'shutdown')
        session.open(stream)

    def do_send(self, key, count):
        self.keys[key].out += os.urandom(count)

    def do_send_message(self, key, size):
        message = os.urandom(size)
        say('sending', key=key, size=size, hash=hashlib.sha256(message).hexdigest())
        self.keys[key].send_message(message)

    def do_send_hex(self, key, data):
        self.keys[key].out += bytes.fromhex(data)

    def do_fin(self, key):
        self.keys[key].finishing = True

    def do_reset(self, key, code='cancelled', message=''):
        self.session().end_stream(self.keys[key], RESET, code, message)

    def do_stop(self, key, code='cancelled', message=''):
        self.keys[key].stop_sent = True
        self.session().send(STOP, self.keys[key].id, as_json({'code': code, 'message': message}))

    def do_resume(self, key):
        stream = self.keys[key]
        stream.paused = False
        say('resumed', **stream.facts())
        stream.leave(stream.came - stream.left)

    def do_ping(self):
        self.session().ping()

    def do_offer(self, **services):
        self.services = services
        self.session().owe('services', self.session().send_services)

    def do_cut(self):
        self.current.transport.abort()

    def do_cuts(self, count, within):
        self.cuts = count, within
        self.current.bytes_to_cut = self.next_cut()

    def do_garble(self):
        """R-RESUME-6: bytes that are not a frame on the channel, which stays open."""
        self.current.write(b'\x55' * 40)

    def do_forget(self):
        for session in [*self.kept.values()]:
            self.over(session, 'forgotten', '', quiet=True)

    def do_redial(self):
        """As if this side knew that the channel is lost, and the other did not."""
        self.current.suspend()
        _, path = self.options.channel.split(':', 1)
        self.connecting = asyncio.ensure_future(self.connect(path))

    def do_restart(self, half=False):
        self.current.restart(half)

    def do_goaway(self):
        self.session().draining = True
        self.session().send_goaway('shutdown', 'as the test wants')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('channel')
    parser.add_argument('--service', action='append', default=[], metavar='NAME=BEHAVIOUR',
                        help='echo, echo-datagrams, mirror (after FIN), hash, mute, reset, refuse, silent, or the path of a unix socket')
    parser.add_argument('--far', metavar='PATH', help='a unix socket; each connection opens a stream to the service far')
    parser.add_argument('--key', action='append', default=[], metavar='FILE')
    parser.add_argument('--name')
    parser.add_argument('--version', type=int, default=1)
    parser.add_argument('--parity', choices=['odd', 'even'])
    parser.add_argument('--integrity', choices=['frame', 'full'], default='frame')
    parser.add_argument('--limits', type=json.loads, default={}, help='JSON')
    parser.add_argument('--resume', type=float, metavar='SECONDS', help='a session waits so long for another channel')
    parser.add_argument('--resume-memory', type=int, default=64 << 20, metavar='BYTES')
    parser.add_argument('--datagrams', action='store_true', help='flows of datagrams can be opened')
    parser.add_argument('--seed', type=int, default=1, help='of where channels are lost')
    asyncio.run(Peer(parser.parse_args()).run())


main()
