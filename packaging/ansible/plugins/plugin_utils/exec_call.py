"""
A command at the peer of a channel: the protocol on a stream of the service `exec` ("Wire form" in docs/exec.md of
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

# A longer payload is not from vproxy.
MAX_PAYLOAD_BYTES = 1 << 20

# Limit on the payload of EXIT, which takes fewer bytes.
MAX_EXIT_BYTES = 65_536

# The bytes of standard input that may be sent before any CREDIT.
FIRST_CREDIT_BYTES = 262_144

# The bytes of standard input in a record.
PIECE_BYTES = 65_536

# How long the peer may take to end the stream after the command, in seconds. A stream closed earlier is logged as
# cancelled.
END_S = 0.5

# The status of a command that was killed by a signal unknown to this system.
UNKNOWN_SIGNAL = 255

TERMINAL = {'columns': 80, 'rows': 24, 'term': 'dumb'}


class ExecCall:
    """
    A running command. The caller must read `outputs` to the end; standard input is sent meanwhile, as fast as the
    command takes it.
    """

    def __init__(self, stream, argv, user=None, has_terminal=False):
        """Owns the stream. The command has a terminal, or pipes; `user` None is the user of vproxy there."""
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
        """Sets how long the command may be silent, in seconds, before reading fails with socket.timeout; None: no limit."""
        self._stream.set_timeout(timeout)

    def feed(self, file):
        """Appends the rest of a binary file to standard input."""
        self._input.append(file)

    def end_input(self):
        """Ends standard input after everything fed so far."""
        self._input.append(None)

    def outputs(self):
        """
        Yields the output as it arrives, as pairs of STDOUT or STDERR and bytes; with a terminal, everything is STDOUT.
        Ends with the command. Fails with `exec-unavailable` if the result of the command will never be known.
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
                # The command no longer reads it.
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
            # The reason is yet to be read: the end of the command, or EOF.
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


# How a command ended: its status, 128 + n if killed by signal n, as in shells; or a VproxyError if it was not run.
End = namedtuple('End', 'status error')


def decode_exit(payload):
    """Decodes the payload of EXIT. Fails with `protocol-error` if it is invalid."""
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
        raise VproxyError('protocol-error', 'the peer sent no valid result of the command') from error
