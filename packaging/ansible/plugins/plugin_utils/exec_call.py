"""
A command at the peer of a channel: what is said on a stream of the service `exec` ("Wire form" in docs/exec.md of
vproxy).
"""

from __future__ import annotations

import json
import signal
import socket
import struct
from collections import deque, namedtuple

from .control import BAD_JSON, VproxyError

START, STDIN, EOF, STDOUT, STDERR, CREDIT, EXIT = 1, 2, 5, 17, 18, 19, 20

HEADER = struct.Struct('>BI')

# A longer payload is not vproxy's.
MAX_PAYLOAD_BYTES = 1 << 20

# How a command ended takes fewer bytes: a longer payload would be read for nothing.
MAX_EXIT_BYTES = 65_536

# Of standard input may be sent before any CREDIT.
FIRST_CREDIT_BYTES = 262_144

# Of standard input in a record.
PIECE_BYTES = 65_536

# How long the peer has to end the stream behind the end of the command, in seconds. One that is closed before is logged
# as cancelled.
END_S = 0.5

# The status of a command that was ended by a signal that is not known here.
UNKNOWN_SIGNAL = 255

TERMINAL = {'columns': 80, 'rows': 24, 'term': 'dumb'}


class ExecCall:
    """
    A command that runs. Whoever has it reads `outputs` to the end; standard input goes out meanwhile, as fast as the
    command takes it.
    """

    def __init__(self, stream, argv, user=None, has_terminal=False):
        """Owns the stream. The command has a terminal, or pipes; `user` is None for who runs vproxy there."""
        self._stream = stream
        self._input = deque()
        self._credit = FIRST_CREDIT_BYTES
        self._has_begun = False
        # How it ended; None while it runs.
        self.end = None
        request = {'argv': argv}
        if user is not None:
            request['user'] = user
        if has_terminal:
            request['terminal'] = TERMINAL
        self._send(START, json.dumps(request).encode())

    def set_timeout(self, timeout):
        """How long the command may be silent, in seconds; None, the default: for ever. Then reading fails with socket.timeout."""
        self._stream.set_timeout(timeout)

    def feed(self, file):
        """Standard input goes on with what is left of a binary file. Pieces of several files follow each other."""
        self._input.append(file)

    def end_input(self):
        """Standard input ends behind all that it was fed with."""
        self._input.append(None)

    def outputs(self):
        """
        What the command writes, as it comes: pairs of STDOUT or STDERR with bytes; with a terminal all of it is STDOUT.
        Ends when the command has ended. Fails with `exec-unavailable` where how it ended will never be known.
        """
        while self.end is None:
            self._pump()
            kind, payload = self._receive()
            self._has_begun = True
            if kind in (STDOUT, STDERR):
                yield kind, payload
            elif kind == CREDIT:
                self._credit += int.from_bytes(payload, 'big')
            elif kind == EOF and payload == b'\0':
                # Nobody reads it any more.
                self._input.clear()
            elif kind == EXIT:
                self.end = decode_exit(payload)
        self._finish()

    def _pump(self):
        while self._credit > 0 and self._input:
            file = self._input[0]
            if file is None:
                self._input.clear()
                self._send(EOF, b'\0')
                return
            piece = file.read(min(self._credit, PIECE_BYTES))
            if piece:
                self._credit -= len(piece)
                self._send(STDIN, piece)
            else:
                self._input.popleft()

    def _send(self, kind, payload):
        try:
            self._stream.send(HEADER.pack(kind, len(payload)) + payload)
        except socket.timeout:
            raise
        except OSError:
            # Why nothing is taken any more is to be read: that the command has ended, or nothing.
            self._input.clear()

    def _receive(self):
        kind, length = HEADER.unpack(self._read(HEADER.size))
        if length > MAX_PAYLOAD_BYTES:
            raise VproxyError('protocol-error', f'a record of {length} bytes exceeds {MAX_PAYLOAD_BYTES}')
        return kind, self._read(length)

    def _read(self, count):
        try:
            data = self._stream.read(count)
        except socket.timeout:
            raise
        except OSError as error:
            raise self._lost() from error
        if len(data) < count:
            raise self._lost()
        return data

    def _lost(self):
        reason = self._stream.end_reason()
        if not self._has_begun and reason is not None and reason.code in ('unknown-service', 'denied'):
            return reason
        what = 'the result of the command is unknown' if self._has_begun else 'it is unknown whether the command ran'
        return VproxyError('exec-unavailable', f'{what}: {reason or "closed by the peer"}')

    def _finish(self):
        try:
            self._stream.set_timeout(END_S)
            self._stream.read(1)
        except OSError:
            pass


# How a command ended: its status, 128 + n where signal n ended it, as shells have it; or a VproxyError, where it was not
# run.
End = namedtuple('End', 'status error')


def decode_exit(payload):
    """The end that EXIT tells of. Fails with `protocol-error` where the payload is no such thing."""
    try:
        if len(payload) > MAX_EXIT_BYTES:
            raise ValueError('too long')
        value = json.loads(payload)
        status, name, error = value['status'], value['signal'], value['error']
        if error is not None:
            return End(None, VproxyError(str(error['code']), str(error['message'])))
        if status is None:
            known = signal.Signals.__members__.get(str(name))
            status = UNKNOWN_SIGNAL if known is None else 128 + known
        if type(status) is not int or not 0 <= status <= 255:
            raise ValueError('no status')
        return End(status, None)
    except BAD_JSON as error:
        raise VproxyError('protocol-error', 'the other side does not say how the command ended') from error
