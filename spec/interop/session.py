"""An established session of docs/protocol.md: frames in order, streams and credit. Without a link it waits. The comments name the rules."""
import hashlib
import json
import os
import struct
import time
import zlib
from collections import deque

from wire import (
    ACCEPT, ACK, AUTH, CREDIT, DATA, FIN, GOAWAY, HELLO, MAGIC, NAME, OF_SESSION, OPEN, PING, PONG, REFUSE, RESET,
    RESUME, SECRET, SERVICES, SIZES, STOP, Ended, as_json, check_of, encode, is_int, is_list_of_texts, is_text, read_ending, read_hello, read_json, tag_of,
)

BEFORE_ANSWER = 16384


def say(event, **facts):
    print(json.dumps({'event': event, **facts}), flush=True)


class Stream:
    """One stream of a session, from the side of this program."""

    def __init__(self, session, key, service, mine, behaviour=None, paused=False, datagram=False):
        self.session, self.key, self.service, self.mine = session, key, service, mine
        self.datagram, self.messages, self.partial = datagram, [], bytearray()
        self.behaviour, self.paused = behaviour, paused or behaviour == 'mute'
        self.id, self.begun, self.answered = None, time.monotonic(), False
        self.out, self.sent, self.may_send = bytearray(), 0, session.theirs['limits']['streamCredit']
        self.window = self.granted = session.ours['limits']['streamCredit']
        self.came, self.left, self.kept = 0, 0, bytearray()
        self.finishing = self.fin_sent = self.fin_came = self.stop_sent = False
        self.hash_in, self.hash_out, self.local = hashlib.sha256(), hashlib.sha256(), None

    def dials(self):
        return (self.behaviour or '').startswith('/')

    def facts(self):
        return {'key': self.key, 'messages': len(self.messages), 'received': self.came, 'receivedHash': self.hash_in.hexdigest(),
                'sent': self.sent, 'sentHash': self.hash_out.hexdigest()}

    def data(self, data):
        """R-FLOW-3: echoed bytes count as released when they are sent."""
        if self.stop_sent:
            return
        self.hash_in.update(data)
        if self.datagram:
            return self.datagrams(data)
        if self.local is not None:
            return self.local.write(data)
        if self.dials():
            self.kept += data
            return
        if self.behaviour == 'echo':
            self.out += data
            return
        if self.behaviour == 'mirror':
            self.kept += data
        if self.behaviour == 'reset':
            self.session.end_stream(self, RESET, 'cancelled', 'this service resets')
        elif not self.paused:
            self.leave(self.came - self.left)

    def datagrams(self, data):
        """R-DGRAM-3, R-DGRAM-4: messages preceded by their lengths; their bytes are released at once."""
        self.partial += data
        while len(self.partial) >= 2:
            size = int.from_bytes(self.partial[:2], 'big')
            if size > 65507:
                return self.session.end_stream(self, RESET, 'protocol-error', f'a message of {size} bytes')
            if len(self.partial) < 2 + size:
                break
            self.take_message(bytes(self.partial[2:2 + size]))
            del self.partial[:2 + size]
        self.leave(self.came - self.left)

    def take_message(self, message):
        self.messages.append(message)
        say('message', key=self.key, size=len(message), hash=hashlib.sha256(message).hexdigest())
        if self.behaviour == 'echo-datagrams':
            self.send_message(message)

    def send_message(self, message):
        """R-DGRAM-5: nothing is queued behind waiting bytes, beyond a small queue."""
        if len(self.out) <= 262144:
            self.out += len(message).to_bytes(2, 'big') + message

    def leave(self, count):
        self.left += count
        if self.left + self.window - self.granted >= self.window // 2 and not self.fin_came and not self.stop_sent:
            self.granted = self.left + self.window
            self.session.owe(('credit', self.id), lambda: self.session.send_credit(self.id, self.granted))

    def fin(self):
        if self.local is not None:
            self.local.transport.write_eof()
        if self.behaviour == 'mirror':
            self.out += self.kept
        if self.behaviour == 'hash':
            self.out += self.hash_in.hexdigest().encode()
        if self.behaviour in ('echo', 'mirror', 'hash'):
            self.finishing = True

    def sendable(self):
        """How many bytes may be sent now."""
        if self.id is None or self.fin_sent or not (self.answered or self.mine):
            return 0
        bound = self.may_send if self.answered else min(self.may_send, BEFORE_ANSWER)
        session = self.session
        return max(0, min(len(self.out), bound - self.sent, session.may_send - session.sent))


class Session:
    """The session between two HELLOs: frames, streams and credit."""

    def __init__(self, link, ours, theirs):
        self.link, self.peer, self.ours, self.theirs, self.begun = link, link.peer, ours, theirs, time.monotonic()
        self.integrity = 'full' if 'full' in (ours['integrity'], theirs['integrity']) else 'frame'
        framed = self.integrity == 'frame'
        self.tag_out = tag_of(ours['nonce'], theirs['nonce']) if framed else None
        self.tag_in = tag_of(theirs['nonce'], ours['nonce']) if framed else None
        self.odd = ours['nonce'] > theirs['nonce']
        self.has_datagrams = all('datagram' in (it.get('features') or []) for it in (ours, theirs))  # R-DGRAM-1
        self.next_id, self.highest = (1 if self.odd else 2), 0
        self.sequence_out = self.sequence_in = 1
        self.largest = min(ours['limits']['frame'], theirs['limits']['frame'])
        self.sent, self.may_send = 0, theirs['limits']['inFlight']
        self.came, self.granted = 0, ours['limits']['inFlight']
        self.streams, self.held, self.services, self.services_came = {}, deque(), None, False
        self.proof = self.stream = None
        self.draining, self.pings, self.heard, self.spoke = False, {}, self.begun, self.begun
        self.checked, self.pinged, self.probed, self.probe = self.begun, self.begun, False, None

    # Sending

    def send(self, kind, stream=0, payload=b''):
        data = encode(self.sequence_out, kind, stream, payload, self.tag_out)
        if self.stream is not None:
            self.stream.sent(data)
        if self.link is not None:
            self.link.write(data)
        self.sequence_out = self.sequence_out % 0xFFFFFFFF + 1
        self.spoke = time.monotonic()

    def owe(self, what, send):
        """R-FLOW-6: while bytes wait to be written, only the newest of its kind waits with them."""
        if self.link is None:
            return send()
        self.link.owe(what, lambda: (self.link is None or self.link.session is self) and send())

    def send_credit(self, stream, total):
        if stream == 0 or stream in self.streams:
            self.send(CREDIT, stream, struct.pack('>Q', total))

    def send_services(self):
        names, frames = sorted(self.peer.services), []
        while names or not frames:
            frames.append(names[:50])
            names = names[50:]
        for count, part in enumerate(frames, 1):
            self.send(SERVICES, 0, as_json({'services': part, **({'more': True} if count < len(frames) else {})}))

    def send_goaway(self, code, message):
        self.send(GOAWAY, 0, as_json({'code': code, 'message': message[:100], 'last': self.highest}))

    def ping(self):
        payload = os.urandom(8)
        self.pings[payload] = self.pinged = time.monotonic()
        self.send(PING, 0, payload)
        return payload

    def open(self, stream):
        self.held.append(stream)
        self.open_held()

    def open_held(self):
        """R-STREAM-5."""
        limits = self.theirs['limits']
        while self.held and not self.draining:
            mine = [stream for stream in self.streams.values() if stream.mine]
            if len(mine) >= limits['streams'] or sum(not it.answered for it in mine) >= limits['opens']:
                return
            stream = self.held.popleft()
            stream.id, self.next_id = self.next_id, self.next_id + 2
            self.streams[stream.id] = stream
            kind = {'datagram': True} if stream.datagram else {}
            self.send(OPEN, stream.id, as_json({'service': stream.service, 'from': 'peer.py', **kind}))

    def pump(self):
        """R-FLOW-7, R-FLOW-8: one frame per stream in turn, and FIN after the last one."""
        while ready := [stream for stream in self.streams.values() if stream.sendable() > 0]:
            several = len(ready) > 1
            bound = 1024 if self.largest == 4096 else 65536 if several else 131072
            if self.link.unwritten() >= bound or (self.stream is not None and self.stream.is_full()):
                break
            stream = ready[0]
            size = 1024 if self.largest == 4096 else min(16384, self.largest) if several else self.largest
            part = bytes(stream.out[:min(size, stream.sendable())])
            del stream.out[:len(part)]
            stream.hash_out.update(part)
            stream.sent += len(part)
            self.sent += len(part)
            self.send(DATA, stream.id, part)
            if stream.behaviour == 'echo':
                stream.leave(len(part))
            self.streams[stream.id] = self.streams.pop(stream.id)
        for stream in list(self.streams.values()):
            if stream.finishing and not stream.out and not stream.fin_sent and (stream.mine or stream.answered):
                stream.fin_sent = True
                self.send(FIN, stream.id)
                self.close_if_both_ended(stream)

    def end_stream(self, stream, kind, code, message=''):
        """REFUSE or RESET by this side."""
        self.send(kind, stream.id, as_json({'code': code, 'message': message}))
        self.forget(stream, code, message)

    def close_if_both_ended(self, stream):
        if stream.fin_sent and stream.fin_came:
            self.forget(stream, None)

    def forget(self, stream, code, message=''):
        if stream in self.held:
            self.held.remove(stream)
        self.streams.pop(stream.id, None)
        self.peer.keys.pop(stream.key, None)
        refused = code is not None and not stream.answered
        if stream.local is not None:
            stream.local.end(code is None)
        say('stream-refused' if refused else 'stream-ended', code=code, message=message, **stream.facts())
        self.open_held()

    # Receiving

    def take(self, buffer):
        """R-FRAME-6: takes one frame off the buffer; false if more must come."""
        if not buffer:
            return False
        if buffer[0] == 0:
            raise Ended('peer-restarted', 'a zero byte')
        if buffer[0] == 0xFF:
            return self.take_magic(buffer)
        if len(buffer) < 16:
            return False
        kind, flags, check, stream, length, crc = struct.unpack('>BBHIII', buffer[:16])
        if check != check_of(self.sequence_in, bytes(buffer[:2]), bytes(buffer[4:16])):
            raise Ended('desync', 'a wrong check')
        skipped = kind >= 0x80
        data = kind == DATA
        if flags != 0 or kind == HELLO or (kind > ACK and not skipped):
            raise Ended('protocol-error', f'type {kind:02x} with flags {flags:02x}')
        if length > (self.ours['limits']['frame'] if data or skipped else 4096) or (data and length == 0):
            raise Ended('protocol-error', f'a length of {length}')
        if not skipped and kind != CREDIT and (stream == 0) != (kind in OF_SESSION):
            raise Ended('protocol-error', f'type {kind:02x} on stream {stream}')
        trailed = data and self.tag_in is not None
        size = 16 + length + (4 if trailed else 0)
        if len(buffer) < size:
            if self.probe is not None and self.probe in buffer[16:]:
                raise Ended('desync', 'bytes of a frame are lost')  # R-LIVE-4
            return False
        self.probe = None
        payload, trailer = bytes(buffer[16:16 + length]), bytes(buffer[16 + length:size])
        if trailed and trailer != struct.pack('>I', self.tag_in ^ self.sequence_in):
            raise Ended('desync' if any(trailer) else 'peer-restarted', 'a wrong trailer')
        if not trailed and not skipped and zlib.crc32(payload) != crc:
            flushed = payload.endswith(bytes(16)) or not any(payload)
            raise Ended('peer-restarted' if flushed else 'desync', 'a wrong CRC')
        del buffer[:size]
        self.sequence_in = self.sequence_in % 0xFFFFFFFF + 1
        self.heard = time.monotonic()
        if SIZES.get(kind, length) != length:
            raise Ended('protocol-error', f'type {kind:02x} with {length} bytes')
        if not skipped:
            self.handle(kind, stream, payload)
        if self.stream is not None:
            self.stream.came(size, kind)
        return True

    def take_magic(self, buffer):
        """R-OPEN-14."""
        if len(buffer) < 16:
            return False
        if not buffer.startswith(MAGIC):
            raise Ended('desync', 'FF without a magic')
        found = read_hello(buffer)
        if found is None:
            return False
        if not found:
            raise Ended('desync', 'a magic without a HELLO')
        hello, size = found
        del buffer[:size]
        if hello['nonce'] != self.theirs['nonce'] and not self.link.is_own(hello):
            raise Ended('peer-restarted', 'a new HELLO', hello)
        return True

    def handle(self, kind, number, payload):
        if self.proof is not None and kind != GOAWAY:
            if kind != AUTH:
                raise Ended('protocol-error', 'a frame before AUTH')
            self.proof.verify(payload)
            self.proof = None
            return self.link.begin()
        if kind not in (SERVICES, SECRET, GOAWAY) and not self.services_came:
            say('wrong', message='a session that does not begin with SERVICES')  # R-SERVICES-1
        if kind in (AUTH, RESUME) or (kind in (SECRET, ACK) and self.stream is None):
            raise Ended('protocol-error', f'type {kind:02x}')
        if kind in OF_SESSION or number == 0:
            return self.handle_session(kind, payload)
        if kind == OPEN:
            return self.handle_open(number, payload)
        ending = read_ending(payload) if kind in (REFUSE, STOP, RESET) else None
        if kind == DATA:
            self.count(len(payload))
        own = number % 2 == (1 if self.odd else 0)
        if number >= self.next_id if own else number > self.highest:
            raise Ended('protocol-error', f'stream {number} was never opened')  # R-STREAM-11
        stream = self.streams.get(number)
        if stream is not None:
            self.handle_stream(stream, kind, payload, ending)

    def handle_session(self, kind, payload):
        if kind == CREDIT:
            self.may_send = max(self.may_send, struct.unpack('>Q', payload)[0])
        elif kind == SECRET:
            self.stream.secret(payload)
            self.peer.keep(self)
        elif kind == ACK:
            self.stream.has(struct.unpack('>Q', payload)[0])
        elif kind == PING:
            self.owe('pong', lambda: self.send(PONG, 0, payload))
        elif kind == PONG and payload in self.pings:
            say('pong', ms=(time.monotonic() - self.pings.pop(payload)) * 1000)
        elif kind == SERVICES:
            body = read_json(payload)
            names, more = (body or {}).get('services'), (body or {}).get('more', False)
            if not is_list_of_texts(names) or not all(map(NAME.fullmatch, names)) or type(more) is not bool:
                raise Ended('protocol-error', 'no services')
            time_of_day = body.get('time')
            if time_of_day is not None and not is_int(time_of_day, 0, (1 << 53) - 1):
                raise Ended('protocol-error', 'no time')
            self.services_came = True
            self.services = (self.services or []) + names
            if len(self.services) > 4096:
                raise Ended('flood', 'services')
            if not more:
                say('services', services=self.services)
                self.services = None
        elif kind == GOAWAY:
            ending = read_ending(payload)
            last = read_json(payload).get('last')
            if not is_int(last, 0, 0xFFFFFFFF):
                raise Ended('protocol-error', 'GOAWAY without last')
            if ending['code'] != 'shutdown':
                raise Ended(ending['code'], ending['message'], silent=True)  # R-CODE-4
            say('goaway', **ending)
            self.draining = True  # R-LIVE-3
            for stream in [*self.held, *self.streams.values()]:
                if stream.mine and (stream.id is None or stream.id > last):
                    self.forget(stream, 'shutdown', ending['message'])

    def count(self, length):
        """R-FLOW-5: the credit of the session is used whatever happens to the bytes."""
        self.came += length
        if self.came > self.granted:
            raise Ended('flow-control', 'the session')
        window = self.ours['limits']['inFlight']
        if self.came + window - self.granted >= window // 4:
            self.granted = self.came + window
            self.owe(('credit', 0), lambda: self.send_credit(0, self.granted))

    def handle_open(self, number, payload):
        body = read_json(payload)
        if body is None or not is_text(body.get('service')) or not is_text(body.get('from') or ''):
            raise Ended('protocol-error', 'no OPEN')
        datagram = False if body.get('datagram') is None else body['datagram']
        if type(datagram) is not bool or (datagram and not self.has_datagrams):
            raise Ended('protocol-error', 'no OPEN of a flow')  # R-DGRAM-2
        if number % 2 == (1 if self.odd else 0) or number <= self.highest:
            raise Ended('protocol-error', f'stream {number} cannot be opened')
        self.highest = number
        name, peer = body['service'], self.peer
        theirs = [stream for stream in self.streams.values() if not stream.mine]
        behaviour = peer.services.get(name)
        if datagram != (behaviour == 'echo-datagrams'):
            behaviour = None  # R-DGRAM-2
        stream = Stream(self, f'in{number}', name, mine=False, behaviour=behaviour, datagram=datagram)
        stream.id, limits = number, self.ours['limits']
        say('opened', key=stream.key, service=name, streams=len(theirs) + 1)
        if len(theirs) >= limits['streams'] or sum(not it.answered for it in theirs) >= limits['opens']:
            return self.end_stream(stream, REFUSE, 'too-many-streams')
        if behaviour is None or self.draining or behaviour == 'refuse':
            code = 'shutdown' if self.draining else 'unknown-service' if behaviour is None else 'denied'
            return self.end_stream(stream, REFUSE, code, 'refused by peer.py')
        self.streams[number] = peer.keys[stream.key] = stream
        if stream.dials():
            peer.dial(stream, behaviour)
        elif behaviour != 'silent':
            stream.answered = True
            self.send(ACCEPT, number)

    def handle_stream(self, stream, kind, payload, ending):
        if kind in (ACCEPT, REFUSE) and (not stream.mine or stream.answered):
            raise Ended('protocol-error', 'an unexpected answer')
        if kind in (DATA, FIN) and (stream.fin_came or (stream.mine and not stream.answered)):
            raise Ended('protocol-error', 'DATA or FIN out of order')
        if kind == ACCEPT:
            stream.answered = True
            say('accepted', key=stream.key)
        elif kind in (REFUSE, RESET):
            self.forget(stream, ending['code'], ending['message'])
        elif kind == DATA:
            stream.came += len(payload)
            if stream.came > stream.granted:
                raise Ended('flow-control', f'stream {stream.id}')
            stream.data(payload)
        elif kind == CREDIT:
            stream.may_send = max(stream.may_send, struct.unpack('>Q', payload)[0])
        elif kind == FIN:
            stream.fin_came = True
            say('fin', **stream.facts())
            if stream.datagram:
                if stream.partial:
                    return self.end_stream(stream, RESET, 'protocol-error', 'within a message')
                stream.finishing = True  # R-DGRAM-6
            stream.fin()
            self.close_if_both_ended(stream)
        elif kind == STOP and not stream.fin_sent:  # R-STREAM-9
            say('stopped', key=stream.key, **ending)
            stream.out.clear()
            stream.finishing = True
            if stream.fin_came or stream.datagram:  # R-DGRAM-6
                self.end_stream(stream, RESET, ending['code'], ending['message'])

    def tick(self, now):
        if now - self.spoke >= 10 and self.link.unwritten() == 0:  # R-LIVE-1
            self.ping()
        if now - self.checked >= 2.5:  # R-LIVE-4
            if now - self.heard >= 2.5 and now - self.pinged >= 4 and self.link.unwritten() == 0:  # R-LIVE-1
                self.ping()
            self.checked = now
            waits = self.spoke > self.heard and now - self.spoke >= 1.5
            if (waits or self.link.buffer) and not self.probed:
                payload, self.probed = self.ping(), True
                self.probe = payload if self.link.buffer else None
        for stream in [*self.held, *self.streams.values()]:
            if stream.mine and not stream.answered and now - stream.begun >= 30:  # R-STREAM-10
                if stream.id is None:
                    self.forget(stream, 'open-timeout')
                else:
                    self.end_stream(stream, RESET, 'open-timeout')
